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
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from .book import BookView
from .channels import Subscription, read
from .dialects.signing import Credentials
from .errors import ConfigError, SubscriptionRefusedError
from .fanout import Fanout, Flow
from .fanout.iteration import Iteration
from .fanout.lanes import Lanes
from .fanout.surroundings import Surroundings
from .feed import Delivery
from .following import Following
from .inflate import CAP
from .journal import Journal
from .lifetime import Lifetime, finished, first
from .links import Links, Wiring
from .memory import bound
from .options import LANE_BYTES, LaneOptions
from .places import Places
from .records import SCHEMA, AnyRecord, Status
from .sampling import sampling
from .sinks import Sink
from .statements import Statements
from .states import SinkState, Stats, StreamState
from .venues import Venue
from .version import VERSION
from .wanted import Wanted

DRAIN = 5.0
"""Seconds that sinks have at the end to write what waits."""

_GRACE = 1.0


class Stream:
    """
    A stream of records from any number of venues and accounts; it is opened and closed once.

    Args:
        venue: where `subscribe` goes unless told otherwise: a name, or a Venue of your own making.
        url, rest_url: another place to reach that venue at, and its REST interface.
        dialect: for the venue `sim`: which generation it speaks.
        accounts: credentials by a name of your choice; a single one is called `main`.
        sinks: where records go; without any, iterate over the stream.
        statements: whether sinks get gaps and statuses, too.
        count: data records after which a sink is done, see `wait`.
        proxy: URL of an HTTP or SOCKS proxy; the environment is not looked at.
        tls: for certificates of your own; they are verified in any case.
        redundancy: how many links carry each subscription; losing all but one costs nothing.
        rotate_after: seconds after which a link is replaced by a new one, without a gap.
        depth, every: in place of each book's changes its best `depth` levels, each `every` seconds.
        local: addresses of this machine that redundant links connect from, in turn.
        inflate_cap: the longest message in bytes, compressed or not.
        lane_bytes: bound of each sink's buffer, and of the one behind `async for`.
        wall_ns: the wall clock; durations come from the event loop.
        chance: randomness for delays.
        journal: writes down what arrives, so that it can be replayed.
    """

    def __init__(
        self,
        venue: str | Venue = "okx",
        *,
        url: str | None = None,
        rest_url: str | None = None,
        dialect: str = "okx-v5",
        accounts: Mapping[str, Credentials] | Credentials | None = None,
        sinks: Iterable[Sink | tuple[Sink, LaneOptions]] = (),
        statements: bool = True,
        count: int | None = None,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
        redundancy: int = 1,
        rotate_after: float | None = None,
        local: Sequence[str] = (),
        depth: int | None = None,
        every: float | None = None,
        inflate_cap: int = CAP,
        lane_bytes: int = LANE_BYTES,
        wall_ns: Callable[[], int] = time.time_ns,
        chance: random.Random | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._places = Places(venue, url, dialect, wall_ns, rest_url)
        self._wall_ns = wall_ns
        self._cap = inflate_cap
        self._statements = Statements(secrets.token_hex(4))
        chance = chance or random.Random()
        around = Surroundings(self._statements, wall_ns, chance)
        self._life = Lifetime(self._over)
        self._fanout = Fanout(sinks, LaneOptions(bytes=lane_bytes, statements=statements), around, count)
        self._lanes = Lanes(self._fanout, lambda: Delivery(None, [self._head()]), self._life.fail)
        self._sampling = sampling(depth, every, self._fanout.raw, lambda: self._wanted.all, self._fanout.put)
        wiring = Wiring(
            self._sampling.put if self._sampling else self._fanout.put,
            lambda feed, refusal: self._wanted.settle(feed, refusal), wall_ns, chance, inflate_cap,
            self._fanout.parsed, self._fanout.raw, proxy, tls, redundancy, rotate_after, tuple(local), journal,
        )  # fmt: skip
        self._links = Links(wiring, _named(accounts), lambda link: self._life.start(link.run(), link.name))
        self._wanted = Wanted(
            self._links, self._statements, self._fanout.parsed, self._fanout.forget,
            lambda: self._sampling is not None or self._fanout.keeps or redundancy > 1,
        )  # fmt: skip
        self._feeds = self._wanted.feeds
        self._following = Following(self._links, self._wanted, self._life.start)
        self._journal = journal
        self._open = False
        self._closing = asyncio.Lock()
        self.lost = 0

    # -- lifetime

    async def __aenter__(self) -> Self:
        if self._open or self._life.ended.is_set():
            raise RuntimeError("a Stream is opened once; make another")
        try:
            await self._places.open()
            if self._journal is not None:
                self._journal.open(self._statements.instance, self._wall_ns())
            await self._lanes.open()
        except BaseException:
            await self.close()
            raise
        if self._sampling is not None:
            self._life.start(self._sampling.run(self._wall_ns, self._journal), "sampling")
        self._open = True
        self._put(self._head())
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
            await self._life.stop()
            if self._open and not self._life.ended.is_set():
                self._put(self._status("ended", None))
            self._open = False
            self._life.end()
            try:
                self.lost = await self._lanes.close(drain)
            finally:
                await self._links.close()
                await self._places.close()
                if self._journal is not None:
                    await self._journal.close()

    def _over(self) -> None:
        self._following.closed = True
        self._wanted.abandon()

    def _hurry(self) -> None:
        self._lanes.hurry()
        self._life.hurry()

    async def wait(self) -> None:
        """
        Wait until the stream ends: closed, or its sinks have written their `count`.

        Raises:
            RefusedError: a venue refused us before it ever let us in.
            SinkError: the last sink failed; ReaderGoneError where its reader left.
        """
        await first(self._life.ended.wait(), self._fanout.done())
        self._life.check()

    async def refused(self) -> None:
        """Wait until the exchange serves nothing, or nothing any more, of what is subscribed to."""
        await self._wanted.refused()

    # -- sinks

    async def add_sink(self, sink: Sink, options: LaneOptions | None = None) -> str:
        """
        Have records go to one more sink from now on; return its name.

        Raises:
            ConfigError: its options make no sense here, or this stream has no text of its form.
            SinkError: it cannot be opened.
        """
        self._must_be_open()
        name = await self._lanes.add(sink, options, self._wanted.all)
        if self._life.iteration is None:
            self._fanout.unread()
        self._keep()
        return name

    async def remove_sink(self, name: str, drain: float = DRAIN) -> SinkState:
        """
        Have a sink write what waits for it, for at most `drain` seconds, and close it; return how it ended.

        Raises:
            ConfigError: there is no sink of that name.
        """
        return await self._lanes.remove(name, drain)

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

        `subscribe("trades", "BTC-USDT", "ETH-USDT")` and `subscribe("trades:BTC-USDT,ETH-USDT")` are the same. A star
        stands for any part of a name without a dash: `book:*-USDT-SWAP`; what is listed later is subscribed to then.
        What is subscribed to already is not asked for again.

        Raises:
            ConfigError: the venue does not have this channel, or it needs an account and there is none.
            SubscriptionRefusedError: the exchange does not serve it; others of the same call live on.
            TimeoutError: no answer within `timeout` seconds; what was not acknowledged is no longer wanted.
        """
        self._must_be_open()
        place = await self._places.reach(venue)
        asked = [self._links.assign(place, sub) for sub in read(channel, items, account)]
        self._must_be_open()
        for sub in asked:
            self._fanout.check(place.name, sub)
        begun = [sub for sub in asked if sub.is_pattern and not self._following.follows(place, sub)]
        try:
            async with asyncio.timeout(timeout):
                subs = await self._following.resolved(place, asked)
                self._must_be_open()
                settled, refused = await self._wanted.ask(place, subs)
        except (TimeoutError, asyncio.CancelledError, ConfigError) as error:
            self._following.abandon(place, begun)
            if not isinstance(error, TimeoutError):
                raise
            raise TimeoutError(f"{channel}: no answer from {place.name} within {timeout:g} s") from None
        finally:
            self._following.settle(place, asked)
        self._must_be_open()
        if not settled:
            raise RuntimeError(f"{channel} was unsubscribed from before the exchange answered")
        if refused:
            message = "; ".join(f"{feed.sub} refused by {feed.venue}: {refusal}" for feed, refusal in refused.items())
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
        asked = [self._links.assign(place, sub) for sub in read(channel, items, account)]
        self._following.end(place, asked)

    def check(self, *subs: Subscription, venue: str | Venue | None = None) -> None:
        """
        Say whether `subs` can be asked for at all; nothing is sent.

        Raises:
            ConfigError: as `subscribe` does.
        """
        place = self._places.model(venue)
        for sub in subs:
            self._links.assign(place, sub)

    @property
    def instance(self) -> str:
        """What this stream calls itself: its `started` says it, and the ids of its gaps begin with it."""
        return self._statements.instance

    def state(self) -> StreamState:
        """Return what has become of each subscription, and how each sink is doing."""
        return StreamState(self._wanted.states, self._fanout.states)

    def book(self, inst: str, channel: str = "book", *, venue: str | Venue | None = None) -> BookView:
        """
        Return the book of an instrument as it is at this moment.

        It is valid until control returns to the event loop; what was read of it stays yours.

        Raises:
            ConfigError: it is not subscribed to.
            BookVoidError: it is not known now: not yet, or a change was lost and its next snapshot is awaited.
        """
        name = self._places.model(venue).name
        feed = self._wanted.book(name, inst, channel)
        self._wanted.keep(feed)
        return feed.view(self._wall_ns())

    def stats(self) -> Stats:
        """Return what passed since the last call."""
        flow, self._fanout.flow, links = self._fanout.flow, Flow(timed=True), self._links
        open_gaps = sum(feed.gap is not None for feed in self._wanted.all)
        return Stats(
            flow.records, flow.lag_ms, links.live, len(links), open_gaps, self._fanout.dropped,
            links.count("unreadable"), links.count("unknown"),
        )  # fmt: skip

    @property
    def memory_bound(self) -> int:
        """The sum of all bounds in bytes: each lane, a message for each link, the levels of each book, the journal."""
        books = sum(feed.traits.incremental for feed in self._wanted.all)
        journal = 0 if self._journal is None else self._journal.memory_bound
        links = self._links
        return bound(self._fanout.memory_bound + journal, len(links), self._cap, books, links.wiring.redundancy)

    # -- iteration

    def __aiter__(self) -> AsyncIterator[AnyRecord]:
        return self

    async def __anext__(self) -> AnyRecord:
        return await (self._life.iteration or self._reading()).next()

    def _reading(self) -> Iteration:
        """Return the iteration; beside sinks it begins here."""
        if not self._fanout.parsed:
            raise ConfigError("sinks that take raw text leave no records to iterate over")
        if not self._life.ended.is_set():
            self._must_be_open()
        iteration = self._life.iterate(self._fanout.read())
        self._keep()
        return iteration

    # -- inside

    def _must_be_open(self) -> None:
        self._life.check()
        if not self._open:
            raise RuntimeError("the stream is not open; use `async with Stream(...) as stream`")

    def _status(self, state: str, detail: Any) -> Status:
        return Status(self._places.name, None, None, None, None, self._wall_ns(), state, detail)

    def _head(self) -> Status:
        return self._status("started", {"version": VERSION, "schema": SCHEMA, "instance": self.instance})

    def _put(self, said: Status) -> None:
        if self._journal is not None:
            self._journal.said(said)
        self._fanout.put([Delivery(None, [said])])

    def _keep(self) -> None:
        for feed in self._wanted.all if self._fanout.keeps else ():
            self._wanted.keep(feed)


def _named(accounts: Mapping[str, Credentials] | Credentials | None) -> dict[str, Credentials]:
    return {"main": accounts} if isinstance(accounts, Credentials) else dict(accounts or {})
