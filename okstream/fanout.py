"""
Lanes: one bounded buffer for each consumer, so that a slow one harms nobody else.

A full lane drops its oldest data and says so: the consumer meets an `overflow` gap in place of what is missing.
Statements are never dropped. The reader never waits for a lane.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from .continuity import Continuity, Delivery
from .records import AnyRecord, Book, DataRecord, Gap, Native, Statement, Status, Ticker, Trade, encode
from .sinks import Sink

LANE_BYTES = 64 * 1024 * 1024
"""Default bound of a lane."""

_BATCH = 1000
_MANY = 64
"""Deliveries that are made into lines at once: encoded while they are in the processor's caches, then freed."""
_READY_BYTES = 1024 * 1024
"""Lines that are kept ready for a sink, at most a lane's share; what goes beyond stays in the lane."""
_SHARE = 8  # what is taken at once is at most an eighth of a lane's bound
_TIMED = frozenset({Ticker, Trade, Book})

# As measured: a book's rows are the heaviest, nine times their text; and each message costs something of its own.
_HEAVY: dict[type, int] = {Book: 3, Native: 2}
_MESSAGE_WEIGHT, _LINE_WEIGHT = 300, 41
_ENDLESS: dict[str, Any] = {"until": None, "until_ts": None, "lost": None}


class _End(Delivery):
    """Nothing more comes of its feed."""

    __slots__ = ()


class Lane:
    """
    One consumer's buffer.

    `held` is what its consumer has taken and holds still, in bytes, set by the consumer; it is within the bound.

    Args:
        limit: its bound in bytes, as estimated.
        wall_ns: the wall clock, for the statements a lane makes itself.
    """

    def __init__(self, limit: int = LANE_BYTES, *, wall_ns: Callable[[], int]) -> None:
        self.dropped = 0
        self.ready = asyncio.Event()
        self.on_many: Callable[[], None] | None = None
        self.held = 0
        self.share = limit // _SHARE
        self._limit = limit
        self._wall_ns = wall_ns
        self._queue: deque[Delivery] = deque()
        self._weight = 0
        self._last: dict[Continuity, DataRecord] = {}
        self._lost: dict[Continuity, DataRecord | None] = {}
        self._kept: dict[Continuity | None, list[Statement]] = {}
        self._unclosed: dict[Continuity, Gap] = {}

    def __len__(self) -> int:
        return len(self._queue) + len(self._kept)

    @property
    def weight(self) -> int:
        """What the queue holds, in bytes as estimated."""
        return self._weight

    @property
    def waiting(self) -> int:
        """Data records that nobody has taken yet."""
        return sum(len(delivery.records) or (delivery.text is not None) for delivery in self._queue)

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Append; drop the oldest data if the bound is exceeded."""
        for delivery in deliveries:
            self._queue.append(delivery)
            self._weight += delivery.weight
        while self._weight + self.held > self._limit and self._queue:
            self._drop(self._queue.popleft())
        self.ready.set()
        if self.on_many is not None and len(self._queue) >= _MANY:
            self.on_many()

    def take(self, most: int = _BATCH, within: int | None = None) -> list[Delivery]:
        """Remove and return what waits, in order: at most `most` deliveries of the queue, or `within` bytes and one."""
        self.ready.clear()
        taken = [Delivery(feed, said) for feed, said in self._kept.items()]
        self._kept.clear()
        queue = self._queue
        floor = -1 if within is None else self._weight - within
        while queue and most and self._weight >= floor:
            most -= 1
            delivery = queue.popleft()
            self._weight -= delivery.weight
            if type(delivery) is _End:
                delivery = Delivery(delivery.feed, self._ended(delivery))
            elif delivery.feed in self._lost:
                delivery = self._told(delivery)
            taken.append(delivery)
            if delivery.records and delivery.feed is not None:
                self._last[delivery.feed] = delivery.records[-1]
        if queue:
            self.ready.set()
        return taken

    def forget(self, feed: Continuity) -> None:
        """`feed` has ended: nothing more comes of it than what waits."""
        self.put([_End(feed)])

    def _drop(self, delivery: Delivery) -> None:
        self._weight -= delivery.weight
        feed = delivery.feed
        statements = self._ended(delivery) if type(delivery) is _End else delivery.statements
        kept = _coalesced([*self._kept.pop(feed, ()), *statements]) if statements else self._kept.pop(feed, [])
        if feed is not None and (count := len(delivery.records) or (delivery.text is not None)):
            self.dropped += count
            for gap in [said for said in kept if isinstance(said, Gap) and said.state == "closed"]:
                kept.remove(gap)
                if feed in self._lost:
                    kept.insert(0, replace(gap, **_ENDLESS))
                else:
                    self._unclosed[feed] = gap  # it lasts until the next that is delivered
            self._lost.setdefault(feed, self._last.get(feed))
        if kept:
            self._kept[feed] = self._released(feed, kept) if feed is not None else kept

    def _released(self, feed: Continuity, statements: Sequence[Statement]) -> list[Statement]:
        """Close the gap that stayed open, without what was dropped, before `statements` open another one."""
        if feed in self._unclosed and any(isinstance(said, Gap) and said.state == "open" for said in statements):
            return [replace(self._unclosed.pop(feed), **_ENDLESS), *statements]
        return list(statements)

    def _ended(self, end: _End) -> list[Statement]:
        """Return the gap that says of an ended feed what was dropped of it and never followed by anything."""
        feed = end.feed
        assert feed is not None
        last, unclosed = self._last.pop(feed, None), self._unclosed.pop(feed, None)
        if feed not in self._lost:
            return []
        after = self._lost.pop(feed) or last
        return feed.overflow(after, None, self._wall_ns())[:1] if unclosed is None else []

    def _told(self, delivery: Delivery) -> Delivery:
        """
        Say what was dropped, directly before the next that is delivered of the same feed.

        After its other statements: a gap that was open is closed by then, unless its end was dropped: then it says all.
        """
        feed = delivery.feed
        assert feed is not None
        statements = self._released(feed, delivery.statements)
        if delivery.records or delivery.text is not None:
            until = delivery.records[0] if delivery.records else None
            said = feed.overflow(self._lost.pop(feed), until, self._wall_ns())
            if (gap := self._unclosed.pop(feed, None)) is not None and isinstance(closed := said[1], Gap):
                said = [replace(gap, recv=closed.recv, until=closed.until, until_ts=closed.until_ts, lost=None)]
            statements += said
        return Delivery(feed, statements, delivery.records, delivery.text)

    def unsaid(self) -> list[Delivery]:
        """Return the gaps of feeds of which nothing came after the loss; called once, at the end."""
        now = self._wall_ns()
        lost = [(feed, after) for feed, after in self._lost.items() if feed not in self._unclosed]
        ends = [Delivery(feed, feed.overflow(after, None, now)[:1]) for feed, after in lost]
        self._lost.clear()
        self._unclosed.clear()
        return ends


def _coalesced(statements: list[Statement]) -> list[Statement]:
    """Keep of one feed's statements what still matters: open gaps, closes of earlier ones, the last status."""
    gaps = [said for said in statements if isinstance(said, Gap)]
    both = {gap.gap for gap in gaps if gap.state == "open"} & {gap.gap for gap in gaps if gap.state == "closed"}
    # Those about no feed are of several venues and accounts; the first of a stream is its head.
    statuses = {
        (said.venue, said.account, said.channel, said.inst, said.state == "started"): said
        for said in statements
        if isinstance(said, Status)
    }
    return [*(gap for gap in gaps if gap.gap not in both), *statuses.values()]


def lines(deliveries: Iterable[Delivery], form: str, statements: bool = True) -> list[bytes]:
    """Return the lines of `deliveries`: JSON records, or the exchange's own text (`form` raw)."""
    made: list[bytes] = []
    for delivery in deliveries:
        if statements:
            made += map(encode, delivery.statements)
        if form == "raw":
            if delivery.text is not None:
                # A newline between the tokens of JSON is a space; as it is it would make two lines of one.
                made.append(delivery.text.replace(b"\n", b" ") + b"\n")
        else:
            made += map(encode, delivery.records)
    return made


def records(deliveries: Iterable[Delivery]) -> list[AnyRecord]:
    """Return the records of `deliveries`, statements included, in order."""
    return [record for delivery in deliveries for record in (*delivery.statements, *delivery.records)]


class Pump:
    """
    Empties one lane into one sink, until told to finish.

    Args:
        statements: whether gaps and statuses are written, too.
        count: data records (raw: messages) after which `done` is set and nothing more is written.
    """

    def __init__(self, lane: Lane, sink: Sink, *, statements: bool = True, count: int | None = None) -> None:
        self.lane = lane
        self.done = asyncio.Event()
        self.written = 0
        self.under_way = 0
        self._sink = sink
        self._statements = statements
        self._left = count
        self._dropped = 0
        self._finishing = asyncio.Event()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._take = partial(lane.take, _BATCH, lane.share)
        lane.on_many = self._prepare

    async def run(self) -> None:
        """Write what comes; returns after `finish`, raises SinkError as the sink does."""
        while not self._finishing.is_set():
            await self.lane.ready.wait()
            if self._sink.linger and not self._lines and not self._finishing.is_set():
                await asyncio.sleep(self._sink.linger)
            await self._write(self._take())
        while len(self.lane):
            await self._write(self._take())
        await self._write(self.lane.unsaid())

    def finish(self) -> None:
        """Write what waits, then return from `run`."""
        self._finishing.set()
        self.lane.ready.set()

    def _prepare(self) -> None:
        """Make lines of what waits; called by the lane, from within the socket's read."""
        if self._bytes < min(_READY_BYTES, self.lane.share):
            self._encode(self._take())
            self.lane.ready.set()

    @property
    def lost(self) -> int:
        """Data records that the sink did not get, of those it was to get."""
        beyond = self._dropped if self._left == 0 else self.lane.dropped + self.lane.waiting
        return beyond + self.under_way

    def _encode(self, deliveries: list[Delivery]) -> None:
        if self._left is not None:
            deliveries = self._counted(deliveries)
        raw = self._sink.form == "raw"
        self.under_way += sum(1 if raw and d.text else len(d.records) for d in deliveries)
        made = lines(deliveries, self._sink.form, self._statements)
        self._lines += made
        size = sum(map(len, made)) + _LINE_WEIGHT * len(made)
        self._bytes += size
        self.lane.held += size

    async def _write(self, deliveries: list[Delivery]) -> None:
        self._encode(deliveries)
        batch, size, self._lines, self._bytes = self._lines, self._bytes, [], 0
        if batch:
            data = self.under_way
            await self._sink.write(batch)
            self.under_way -= data
            self.written += data
            self.lane.held -= size
        if self._left == 0:
            self.done.set()

    def _counted(self, deliveries: list[Delivery]) -> list[Delivery]:
        assert self._left is not None
        if self._left:
            self._dropped = self.lane.dropped
        kept: list[Delivery] = []
        for delivery in deliveries:
            if self._left == 0:
                # What ends the stream is said all the same.
                kept += [delivery] if delivery.feed is None else []
                continue
            if self._sink.form == "raw":
                self._left -= delivery.text is not None
            else:
                if len(delivery.records) > self._left:
                    delivery = Delivery(delivery.feed, delivery.statements, delivery.records[: self._left])
                self._left -= len(delivery.records)
            kept.append(delivery)
        return kept


@dataclass(slots=True)
class Flow:
    """
    What passed since the last look: data records, and the worst lag in ms (exchange's clock to ours), if `timed`.
    """

    timed: bool = False
    records: int = 0
    lag_ms: float | None = None

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Count `deliveries`."""
        for delivery in deliveries:
            self.records += len(delivery.records) or delivery.text is not None
            if self.timed and delivery.records and type(record := delivery.records[-1]) in _TIMED:
                lag = record.recv / 1_000_000 - record.ts if record.ts is not None and not record.origin else None
                self.lag_ms = max((each for each in (lag, self.lag_ms) if each is not None), default=None)


class Fanout:
    """
    All lanes of one stream, and the sinks behind them.

    Args:
        lane_bytes: bound of each lane.
        statements, count: see Pump.
    """

    def __init__(
        self, sinks: Iterable[Sink], lane_bytes: int, wall_ns: Callable[[], int], statements: bool, count: int | None
    ) -> None:
        self.lanes: list[Lane] = []
        self.pumps: list[Pump] = []
        self.flow = Flow()
        self._lane_bytes = lane_bytes
        self._sinks = list(sinks)
        for sink in self._sinks:
            lane = Lane(lane_bytes, wall_ns=wall_ns)
            self.lanes.append(lane)
            self.pumps.append(Pump(lane, sink, statements=statements, count=count))
        if not self._sinks:
            self.lanes.append(Lane(lane_bytes, wall_ns=wall_ns))
        forms = {sink.form for sink in self._sinks} or {"json"}
        self.parsed, self.raw = "json" in forms, "raw" in forms

    @property
    def dropped(self) -> int:
        """Data records that full lanes have dropped."""
        return sum(lane.dropped for lane in self.lanes)

    @property
    def memory_bound(self) -> int:
        """The sum of the lanes' bounds, in bytes."""
        return self._lane_bytes * len(self.lanes)

    async def open(self) -> None:
        """Open the sinks; raises SinkError as they do."""
        for sink in self._sinks:
            await sink.open()

    def put(self, deliveries: list[Delivery]) -> None:
        """Hand `deliveries` to every lane. Never waits."""
        for delivery in deliveries:
            if records := delivery.records:
                delivery.weight = delivery.weight * _HEAVY.get(type(records[-1]), 1) + _MESSAGE_WEIGHT
        self.flow.add(deliveries)
        for lane in self.lanes:
            lane.put(deliveries)

    def forget(self, feed: Continuity) -> None:
        """`feed` has ended: nothing more comes of it."""
        for lane in self.lanes:
            lane.forget(feed)

    async def done(self) -> None:
        """Wait until every sink has written its count; for ever where there is no sink."""
        if not self.pumps:
            await asyncio.Event().wait()
        for pump in self.pumps:
            await pump.done.wait()

    async def drain(self, tasks: list[asyncio.Task[None]], seconds: float) -> int:
        """Let the pumps (running as `tasks`) write what waits; close the sinks; return what was lost."""
        for pump in self.pumps:
            pump.finish()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for lane in self.lanes:
            lane.ready.set()
        sinks, self._sinks = self._sinks, []
        for sink in sinks:
            await sink.close()
        return sum(pump.lost for pump in self.pumps) if self.pumps else self.dropped
