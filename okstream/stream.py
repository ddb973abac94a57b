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
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from .channels import Subscription, parse, subscriptions
from .dialects import Refusal
from .dialects.signing import Credentials
from .errors import ConfigError, SubscriptionRefusedError
from .fanout import LANE_BYTES, Fanout, Flow, Lane, records
from .feed import Delivery, Feed
from .inflate import CAP, INFLATING
from .links import Links, Places, Wanted, Wiring, finished
from .records import SCHEMA, AnyRecord, Gap, Status
from .sinks import Sink
from .statements import Statements, position
from .venues import Venue
from .version import VERSION

DRAIN = 5.0
"""Seconds that sinks have at the end to write what waits."""

_GRACE = 1.0


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """
    What has become of one subscription.

    `state` is a status word, `since` when it began (ns); `last_ts` the exchange's time of the last record (ms), and
    `last_id` what tells it from others: a trade's id, a book's seq, None where it has none.
    """

    venue: str
    subscription: Subscription
    state: str
    since: int
    last_ts: int | None
    last_id: str | int | None
    gap: Gap | None


@dataclass(frozen=True, slots=True)
class Stats:
    """
    How the stream is doing: `records` and the worst `lag_ms` (exchange's clock to ours) since the last look;
    how many `links` of `links_wanted` are up, and gaps are open; and so far, how many records were `dropped` by full
    lanes, and messages were `unreadable` or of an `unknown` kind.
    """

    records: int
    lag_ms: float | None
    links: int
    links_wanted: int
    open_gaps: int
    dropped: int
    unreadable: int
    unknown: int


class Stream:
    """
    A stream of records from any number of venues and accounts; it is opened and closed once.

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
        redundancy: how many links carry each subscription; losing all but one costs nothing.
        rotate_after: seconds after which a link is replaced by a new one, without a gap.
        local: addresses of this machine that redundant links connect from, in turn.
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
        redundancy: int = 1,
        rotate_after: float | None = None,
        local: Sequence[str] = (),
        inflate_cap: int = CAP,
        lane_bytes: int = LANE_BYTES,
        wall_ns: Callable[[], int] = time.time_ns,
        chance: random.Random | None = None,
    ) -> None:
        self._places = Places(venue, url, dialect, wall_ns)
        named = {"main": accounts} if isinstance(accounts, Credentials) else dict(accounts or {})
        self._wall_ns = wall_ns
        self._cap = inflate_cap
        self._statements = Statements(secrets.token_hex(4))
        self._fanout = Fanout(sinks, lane_bytes, wall_ns, statements, count)
        wiring = Wiring(
            self._fanout.put, self._settle, wall_ns, chance or random.Random(), inflate_cap,
            self._fanout.parsed, self._fanout.raw, proxy, tls, redundancy, rotate_after, tuple(local),
        )  # fmt: skip
        self._links = Links(wiring, named, lambda link: self._task(link.run(), self._link_tasks, link.name))
        self._wanted = Wanted(self._links, self._statements, self._fanout.parsed, self._fanout.forget)
        self._feeds = self._wanted.feeds
        self._link_tasks: set[asyncio.Task[None]] = set()
        self._pump_tasks: set[asyncio.Task[None]] = set()
        self._lane: Lane | None = None
        self._lane_bytes = lane_bytes
        self._pending: deque[AnyRecord] = deque()
        self._failure: BaseException | None = None
        self._open = False
        self._ended = asyncio.Event()
        self._closing = asyncio.Lock()
        self.lost = 0

    # -- lifetime

    async def __aenter__(self) -> Self:
        if self._open or self._ended.is_set():
            raise RuntimeError("a Stream is opened once; make another")
        try:
            await self._places.open()
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

        Cancelled meanwhile, it skips the courtesies, but not the rest. `lost` then tells how many records the sinks
        did not get.
        """
        await finished(self._close(drain), self._hurry)

    async def _close(self, drain: float) -> None:
        async with self._closing:
            await _cancelled(self._link_tasks)
            if self._open and not self._ended.is_set():
                self._say("ended", None)
            self._open = False
            self._end()
            # A write that outlasts the deadline is ended first: sinks are never closed while they write.
            deadline = asyncio.get_running_loop().call_later(drain, self._hurry)
            try:
                self.lost = await self._fanout.drain(list(self._pump_tasks), drain + _GRACE)
            finally:
                deadline.cancel()
                await _cancelled(self._pump_tasks)
                await self._links.close()
                await self._places.close()

    def _end(self) -> None:
        """Wake all who wait for something that will not come."""
        self._ended.set()
        self._wanted.abandon()
        if self._lane is not None:
            self._lane.ready.set()

    def _hurry(self) -> None:
        for task in (*self._link_tasks, *self._pump_tasks):
            task.cancel()

    async def wait(self) -> None:
        """
        Wait until the stream ends: closed, or its sinks have written their `count`.

        Raises:
            RefusedError: a venue refused us before it ever let us in.
            SinkError: a sink failed; ReaderGoneError where its reader left.
        """
        waits = [asyncio.ensure_future(work) for work in (self._ended.wait(), self._fanout.done())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(waits)
        if self._failure is not None:
            raise self._failure

    async def refused(self) -> None:
        """Wait until the exchange serves nothing, or nothing any more, of what is subscribed to."""
        await self._wanted.refused()

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
        self._must_be_open()
        place = await self._places.reach(venue)
        subs = [self._links.assign(place, sub) for sub in _read(channel, items, account)]
        self._must_be_open()
        try:
            async with asyncio.timeout(timeout):
                settled, refused = await self._wanted.ask(place, subs)
        except TimeoutError:
            raise TimeoutError(f"{channel}: no answer from {place.name} within {timeout:g} s") from None
        self._must_be_open()
        if not settled:
            raise RuntimeError(f"{channel} was unsubscribed from before the exchange answered")
        if refused:
            message = "; ".join(_refused(feed, refusal) for feed, refusal in refused.items())
            raise SubscriptionRefusedError(message, next(iter(refused.values())).code)
        return subs

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
        self._must_be_open()
        place = await self._places.reach(venue)
        subs = [self._links.assign(place, sub) for sub in _read(channel, items, account)]
        for sub in subs:
            if (place.name, sub) not in self._feeds:
                raise ConfigError(f"{sub} is not subscribed to at {place.name}")
        for sub in subs:
            self._wanted.end(self._feeds[place.name, sub][0])

    def check(self, *subs: Subscription, venue: str | Venue | None = None) -> None:
        """
        Say whether `subs` can be asked for at all; nothing is sent.

        Raises:
            ConfigError: as `subscribe` does.
        """
        place = self._places.model(venue)
        for sub in subs:
            self._links.assign(place, sub)

    def state(self) -> list[SubscriptionState]:
        """Return what has become of each subscription."""
        return [
            SubscriptionState(*key, feed.state, feed.since, last.ts if last else None, position(last), feed.gap)
            for key, (feed, _) in self._feeds.items()
            for last in [feed.last]
        ]

    def stats(self) -> Stats:
        """Return what passed since the last call."""
        flow, self._fanout.flow, links = self._fanout.flow, Flow(timed=True), self._links
        open_gaps = sum(feed.gap is not None for feed, _ in self._feeds.values())
        return Stats(
            flow.records, flow.lag_ms, links.live, len(links), open_gaps, self._fanout.dropped,
            links.count("unreadable"), links.count("unknown"),
        )  # fmt: skip

    @property
    def memory_bound(self) -> int:
        """The sum of all configured bounds in bytes: each lane, and a message for each link."""
        return self._fanout.memory_bound + INFLATING * self._cap * max(1, len(self._links))

    # -- iteration

    def __aiter__(self) -> AsyncIterator[AnyRecord]:
        return self

    async def __anext__(self) -> AnyRecord:
        lane = self._lane or self._reading()
        while not self._pending:
            lane.held = 0
            if len(lane):
                before = lane.weight
                self._pending.extend(records(lane.take(within=lane.share)))
                lane.held = before - lane.weight
            elif not self._ended.is_set():
                await lane.ready.wait()
                if not len(lane):
                    lane.ready.clear()
            elif unsaid := lane.unsaid():
                self._pending.extend(records(unsaid))
            elif self._failure is not None:
                raise self._failure
            else:
                raise StopAsyncIteration
        return self._pending.popleft()

    def _reading(self) -> Lane:
        """Return the lane of this iteration; beside sinks it begins here."""
        if not self._fanout.parsed:
            raise ConfigError("sinks that take raw text leave no records to iterate over")
        if not self._ended.is_set():
            self._must_be_open()
        if self._fanout.pumps:
            self._fanout.lanes.append(Lane(self._lane_bytes, wall_ns=self._wall_ns))
        self._lane = self._fanout.lanes[-1]
        return self._lane

    # -- inside

    def _must_be_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if not self._open:
            raise RuntimeError("the stream is not open; use `async with Stream(...) as stream`")

    def _settle(self, feed: Feed, refusal: Refusal | None) -> None:
        self._wanted.settle(feed, refusal)

    def _say(self, state: str, detail: Any) -> None:
        self._fanout.put(
            [Delivery(None, [Status(self._places.name, None, None, None, None, self._wall_ns(), state, detail)])]
        )

    def _task(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"okstream {name}")
        tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._link_tasks.discard(task)
        self._pump_tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._failure = self._failure or error
        for link_task in self._link_tasks:
            link_task.cancel()
        self._end()


def _read(channel: str | Subscription, items: tuple[str, ...], account: str | None) -> list[Subscription]:
    if isinstance(channel, Subscription):
        if items:
            raise ConfigError(f"{channel} is a whole subscription; leave out {', '.join(items)}")
        return [channel if channel.account else replace(channel, account=account)]
    if not items:
        return parse(channel, account)
    if ":" in channel:
        raise ConfigError(f"{channel!r} names its items already; leave out {', '.join(items)}")
    return subscriptions(channel, items, account)


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
