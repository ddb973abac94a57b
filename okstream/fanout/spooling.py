"""
A lane by way of the disk: what does not fit into memory, or everything, goes through a spool and comes out in order.

From the first line that goes to the disk all later ones do, until everything there is written and acknowledged.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial

from ..entries import Entry, unpack
from ..errors import SpoolError, SpoolFullError
from ..options import LaneOptions
from ..records import Gap
from ..sinks import Proven
from ..spool import Corrupt, Spool
from ..spool.proofs import Acknowledged, heads, mark, noted, proven, said
from .batching import Batch, Batches
from .declaring import Holes, Key, Starts, is_data, remember
from .places import Places
from .refused import Refused
from .surroundings import Surroundings
from .trying import Trying

log = logging.getLogger("okstream.sinks")

_READ = 1000
_READ_BYTES = 1024 * 1024
_MANY = 64
_SAVING = 5.0
_FORGETFUL = "%s: after a kill its gap of reason start may begin too early: %s"


class Spooling:
    """
    Hands out what waits in the lane of `batches`, by way of a spool where it has to be.

    `acknowledged` is the last of each subscription that its sink had of what an earlier process put on the disk.

    Args:
        starts, holes: say what is missing; of what the disk has no room for, and of what it spoilt.
        failed: told that the disk is full, and that this is to be the end.
        proves: whether the sink knows itself what it has.
    """

    def __init__(
        self,
        batches: Batches,
        options: LaneOptions,
        name: str,
        starts: Starts,
        holes: Holes,
        around: Surroundings,
        failed: Callable[[SpoolError], None],
        proves: bool,
    ) -> None:
        self._failed = failed
        assert options.spool is not None
        self.acknowledged: dict[Key, Entry] = {}
        self.corrupt = 0
        self._name = name
        self._options = options
        self._batches = batches
        self._lane = batches.lane
        self._starts = starts
        self._holes = holes
        silent = not options.statements
        self._last: dict[Key, Entry] = {}
        self._refused = Refused(around, self._lane.renew, silent, self._last)
        self._marked: set[Key] = set()
        self._done = Acknowledged()
        self._noted: dict[Key, Gap] = {}
        self._spool = Spool(options.spool, limit=options.spool_bytes, when_full=options.spool_full, mark=mark)
        self._disk = Trying(self._spool, name, around)
        self._places: Places | None = None
        if not (proves or options.spool_always or silent):
            self._places = Places(self._spool, partial(self._disk.alarm, _FORGETFUL))
        self._resumed = Starts(around.statements, around.wall_ns)
        self._stays = self._spilling = options.spool_always
        self._busy = True  # until its sink is open
        self._known = self._feeding = self._fed = False
        self._read: Batch | None = None
        self._items = 0
        self._out: Batch | None = None
        self._kept: list[Entry] | None = None
        self._whole = False
        self._keeping = asyncio.Lock()
        self._rest: list[bytes | Corrupt] = []
        self._work = asyncio.Event()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Records on the disk that are not acknowledged."""
        return len(self._spool)

    @property
    def size(self) -> int:
        """What it takes of the disk, bytes."""
        return self._spool.bytes

    @property
    def lost(self) -> int:
        """Records that the disk had no room for, or spoilt."""
        return self._refused.lost + self.corrupt

    @property
    def trouble(self) -> tuple[int, str] | None:
        """Since when the disk cannot be written or read, ns, and why; None where it can."""
        return self._disk.trouble

    async def open(self) -> bool:
        """Take the disk's folder, and know what is in it; False where it had that before. Raises SpoolError."""
        if self._known:
            return False
        opened = await self._spool.open()
        self._spilling = self._spilling or opened.waiting > 0
        if opened.waiting or self._options.spool_always or self._places is not None:
            known = proven(opened.marks)
            self._starts.know(known)
            remember(self._last, heads(opened.marks).values())
            self._marked = {(one.venue, one.channel, one.inst, one.account) for one in known}
        if self._options.spool_always:
            self._done = Acknowledged(opened.done)
        self.acknowledged = heads(opened.done)
        self._noted = said(opened.note)
        self._holes.resume(self._noted)
        if opened.torn:
            log.warning("%s: %d torn bytes were cut off its spool", self._name, opened.torn)
        self._known = True
        return True

    def start(self) -> None:
        """From now on what has to goes to the disk."""
        lane = self._lane
        self._batches.start()
        self._prepare, lane.on_many, lane.many = lane.on_many, self._put, 1
        self._task = asyncio.get_running_loop().create_task(self._feed(), name=f"okstream spool of {self._name}")
        self._overflow()

    def know(self, proven: Iterable[Proven]) -> None:
        """
        The sink proves something, which is said before the first line that it gets, wherever that comes from.

        Between that line and what it has something may be gone that was in memory, or that it had once and lost; what
        the spool remembers of it proves nothing then.
        """
        self._resumed.know(one for one in proven if not self._done.reached_by(one))

    def finish(self) -> None:
        """See Batches."""
        self._batches.finish()
        self._work.set()
        self._changed.set()

    async def close(self, unwritten: Batch | None) -> None:
        """Put what waits on the disk, after what is `unwritten` of a batch, and let go; what is on the disk stays."""
        task = self._task
        if task is not None:
            self._spilling = True
            self.finish()
            with suppress(SpoolError, TimeoutError):
                async with asyncio.timeout(_SAVING):
                    await asyncio.wait([task])
                    await self._keep()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if unwritten is not None and unwritten is self._out:
                self._leave(unwritten)
        if self._places is not None:
            await self._places.close()
        before = self._spool.lost
        with suppress(SpoolError):
            await self._spool.close()
        if gone := self._spool.lost - before:
            log.error("%s: %d records in its spool are lost: their files are gone", self._name, gone)
            self.corrupt += gone

    async def next(self) -> Batch | None:
        """
        See Batches.

        Raises:
            SpoolError: the spool is closed.
        """
        self._busy = False
        try:
            while True:
                self._changed.clear()
                if not self._spilling:
                    batch = await self._batches.next()
                    self._out = self._direct(batch) if batch is not None else self._last_words()
                    if self._places is not None and self._out is not None:
                        self._places.before(self._out.entries)
                    return self._out
                if not (self._spool.unread or self._rest or self._feeding or self._stays or len(self._batches)):
                    self._spilling = False  # all that was there is acknowledged
                elif self._spool.unread or self._rest:
                    if not self._rest:
                        await self._wait_for_more()
                    if (batch := await self._from_disk()) is not None:
                        return batch
                elif self._fed:
                    self._out = self._last_words()
                    return self._out
                else:
                    await self._changed.wait()
        finally:
            self._busy = True
            self._overflow()

    async def hold(self) -> None:
        """What is said of losses and not closed yet is known to the disk before the sink gets it."""
        await self._note(self._noted | self._holes.said)

    async def done(self, batch: Batch) -> None:
        """See Batches."""
        await self._note(self._holes.said)
        if batch is self._read:
            self._read = None
            items, self._items = self._items, 0
            await self._acknowledged(self._spool.ack(items))
            return
        self._out = None
        self._batches.done(batch)
        if self._kept is None:  # else the disk has what came later
            remember(self._last, batch.entries)
            if self._places is not None:
                self._places.after()
        async with self._keeping:
            kept, self._kept = self._kept, None
            if kept:
                await self._acknowledged(self._spool.skip(len(kept)))

    def part(self, batch: Batch, data: int) -> None:
        """See Batches."""
        if batch is self._read:
            batch.data -= data
        else:
            self._batches.part(batch, data)

    # -- from the lane to the sink, or to the disk

    def _put(self) -> None:
        """Called by the lane for each that is put into it."""
        self._overflow()
        if not self._spilling and self._prepare is not None and (len(self._lane) >= _MANY or self._lane.half_full):
            self._prepare()

    def _overflow(self) -> None:
        """Have what waits go to the disk, if that is the way now, or there is too much of it."""
        if not self._spilling and self._busy and len(self._lane) and self._lane.half_full:
            self._disk.alarm(
                "%s is too slow: what comes goes to the disk until it has caught up", level=logging.WARNING
            )
            self._spilling = True
        if self._spilling:
            self._work.set()

    async def _feed(self) -> None:
        try:
            while not self._fed:
                await self._work.wait()
                self._work.clear()
                if self._spilling:
                    await self._keep()
                while self._spilling and (len(self._lane) or len(self._batches)):
                    await self._append(self._batches.take())
                if self._batches.finishing and self._spilling:
                    await self._append(self._batches.last())
                    self._fed = True
                self._changed.set()
        except SpoolError as error:
            self._failed(error)

    async def _keep(self) -> None:
        """Put on the disk what is under way from memory, as all that goes there now is behind it."""
        async with self._keeping:
            while self._places is not None and self._places.waiting:
                await self._places.keep()
            if self._out is not None and self._kept is None:
                entries, self._kept, self._whole = list(self._out.entries), [], False
                remember(self._last, entries)  # the sink gets them, whether the disk has room for them or not
                try:
                    done = await self._disk.append([entry.pack() for entry in entries])
                except SpoolFullError as error:
                    self._kept = entries[: error.accepted]
                    raise
                self._kept, self._whole = entries[:done], done == len(entries)

    def _leave(self, batch: Batch) -> None:
        """`batch` is not written, and never will be but from the disk: what is not there either is lost."""
        self._batches.done(batch)
        if not self._whole:
            known = set(map(id, self._kept or ()))
            self._refused.records += sum(is_data(entry) for entry in batch.entries if id(entry) not in known)

    async def _append(self, batch: Batch) -> None:
        """Put a batch on the disk; raises SpoolFullError where that is to be the end."""
        self._feeding = True
        try:
            entries = self._refused.tend(batch.entries)
            accepted = await self._disk.append([entry.pack() for entry in entries])
            remember(self._last, entries[:accepted])
            self._refused.take(entries, accepted)
            if accepted < len(entries):
                lost = len(entries) - accepted
                self._disk.alarm("%s: its spool is full; %d records are lost, and declared", lost)
            self._batches.done(batch)
        finally:
            self._feeding = False
            self._changed.set()

    def _direct(self, batch: Batch) -> Batch:
        """Return `batch`, which does not go by way of the disk, with what is said of what had no room there."""
        if self._refused:
            before = self._refused.dropped
            batch.entries = self._refused.tend(batch.entries)
            self._refused.take(batch.entries, len(batch.entries))
            self._batches.part(batch, self._refused.dropped - before)
        if self._resumed and self._options.statements:
            before = sum(map(is_data, batch.entries))
            batch.entries = self._resumed.tend(batch.entries)
            self._batches.part(batch, before - sum(map(is_data, batch.entries)))
        return batch

    def _last_words(self) -> Batch | None:
        """Return what is still to be said of what had no room, once nothing follows it; None for nothing."""
        said = self._refused.unsaid()
        return Batch(said, 0) if said else None

    # -- from the disk to the sink

    async def _wait_for_more(self) -> None:
        batches = self._batches
        if not batches.linger or self._fed:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(batches.linger):
                while self._spool.unread < (batches.most or _READ) and not self._fed:
                    self._changed.clear()
                    await self._changed.wait()

    async def _from_disk(self) -> Batch | None:
        batches = self._batches
        items = self._rest or await self._disk.read(batches.most or _READ, batches.most_bytes or _READ_BYTES)
        if not items:
            return None
        self._rest = []
        entries: list[Entry] = []
        for at, item in enumerate(items):
            if isinstance(item, Corrupt):
                if entries:  # what is said of it comes after them
                    items, self._rest = items[:at], items[at:]
                    break
                log.error("%s: %d records in its spool are corrupt or gone", self._name, item.count)
                self.corrupt += item.count
                self._holes.doubt({*self._marked, *self._last})  # said before it is acknowledged
            else:
                entries.append(unpack(item))
        self._items = len(items)
        if self._resumed and self._options.statements:
            entries = self._resumed.tend(entries, again=True)
        self._read = Batch(entries, sum(map(is_data, entries)))
        return self._read

    async def _note(self, gaps: dict[Key, Gap]) -> None:
        if gaps == self._noted:
            return
        try:
            await self._spool.note(noted(gaps.values()))
        except SpoolError as error:
            self._disk.alarm("%s: a gap may stay open if this process is killed: %s", error)
        else:
            self._noted = gaps

    async def _acknowledged(self, work: Awaitable[None]) -> None:
        try:
            await work
        except SpoolError as error:
            self._disk.alarm("%s: what was written may be written again: %s", error)
