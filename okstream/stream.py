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
from functools import partial
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from . import rest, venues
from .channels import Subscription, parse, subscriptions, unknown
from .dialects import Refusal, load
from .dialects.signing import Credentials
from .errors import ConfigError, SubscriptionRefusedError
from .fanout import LANE_BYTES, Lane, Pump, records
from .feed import Delivery, Feed, Statements
from .inflate import CAP
from .ledger import Budget
from .link import Link, Spacing
from .records import SCHEMA, AnyRecord, Book, Gap, Status, Ticker, Trade
from .session import Terms
from .sinks import Sink
from .venues import Venue
from .version import VERSION

DRAIN = 5.0
"""Seconds that sinks have at the end to write what waits."""

_TIMED = frozenset({Ticker, Trade, Book})


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


@dataclass(slots=True)
class Stats:
    """
    What passed since the last look: data records, lost ones, unreadable frames, and the worst lag in ms from the
    exchange's clock to ours. `links` are up of `links_wanted`; `open_gaps` and `dropped` are totals.
    """

    records: int = 0
    links: int = 0
    links_wanted: int = 0
    open_gaps: int = 0
    dropped: int = 0
    lag_ms: float | None = None


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
        self._sinks = list(sinks)
        self._proxy, self._tls = proxy, tls
        self._cap = inflate_cap
        self._lane_bytes = lane_bytes
        self._wall_ns = wall_ns
        self._chance = chance or random.Random()
        self._statements = Statements(secrets.token_hex(2))
        self._options = {"statements": statements, "count": count}
        self._parsed = not self._sinks or any(sink.form == "json" for sink in self._sinks)
        self._raw = any(sink.form == "raw" for sink in self._sinks)
        self._links: dict[tuple[str, str, str | None], Link] = {}
        self._feeds: dict[tuple[str, Subscription], tuple[Feed, Link]] = {}
        self._waiting: dict[Feed, asyncio.Future[None]] = {}
        self._refusals: dict[Feed, Refusal] = {}
        self._spacings: dict[str, Spacing] = {}
        self._budgets: dict[str, Budget] = {}
        self._lanes: list[Lane] = []
        self._pumps: list[Pump] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._simulator: Any = None
        self._simulated: Venue | None = None
        self._pending: deque[AnyRecord] = deque()
        self._failure: BaseException | None = None
        self._ended = asyncio.Event()
        self._stats = Stats()
        self.lost = 0

    # -- lifetime

    async def __aenter__(self) -> Self:
        try:
            if self._venue == venues.SIM:
                await self._simulate()
            for sink in self._sinks:
                await sink.open()
                lane = self._lane()
                pump = Pump(lane, sink, **self._options)  # type: ignore[arg-type]
                self._pumps.append(pump)
                self._task(pump.run(), f"okstream-pump-{len(self._pumps)}")
            if not self._sinks:
                self._lane()
        except BaseException:
            await self.close()
            raise
        instance = {"version": VERSION, "schema": SCHEMA, "instance": self._statements.instance}
        self._say("started", instance)
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
        links = [task for task in self._tasks if task.get_name().startswith("okstream-link")]
        await _cancelled(links)
        if self._lanes and not self._ended.is_set():
            self._say("ended", None)
        self._ended.set()
        for pump in self._pumps:
            pump.finish()
        pumps = [task for task in self._tasks if task.get_name().startswith("okstream-pump")]
        if pumps:
            await asyncio.wait(pumps, timeout=drain)
        await _cancelled(self._tasks)
        self._tasks.clear()
        if self._pumps:
            self.lost = sum(pump.lane.dropped + pump.lane.waiting for pump in self._pumps if not pump.done.is_set())
        else:
            self.lost = sum(lane.dropped for lane in self._lanes)
        for sink in self._sinks:
            await sink.close()
        self._sinks = []
        for waiter in self._waiting.values():
            waiter.cancel()
        self._waiting.clear()
        for lane in self._lanes:
            lane.ready.set()
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
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._ended.wait())]
        if self._pumps:
            waits.append(asyncio.ensure_future(_all(pump.done.wait() for pump in self._pumps)))
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
            self._deliver([Delivery(feed, [feed.status("ended", self._wall_ns())])])
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
        stats, self._stats = self._stats, Stats()
        stats.links = sum(link.state == "live" for link in self._links.values())
        stats.links_wanted = len(self._links)
        stats.open_gaps = sum(feed.gap is not None for feed, _ in self._feeds.values())
        stats.dropped = sum(lane.dropped for lane in self._lanes)
        return stats

    @property
    def memory_bound(self) -> int:
        """The sum of all configured bounds in bytes: each lane, and a message for each link."""
        return self._lane_bytes * len(self._lanes) + self._cap * max(1, len(self._links))

    # -- iteration

    def __aiter__(self) -> AsyncIterator[AnyRecord]:
        return self

    async def __anext__(self) -> AnyRecord:
        lane = self._lanes[0]
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
            self._accounts = {"sim": import_module("okstream.simulator").credentials()}
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
        if self._ended.is_set() or not self._lanes:
            raise RuntimeError("the stream is not open; use `async with Stream(...) as stream`")
        feed = Feed(sub, venue.name, load(venue.dialect), self._statements, parsed=self._parsed)
        link = self._link(venue, feed.traits.path, sub.account)
        self._feeds[venue.name, sub] = feed, link
        self._waiting[feed] = asyncio.get_running_loop().create_future()
        link.add(feed)
        return feed

    def _remove(self, venue: Venue, feed: Feed) -> None:
        _, link = self._feeds.pop((venue.name, feed.sub))
        link.remove(feed)
        self._waiting.pop(feed, None)
        for lane in self._lanes:
            lane.forget(feed)

    def _link(self, venue: Venue, path: str, account: str | None) -> Link:
        key = (venue.name, path, account)
        if key in self._links:
            return self._links[key]
        limits = venue.limits
        budget = Budget(limits.requests)
        if limits.requests_shared:
            budget = self._budgets.setdefault(venue.url, budget)
        credentials = self._accounts[account] if account else None
        terms = Terms(load(venue.dialect), limits, budget, credentials, self._cap, self._parsed, self._raw)
        name = " ".join([venue.name, path, *([account] if account else [])])
        link = Link(
            name, venue, path, terms, account,
            deliver=self._deliver,
            settled=self._settle,
            spacing=self._spacings.setdefault(venue.url, Spacing(limits.connects)),
            wall_ns=self._wall_ns,
            chance=self._chance,
            clock_offset=partial(rest.clock_offset, venue, self._wall_ns, self._proxy) if credentials else None,
            proxy=self._proxy,
            tls=self._tls,
        )  # fmt: skip
        self._links[key] = link
        self._task(link.run(), f"okstream-link-{name}")
        return link

    def _lane(self) -> Lane:
        lane = Lane(self._lane_bytes, wall_ns=self._wall_ns)
        self._lanes.append(lane)
        return lane

    def _deliver(self, deliveries: list[Delivery]) -> None:
        stats = self._stats
        for delivery in deliveries:
            for record in delivery.records:
                stats.records += 1
                if type(record) in _TIMED and record.ts is not None and record.origin is None:
                    lag = record.recv / 1_000_000 - record.ts
                    if stats.lag_ms is None or lag > stats.lag_ms:
                        stats.lag_ms = lag
            if delivery.text is not None and not delivery.records:
                stats.records += 1
        for lane in self._lanes:
            lane.put(deliveries)

    def _say(self, state: str, detail: Any) -> None:
        name = self._venue if isinstance(self._venue, str) else self._venue.name
        self._deliver([Delivery(None, [Status(name, None, None, None, None, self._wall_ns(), state, detail)])])

    def _settle(self, feed: Feed, refusal: Refusal | None) -> None:
        waiter = self._waiting.pop(feed, None)
        if refusal is not None:
            self._refusals[feed] = refusal
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _task(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._failure is None:
            self._failure = error
        self._ended.set()
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(error)
        for lane in self._lanes:
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


async def _all(waits: Iterable[Coroutine[Any, Any, Any]]) -> None:
    await asyncio.gather(*waits)
