"""From what arrives to who wants it: one lane for each consumer, so that a slow one harms nobody else."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from .continuity import Continuity, Delivery
from .entries import Entry
from .lane import BATCH, Lane
from .options import LaneOptions
from .records import AnyRecord, Book, Native, Ticker, Trade, encode
from .sinks import Sink

_READY_BYTES = 1024 * 1024
"""Lines that are kept ready for a sink, at most a lane's share; what goes beyond stays in the lane."""
_TIMED = frozenset({Ticker, Trade, Book})

# As measured: a book's rows are the heaviest, nine times their text; and each message costs something of its own.
_HEAVY: dict[type, int] = {Book: 3, Native: 2}
_MESSAGE_WEIGHT, _LINE_WEIGHT = 300, 41


def entries(deliveries: Iterable[Delivery], form: str, statements: bool = True) -> list[Entry]:
    """Return the lines of `deliveries`: JSON records, or the exchange's own text (`form` raw)."""
    made: list[Entry] = []
    for delivery in deliveries:
        if statements:
            made += [Entry(encode(said), said) for said in delivery.statements]
        if form == "raw":
            if delivery.text is not None and delivery.feed is not None:
                # A newline between the tokens of JSON is a space; as it is it would make two lines of one.
                line = delivery.text.replace(b"\n", b" ") + b"\n"
                recv = delivery.records[-1].recv if delivery.records else delivery.recv
                made.append(Entry(line, delivery.feed.head, recv, delivery.feed))
        elif delivery.records:
            if delivery.entries is None:
                feed = delivery.feed
                delivery.entries = [Entry(encode(record), record, 0, feed) for record in delivery.records]
            made += delivery.entries
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

    def __init__(self, lane: Lane, sink: Sink, options: LaneOptions, *, count: int | None = None) -> None:
        self.form = options.form
        self.lane = lane
        self.done = asyncio.Event()
        self.written = 0
        self.under_way = 0
        self._sink = sink
        self._statements = options.statements
        self._linger = options.linger if options.linger is not None else getattr(sink, "linger", 0.0)
        self._left = count
        self._dropped = 0
        self._finishing = asyncio.Event()
        self._lines: list[Entry] = []
        self._bytes = 0
        self._take = partial(lane.take, BATCH, lane.share)
        lane.on_many = self._prepare

    async def run(self) -> None:
        """Write what comes; returns after `finish`, raises SinkError as the sink does."""
        while not self._finishing.is_set():
            await self.lane.ready.wait()
            if self._linger and not self._lines and not self._finishing.is_set():
                await asyncio.sleep(self._linger)
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
        raw = self.form == "raw"
        self.under_way += sum(1 if raw and d.text else len(d.records) for d in deliveries)
        made = entries(deliveries, self.form, self._statements)
        self._lines += made
        size = sum([len(entry.line) for entry in made]) + _LINE_WEIGHT * len(made)
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
            if self.form == "raw":
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
        self,
        sinks: Iterable[Sink | tuple[Sink, LaneOptions]],
        lane_bytes: int,
        wall_ns: Callable[[], int],
        statements: bool,
        count: int | None,
    ) -> None:
        self.lanes: list[Lane] = []
        self.pumps: list[Pump] = []
        self.flow = Flow()
        self._lane_bytes = lane_bytes
        default = LaneOptions(bytes=lane_bytes, statements=statements)
        pairs = [one if isinstance(one, tuple) else (one, default) for one in sinks]
        self._sinks = [sink for sink, _ in pairs]
        for sink, options in pairs:
            lane = Lane(options, wall_ns=wall_ns)
            self.lanes.append(lane)
            self.pumps.append(Pump(lane, sink, options, count=count))
        if not self._sinks:
            self.lanes.append(Lane(default, wall_ns=wall_ns))
        forms: set[str] = {pump.form for pump in self.pumps} or {"json"}
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
