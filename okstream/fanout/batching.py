"""What waits in a lane, as batches of lines: by count, by bytes, by time."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..entries import Entry
from ..feed.continuity import Delivery
from ..options import LaneOptions
from ..sinks import Sink
from .lane import BATCH, Lane
from .rendering import bare, entries, joined

_READY_BYTES = 1024 * 1024
"""What is made into lines for a sink beforehand, at most a lane's share; what goes beyond stays in the lane."""

# As measured: an entry and its line cost something of their own.
_LINE_WEIGHT = 105


@dataclass(slots=True)
class Batch:
    """Lines that are written together: `data` of them data records, holding `weight` bytes of the lane's bound."""

    entries: list[Entry]
    data: int
    weight: int = 0


class Batches:
    """
    Takes what waits in `lane`, and hands it out as batches of lines.

    `under_way` counts data records that were taken out of the lane and are not `done`. `left`: how many more data
    records (raw: messages) are wanted, None for all; nothing is handed out after the last but what ends the stream.

    Where nobody else wants the records and the sink has `lines_only`, they are let go of as soon as they are lines; and
    where it takes them `joined`, what is made into lines at once is one entry.

    A batch has at most `most` lines, or the line more that fills `most_bytes`; its first waits at most `linger` seconds
    for others.

    Args:
        options, sink: what says how large a batch is.
        left: see above.
        tend: what is to be said between lines.
    """

    def __init__(
        self,
        lane: Lane,
        options: LaneOptions,
        sink: Sink,
        left: int | None = None,
        tend: Callable[[list[Entry]], list[Entry]] = lambda made: made,
    ) -> None:
        self.lane = lane
        self.left = left
        self.under_way = 0
        self.finishing = False
        self.ended = False
        self.most: int | None = _fact(options.batch_records, sink, "batch_records")
        self.most_bytes: int | None = _fact(options.batch_bytes, sink, "batch_bytes")
        self.linger: float = _fact(options.linger, sink, "linger") or 0.0
        self._latest = options.when_full == "latest"
        self._form = options.form
        self._statements = options.statements
        self._tend = tend
        self.lines_only = bool(getattr(sink, "lines_only", False)) and options.spool is None
        self._ready: list[Entry] = []
        self._data = 0
        self._bytes = 0
        self._weight = 0
        self._dropped = 0
        self._enough = asyncio.Event()
        self._cut_at = 0.0
        sized = self.most is not None or self.most_bytes is not None
        # A batch that was asked for may fill half the lane; what nobody asked for is an eighth.
        self._cap = options.bytes // 2 if sized else min(_READY_BYTES, lane.share)
        self._joined = self.lines_only and not sized and bool(getattr(sink, "joined", False))
        self._eager = not sized and options.linger is None

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def lost(self) -> int:
        """Data records that are not handed out or not `done`, of those that are wanted."""
        return self.dropped + self.under_way + (0 if self.reached else self.lane.waiting)

    @property
    def dropped(self) -> int:
        """Data records that the lane dropped, of those that are wanted."""
        return self._dropped if self.left == 0 else self.lane.dropped

    @property
    def reached(self) -> bool:
        """Whether all that were wanted have been taken."""
        return self.left == 0

    def start(self) -> None:
        """From now on lines are made beforehand, as they come."""
        self.lane.on_many = self._prepare
        if self.most is not None:
            self.lane.many = min(self.lane.many, self.most)

    def finish(self) -> None:
        """Nothing is waited for any more: what is there is handed out, then nothing."""
        self.finishing = True
        self._enough.set()
        self.lane.ready.set()

    async def next(self) -> Batch | None:
        """Wait for a batch; return None when there is nothing more to come."""
        lane, loop = self.lane, asyncio.get_running_loop()
        since = self._cut_at
        while not self.ended:
            if not self._ready and not len(lane):
                if self.finishing:
                    last = self.last()
                    return last if last.entries else None
                lane.ready.clear()
                await lane.ready.wait()
                since = loop.time()
                continue
            enough = self.most is not None and len(self._ready) + len(lane) >= self.most
            if self.linger and not self.finishing and not enough and not self._worthwhile:
                await self._wait_for_more(since + self.linger)
            self._fill()
            if self._ready:
                self._cut_at = loop.time()
                return self._cut()
        return None

    def done(self, batch: Batch) -> None:
        """`batch` is where it shall be, or lost."""
        self.under_way -= batch.data
        self.lane.release(batch.weight, batch.data)

    def part(self, batch: Batch, data: int) -> None:
        """So many records of `batch` are done before the others."""
        batch.data -= data
        self.under_way -= data
        self.lane.release(0, data)

    def take(self) -> Batch:
        """Return what waits at once, whatever a batch is; for who does not await `next`."""
        self._make(self.lane.take(BATCH, self.lane.share))
        return self._cut(whole=True)

    def last(self) -> Batch:
        """Return what is to be said at the very end."""
        self.ended = True
        self._make(self.lane.unsaid())
        return self._cut(whole=True)

    @property
    def _worthwhile(self) -> bool:
        """Whether what is ready should not wait: nobody asked for more than the lane makes beforehand at once."""
        return self._complete or (self._eager and bool(self._ready))

    @property
    def _complete(self) -> bool:
        if self.most is not None and len(self._ready) >= self.most:
            return True
        return (self.most_bytes is not None and self._bytes >= self.most_bytes) or self._weight >= self._cap

    async def _wait_for_more(self, until: float) -> None:
        """Wait until a batch is complete, or its first line is as old as it may be."""
        self._enough.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._enough.wait()

    def _fill(self) -> None:
        lane = self.lane
        self._make(lane.take(self._room(), lane.share))
        if self.most is not None or self.most_bytes is not None:
            while len(lane) and not self._complete:
                self._make(lane.take(self._room(), lane.share))

    def _room(self) -> int:
        if self.most is None:
            return BATCH
        return max(0, min(BATCH, self.most - len(self._ready)))

    def _prepare(self) -> None:
        """Make lines of what waits; called by the lane, from within the socket's read."""
        if self._latest:  # what is no line yet can still make way for what is later
            if self.most is not None and len(self.lane) >= self.most:
                self._enough.set()
            return
        if self._weight < self._cap and not self._complete:
            self._make(self.lane.take(BATCH, self.lane.share))
            self.lane.ready.set()
        if self._worthwhile:
            self._enough.set()

    def _make(self, deliveries: list[Delivery]) -> None:
        if self.left is not None:
            deliveries = self._counted(deliveries)
        weight = 0
        if self._form == "raw" or (self.lines_only and self.lane.alone):
            made, data, length = (joined if self._joined else bare)(deliveries, self._form, self._statements)
        else:
            made = entries(deliveries, self._form, self._statements)
            data, length = 0, sum([len(entry.line) for entry in made])
            for delivery in deliveries:
                data += len(delivery.records)
                weight += delivery.weight
        if (tended := self._tend(made)) is not made:
            data -= sum([entry.feed is not None for entry in made]) - sum([entry.feed is not None for entry in tended])
            made, length = tended, sum([len(entry.line) for entry in tended])
        self._ready += made
        self._bytes += length
        weight += length + _LINE_WEIGHT * len(made)
        self._weight += weight
        self._data += data
        self.under_way += data
        self.lane.release(-weight, -data)

    def _cut(self, whole: bool = False) -> Batch:
        """Return what a batch may hold of what is ready."""
        ready = self._ready
        count = len(ready) if self.most is None or whole else min(len(ready), self.most)
        if self.most_bytes is not None and self._bytes > self.most_bytes and not whole:
            total = 0
            for at in range(count):
                total += len(ready[at].line)
                if total > self.most_bytes and at:
                    count = at
                    break
        if count == len(ready):
            batch, self._ready = ready, []
            data, weight = self._data, self._weight
            self._data = self._weight = self._bytes = 0
        else:
            batch, self._ready = ready[:count], ready[count:]
            data = sum([entry.feed is not None for entry in batch])
            weight = self._weight * count // len(ready)
            self._data -= data
            self._weight -= weight
            self._bytes -= sum([len(entry.line) for entry in batch])
        return Batch(batch, data, weight)

    def clear(self) -> None:
        """Let go of what is ready, and of what is under way."""
        self._ready, self._data, self._weight, self._bytes, self.under_way = [], 0, 0, 0, 0

    def _counted(self, deliveries: list[Delivery]) -> list[Delivery]:
        assert self.left is not None
        if self.left:
            self._dropped = self.lane.dropped
        kept: list[Delivery] = []
        for delivery in deliveries:
            if self.left == 0:
                # What ends the stream is said all the same.
                kept += [delivery] if delivery.feed is None else []
                continue
            if self._form == "raw":
                self.left -= delivery.text is not None
            else:
                if len(delivery.records) > self.left:
                    delivery = Delivery(delivery.feed, delivery.statements, delivery.records[: self.left])
                self.left -= len(delivery.records)
            kept.append(delivery)
        return kept


def _fact(option: Any, sink: Sink, name: str) -> Any:
    """Return what was asked for, or else what the sink says of itself."""
    return option if option is not None else getattr(sink, name, None)
