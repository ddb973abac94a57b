"""
The front door: venues, subscriptions, sinks, and how long they live.

    async with okstream.Stream("okx") as stream:
        await stream.subscribe("trades", "BTC-USDT")
        async for record in stream:
            ...
"""

import asyncio
import random
import secrets
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from . import venues
from .channels import Subscription, parse, subscriptions, unknown
from .dialects import Refusal, load
from .dialects.signing import Credentials
from .errors import ConfigError, SubscriptionRefusedError
from .fanout import LANE_BYTES, Fanout, Flow, records
from .feed import Delivery, Feed, Statements
from .inflate import CAP, INFLATING
from .link import Link
from .links import Links, Wiring
from .records import SCHEMA, AnyRecord, Gap, Status
from .sinks import Sink
from .venues import Venue
from .version import VERSION

DRAIN = 5.0
"""Seconds that sinks have at the end to write what waits."""


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """
    What has become of one subscription.

    `state` is a status word, `since` when it began (ns); `last_ts` the exchange's time of the last record (ms).
    """

    venue: str
    subscription: Subscription
    state: str
    since: int
    last_ts: int | None
    gap: Gap | None


@dataclass(frozen=True, slots=True)
class Stats:
    """
    How the stream is doing: `records` and the worst `lag_ms` (exchange's clock to ours) since the last look;
    how many `links` of `links_wanted` are up, gaps are open, and records were `dropped` by full lanes so far.
    """

    records: int
    lag_ms: float | None
    links: int
    links_wanted: int
    open_gaps: int
    dropped: int


class Stream:
    """
    A stream of records from any number of venues and accounts.

    Args:
        venue: where `subscribe` goes unless told otherwise: a name, or a Venue of your own making.
        url: another place to reach that venue at.
        dialect: for the venue `sim`: which generation it speaks.
        accounts: credentials by a name of your choice; a single one is called `main`.
        sinks: where records go; without any, iterate over the stream.
        statements: whether sinks get gaps and statuses, too.
        count: data records after which a sink is done, see `wait`.
        proxy: URL of an HTTP or SOCKS proxy; the environment is not looked at.
        tls: for certificates of your own; they are verified in any case.
        inflate_cap: the longest message in bytes, compressed or not.
        lane_bytes: bound of each sink's buffer, and of the one behind `async for`.
        wall_ns: the wall clock; durations come from the event loop.
        chance: randomness for delays.
    """

    def __init__(
        self,
        venue: str | Venue = "okx",
        *,
        url: str | None = None,
        dialect: str = "okx-v5",
        accounts: Mapping[str, Credentials] | Credentials | None = None,
        sinks: Iterable[Sink] = (),
        statements: bool = True,
        count: int | None = None,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
        inflate_cap: int = CAP,
        lane_bytes: int = LANE_BYTES,
        wall_ns: Callable[[], int] = time.time_ns,
        chance: random.Random | None = None,
    ) -> None:
        self._venue: str | Venue = venue
        if isinstance(venue, str) and venue != venues.SIM:
            self._venue = venues.find(venue)
        if url is not None:
            if isinstance(self._venue, str):
                raise ConfigError(f"{venue} runs in this process; a URL makes no sense with it")
            self._venue = self._venue.at(url)
        if dialect not in venues.DIALECTS:
            raise unknown("dialect", dialect, venues.DIALECTS)
        self._dialect = dialect
        self._accounts = {"main": accounts} if isinstance(accounts, Credentials) else dict(accounts or {})
        self._wall_ns = wall_ns
        self._cap = inflate_cap
        self._statements = Statements(secrets.token_hex(2))
        self._fanout = Fanout(sinks, lane_bytes, wall_ns, statements, count)
        wiring = Wiring(
            self._fanout.put, self._settle, wall_ns, chance or random.Random(), inflate_cap,
            self._fanout.parsed, self._fanout.raw, proxy, tls,
        )  # fmt: skip
        self._links = Links(wiring, self._accounts, lambda link: self._task(link.run(), self._link_tasks, link.name))
        self._feeds: dict[tuple[str, Subscription], tuple[Feed, Link]] = {}
        self._waiting: dict[Feed, asyncio.Future[None]] = {}
        self._refusals: dict[Feed, Refusal] = {}
        self._link_tasks: set[asyncio.Task[None]] = set()
        self._pump_tasks: set[asyncio.Task[None]] = set()
        self._simulator: Any = None
        self._simulated: Venue | None = None
        self._pending: deque[AnyRecord] = deque()
        self._failure: BaseException | None = None
        self._open = False
        self._ended = asyncio.Event()
        self.lost = 0

    # -- lifetime

    async def __aenter__(self) -> Self:
        try:
            if self._venue == venues.SIM:
                await self._simulate()
            await self._fanout.open()
        except BaseException:
            await self.close()
            raise
        for pump in self._fanout.pumps:
            self._task(pump.run(), self._pump_tasks, "pump")
        self._open = True
        self._say("started", {"version": VERSION, "schema": SCHEMA, "instance": self._statements.instance})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, drain: float = DRAIN) -> None:
        """
        Stop reading, let the sinks write what waits for at most `drain` seconds, and leave nothing behind.

        `lost` then tells how many records the sinks did not get.
        """
        await _cancelled(self._link_tasks)
        if self._open and not self._ended.is_set():
            self._say("ended", None)
        self._open = False
        self._ended.set()
        self.lost += await self._fanout.drain(list(self._pump_tasks), drain)
        await _cancelled(self._pump_tasks)
        for waiter in self._waiting.values():
            waiter.cancel()
        self._waiting.clear()
        if self._simulator is not None:
            simulator, self._simulator = self._simulator, None
            await simulator.__aexit__(None, None, None)

    async def wait(self) -> None:
        """
        Wait until the stream ends: closed, or its sinks have written their `count`.

        Raises:
            RefusedError: a venue refused us before it ever let us in.
            SinkError: a sink failed; ReaderGoneError where its reader left.
        """
        waits = [asyncio.ensure_future(work) for work in (_happened(self._ended), self._fanout.done())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(waits)
        if self._failure is not None:
            raise self._failure

    # -- subscriptions

    async def subscribe(
        self,
        channel: str | Subscription,
        *items: str,
        venue: str | Venue | None = None,
        account: str | None = None,
        timeout: float | None = None,
    ) -> list[Subscription]:
        """
        Subscribe, and return once the exchange has acknowledged it, across reconnects if need be.

        `subscribe("trades", "BTC-USDT", "ETH-USDT")` and `subscribe("trades:BTC-USDT,ETH-USDT")` are the same.
        What is subscribed to already is not asked for again.

        Raises:
            ConfigError: the venue does not have this channel, or it needs an account and there is none.
            SubscriptionRefusedError: the exchange does not serve it; others of the same call live on.
            TimeoutError: no answer within `timeout` seconds; what was not acknowledged is no longer wanted.
        """
        place = await self._resolve(venue)
        subs = self._read(channel, items, account)
        waiters: dict[Feed, asyncio.Future[None]] = {}
        for sub in subs:
            feed = self._feed(place, sub)
            if feed.state == "refused" or feed in self._waiting:
                waiters[feed] = self._waiting.setdefault(feed, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(timeout):
                if waiters:
                    await asyncio.wait(waiters.values())
        except BaseException:
            for feed in waiters:
                if feed in self._waiting:
                    self._remove(place, feed)
            raise
        for feed, waiter in waiters.items():
            if waiter.cancelled():
                continue
            waiter.result()
            if feed in self._refusals:
                refusal = self._refusals.pop(feed)
                self._remove(place, feed)
                raise SubscriptionRefusedError(_refused(feed, refusal), refusal.code)
        return [feed.sub for feed in waiters] or subs

    async def unsubscribe(
        self,
        channel: str | Subscription,
        *items: str,
        venue: str | Venue | None = None,
        account: str | None = None,
    ) -> None:
        """
        End subscriptions; what arrives of them from now on is not delivered.

        Raises:
            ConfigError: there is no such subscription.
        """
        place = await self._resolve(venue)
        for sub in self._read(channel, items, account):
            sub = self._of_account(place.dialect, place.name, sub)
            if (place.name, sub) not in self._feeds:
                raise ConfigError(f"{sub} is not subscribed to at {place.name}")
            feed, _ = self._feeds[place.name, sub]
            self._fanout.put([Delivery(feed, [feed.status("ended", self._wall_ns())])])
            self._remove(place, feed)

    def check(self, *subs: Subscription, venue: str | Venue | None = None) -> None:
        """
        Say whether `subs` can be asked for at all; nothing is sent.

        Raises:
            ConfigError: as `subscribe` does.
        """
        venue = self._venue if venue is None else venue
        if isinstance(venue, str) and venue != venues.SIM:
            venue = venues.find(venue)
        for sub in subs:
            self._of_account(self._dialect if isinstance(venue, str) else venue.dialect, str(venue), sub)

    def state(self) -> list[SubscriptionState]:
        """Return what has become of each subscription."""
        return [
            SubscriptionState(name, sub, feed.state, feed.since, feed.last.ts if feed.last else None, feed.gap)
            for (name, sub), (feed, _) in self._feeds.items()
        ]

    def stats(self) -> Stats:
        """Return what passed since the last call."""
        flow, self._fanout.flow = self._fanout.flow, Flow()
        open_gaps = sum(feed.gap is not None for feed, _ in self._feeds.values())
        return Stats(flow.records, flow.lag_ms, self._links.live, len(self._links), open_gaps, self._fanout.dropped)

    @property
    def memory_bound(self) -> int:
        """The sum of all configured bounds in bytes: each lane, and a message for each link."""
        return self._fanout.memory_bound + INFLATING * self._cap * max(1, len(self._links))

    # -- iteration

    def __aiter__(self) -> AsyncIterator[AnyRecord]:
        return self

    async def __anext__(self) -> AnyRecord:
        lane = self._fanout.lanes[0]
        while not self._pending:
            if len(lane):
                self._pending.extend(records(lane.take()))
            elif self._failure is not None:
                raise self._failure
            elif self._ended.is_set():
                raise StopAsyncIteration
            else:
                await lane.ready.wait()
                if not len(lane):
                    lane.ready.clear()
        return self._pending.popleft()

    # -- inside

    def _read(self, channel: str | Subscription, items: tuple[str, ...], account: str | None) -> list[Subscription]:
        if isinstance(channel, Subscription):
            return [channel]
        return subscriptions(channel, items, account) if items else parse(channel, account)

    async def _resolve(self, venue: str | Venue | None) -> Venue:
        if venue is None:
            venue = self._venue
        if venue == venues.SIM:
            return self._simulated or await self._simulate()
        return venues.find(venue) if isinstance(venue, str) else venue

    async def _simulate(self) -> Venue:
        # Loaded by name: the simulator is a server, which nobody needs who has a real venue.
        simulator = import_module("okstream.simulator")
        self._simulator = await simulator.Simulator(dialect=self._dialect).__aenter__()
        self._simulated = venues.simulated(self._dialect, self._simulator.url, self._simulator.rest_url)
        return self._simulated

    def _of_account(self, dialect: str, venue: str, sub: Subscription) -> Subscription:
        """Return `sub` with the account it needs; none where it needs none."""
        traits = load(dialect).traits(sub)
        if not traits.login:
            return Subscription(sub.channel, sub.inst, sub.args)
        if venue == venues.SIM and not self._accounts:
            account = import_module("okstream.simulator").TEST_ACCOUNT
            self._accounts["sim"] = Credentials(account.key, account.secret, account.passphrase)
        name = sub.account
        if name is None:
            if len(self._accounts) != 1:
                given = f"say which of {', '.join(self._accounts)}" if self._accounts else "none is given"
                raise ConfigError(f"{sub} needs an account; {given}")
            (name,) = self._accounts
        elif name not in self._accounts:
            raise unknown("account", name, self._accounts)
        return Subscription(sub.channel, sub.inst, sub.args, name)

    def _feed(self, venue: Venue, sub: Subscription) -> Feed:
        sub = self._of_account(venue.dialect, venue.name, sub)
        known = self._feeds.get((venue.name, sub))
        if known is not None:
            return known[0]
        if not self._open:
            raise RuntimeError("the stream is not open; use `async with Stream(...) as stream`")
        feed = Feed(sub, venue.name, load(venue.dialect), self._statements, parsed=self._fanout.parsed)
        link = self._links.get(venue, feed.traits.path, sub.account)
        self._feeds[venue.name, sub] = feed, link
        self._waiting[feed] = asyncio.get_running_loop().create_future()
        link.add(feed)
        return feed

    def _remove(self, venue: Venue, feed: Feed) -> None:
        _, link = self._feeds.pop((venue.name, feed.sub))
        link.remove(feed)
        self._waiting.pop(feed, None)
        self._fanout.forget(feed)

    def _say(self, state: str, detail: Any) -> None:
        name = self._venue if isinstance(self._venue, str) else self._venue.name
        self._fanout.put([Delivery(None, [Status(name, None, None, None, None, self._wall_ns(), state, detail)])])

    def _settle(self, feed: Feed, refusal: Refusal | None) -> None:
        waiter = self._waiting.pop(feed, None)
        if refusal is not None:
            self._refusals[feed] = refusal
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _task(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"okstream {name}")
        tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._link_tasks.discard(task)
        self._pump_tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._failure is None:
            self._failure = error
        self._ended.set()
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(error)
        for lane in self._fanout.lanes:
            lane.ready.set()


def _refused(feed: Feed, refusal: Refusal) -> str:
    code = f" ({refusal.code})" if refusal.code else ""
    return f"{feed.sub} refused by {feed.venue}: {refusal.message}{code}"


async def _cancelled(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel `tasks` and wait until they have ended, whatever they end with."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.gather(*tasks, return_exceptions=True)


async def _happened(event: asyncio.Event) -> None:
    await event.wait()
