"""
What empties a lane into its sink: batches, attempts, what can never be written, and how the sink is doing.

A sink does nobody harm. It is tried again for as long as it says that this may help; when it fails for good, or by a
mistake of its own, its lane is let go, and all others go on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from ..entries import Entry
from ..errors import (
    ConfigError,
    ReaderGoneError,
    RejectedError,
    ReopenError,
    RetryError,
    SinkError,
    SpoolError,
    SpoolFullError,
    reason,
)
from ..options import LaneOptions, check
from ..sinks import Remembering, Sink
from ..states import Condition, SinkState
from .alarms import Alarms
from .batching import Batch, Batches
from .closing import CLOSING, Closing
from .deadletters import DeadLetters
from .declaring import Holes, Starts, is_data
from .lane import Lane
from .rejects import Rejects, parted
from .spooling import Spooling
from .steps import timed, uncancelled
from .surroundings import Surroundings
from .threaded import Threaded

log = logging.getLogger("okstream.sinks")

SLOW = 0.05
"""Seconds that a step of a sink's `write` may hold the loop without being counted."""

_ANYTHING = (Exception, SystemExit)  # whatever a sink of anybody's raises: the boundary between it and okstream


class Pump:
    """
    Empties one lane into one sink, until told to finish.

    `done` is set when `count` data records (raw: messages) are written, or when nothing more ever will be; `failure` is
    what the sink failed by.

    Args:
        name: what states, logs and dead letters call the sink.
        count: data records after which nothing more is written.

    Raises:
        ConfigError: the options make no sense.
    """

    def __init__(
        self, sink: Sink, options: LaneOptions, name: str, around: Surroundings, *, count: int | None = None
    ) -> None:
        self.name = name
        self.options = options
        self.lane = Lane(options, wall_ns=around.wall_ns)
        self.done = asyncio.Event()
        self.failure: BaseException | None = None
        self.written = 0
        self.on_failed: Callable[[Pump], None] = lambda pump: None
        check(options)
        facts = options.threaded if options.threaded is not None else getattr(sink, "threaded", False)
        self._inner = sink
        self._sink: Sink | Threaded = Threaded(sink, name) if facts else sink
        self._around = around
        self.lane.on_drop = self._dropping
        self._starts = Starts(around.statements, around.wall_ns)
        silent = not options.statements
        live = self.lane.losses.last
        self._warn = Alarms().say
        self._holes = Holes("sink", around.statements, around.wall_ns, self.lane.renew, silent, live)
        self._batches = Batches(self.lane, options, sink, count, self._tended)
        self._spooling: Spooling | None = None
        if options.spool is not None:
            self._spooling = Spooling(
                self._batches, options, name, self._starts, self._holes, around, self._stopped,
                isinstance(sink, Remembering) and options.form != "raw",  # a file does not know of texts whose they are
            )  # fmt: skip
        path = options.dead_letters
        letters = None if path is None else DeadLetters(path, options.dead_letter_bytes, name)
        from_disk = options.spool is not None
        self._rejects = Rejects(name, self._holes, letters, live, from_disk, around.wall_ns, self._warn)
        self._closing = Closing(name, self._sink.close, self._put_away)
        self._pending: Sequence[Entry] = ()
        self._later: Sequence[Entry] = ()
        self._batch: Batch | None = None
        self._task: asyncio.Task[Any] | None = None
        self._end: SpoolError | None = None
        self._opened = False
        self._state: Condition = "starting"
        self._since = around.wall_ns()
        self._detail: str | None = None
        self._given_up = self._retries = self._slow = 0

    @property
    def closed(self) -> bool:
        """Whether the sink is closed, or is being closed."""
        return self._closing.begun

    @property
    def lost(self) -> int:
        """Data records that the sink did not get, of those it was to get; once it is over, those that waited, too."""
        gone = self._rejects.records - self._rejects.letters + self._holes.dropped + self._given_up
        if self._spooling is not None:
            gone += self._spooling.lost
        return gone + (self._batches.lost if self.closed else self._batches.dropped)

    @property
    def fatal(self) -> bool:
        """Whether it failed by what is to end the stream."""
        return isinstance(self.failure, SpoolFullError)

    @property
    def state(self) -> SinkState:
        """How the sink is doing."""
        now, lane, spooling = self._around.wall_ns(), self.lane, self._spooling
        times = [at for at in (self._pending[0].recv if self._pending else None, lane.oldest) if at is not None]
        state, since, detail = self._state, self._since, self._detail
        if spooling is not None and spooling.trouble is not None and state == "ok":
            state, (since, detail) = "recovering", spooling.trouble
        return SinkState(
            name=self.name, state=state, since=since, detail=detail,
            waiting=lane.waiting + self._batches.under_way, bytes=lane.weight + lane.held,
            dropped=lane.dropped, written=self.written, retries=self._retries, rejected=self._rejects.records,
            slow_writes=self._slow, lost=self.lost, dead_letters=self._rejects.letters,
            spooled=spooling.waiting if spooling else 0, spool_bytes=spooling.size if spooling else 0,
            oldest=max(0.0, (now - min(times)) / 1e9) if times else None,
            excused=isinstance(self.failure, ReaderGoneError) or (
                self.failure is not None and not self._opened and self.options.on_start == "ignore"
            ),
        )  # fmt: skip

    # -- its life

    async def start(self) -> None:
        """Open spool and sink, unless they are to be tried later; raises SinkError where that fails and is the end."""
        if self.options.on_start == "retry":
            with suppress(SpoolError):  # `run` tries it again
                await self._prepare(begin=True)
            return
        try:
            await self._prepare(begin=False)
            await self._open()
        except ConfigError:
            raise
        except _ANYTHING as error:
            if not isinstance(error, SinkError | OSError):
                log.error("%s cannot be opened, which is a mistake of its own", self.name, exc_info=True)
            spool = "its spool " if isinstance(error, SpoolError) else ""
            if self.options.on_start == "fail":
                if isinstance(error, ReaderGoneError):
                    raise
                raise SinkError(f"{self.name}: {spool}{reason(error, self.name)}") from error
            log.warning("%s cannot be opened and is left out: %s%s", self.name, spool, reason(error))
            self._fail(error)
        else:
            if self._spooling is not None:
                self._spooling.start()

    async def run(self) -> None:
        """Write what comes; returns after `finish`, or when the sink has failed: see `failure`."""
        if self.failure is not None:
            return
        self._task = asyncio.current_task()
        try:
            await self._pumped()
        except asyncio.CancelledError:
            own = self._task is not None and not self._task.cancelling()
            if not own and (self._end is None or self._task is None or self._task.uncancel()):
                raise
            error = self._end or SinkError("what it waited for was cancelled, and not by us")
            log.error("%s failed: %s", self.name, error)
            self._fail(error)
        except SinkError as error:
            level = logging.INFO if isinstance(error, ReaderGoneError) else logging.ERROR
            log.log(level, "%s failed: %s", self.name, reason(error, self.name))
            self._fail(error)
        except _ANYTHING as error:
            log.exception("%s failed, which is a mistake of its own", self.name)
            self._fail(error)
        if self._state == "failed":
            await self.close()

    def finish(self) -> None:
        """Write what waits, then return from `run`."""
        (self._spooling or self._batches).finish()

    async def close(self, within: float = CLOSING, *, leave: bool = False) -> None:
        """Close the sink, `within` so many seconds; `run` has ended, or will not: then the sink is to be left."""
        self.done.set()
        await self._closing.within(within, leave=leave)

    async def _put_away(self) -> None:
        """What is left can still be put on the disk."""
        if self._spooling is not None:
            if self._batch is not None and self._pending:
                self._batch.entries = [*self._pending, *self._later]
            await self._spooling.close(self._batch)

    async def _pumped(self) -> None:
        attempt = 0
        while not self._opened:
            try:
                await self._prepare(begin=True)
                await self._open()
            except (RetryError, SpoolError, OSError) as error:
                await self._let_go()
                attempt = await self._pause(attempt, error)
        supply = self._spooling or self._batches
        if self._spooling is None:
            self._batches.start()
        while (batch := await supply.next()) is not None:
            self._batch = batch
            await self._deliver(batch)
            self._batch = None
            if self._spooling is not None:
                await self._spooling.done(batch)
            else:
                self._batches.done(batch)
            if self._batches.reached:
                self.done.set()
        if self._holes:
            await self._deliver(Batch(self._holes.unsaid(), 0))

    async def _prepare(self, *, begin: bool) -> None:
        """Open the spool, where there is one and it is not open, and `begin` to use it."""
        if self._spooling is not None and await self._spooling.open():
            self._rejects.resume(self._spooling.acknowledged)
            if begin:
                self._spooling.start()

    async def _let_go(self) -> None:
        try:
            await self._sink.close()
        except (SinkError, OSError) as error:
            log.info("%s was not closed properly: %s", self.name, reason(error))

    async def _open(self) -> None:
        await uncancelled(self._sink.open())
        first, self._opened = not self._opened, True
        if first and isinstance(self._inner, Remembering):
            proven = self._inner.proven
            told = await self._sink.ask(proven) if isinstance(self._sink, Threaded) else proven()
            (self._spooling or self._starts).know(told)
        self._enter("ok", None)

    def _stopped(self, error: SpoolError) -> None:
        """The disk is full, and that is to be the end, whatever the sink is at."""
        self._end = error
        if self._task is not None:
            self._task.cancel()

    def _fail(self, error: BaseException) -> None:
        """Let go of all that waits, unless it can be put on the disk."""
        self.failure = error
        if self._spooling is None:
            self._given_up = self.lane.waiting + self._batches.under_way
            self.lane.clear()
            self._batches.clear()
            self._batch, self._pending = None, ()
        self._enter("failed", reason(error))
        self.done.set()
        self.on_failed(self)

    def _enter(self, state: Condition, detail: str | None) -> None:
        if state != self._state:
            self._state, self._since = state, self._around.wall_ns()
        self._detail = detail

    # -- its batches

    def _tended(self, made: list[Entry]) -> list[Entry]:
        return self._starts.tend(made) if self._starts and self.options.statements else made

    async def _deliver(self, batch: Batch) -> None:
        """Write `batch`, the end of a subscription only once what was before it is dealt with."""
        for part, self._later in parted(batch.entries):
            await self._written(batch, part)
        self._pending = ()
        if self._state != "ok":
            log.info("%s is written to again", self.name)
            self._enter("ok", None)

    async def _written(self, batch: Batch, pending: Sequence[Entry]) -> None:
        """Write what is `pending` of `batch`, however many attempts it takes."""
        self._pending, attempt = pending, 0
        while True:
            if self._holes:
                pending = await self._around_holes(batch, pending)
            if not pending:
                return
            self._pending = pending
            left: Sequence[int] = ()
            rejected: dict[int, str] = {}
            trouble: Exception | None = None
            try:
                await self._write(pending)
            except RejectedError as error:
                rejected = error.rejected
            except RetryError as error:
                trouble, rejected = error, error.rejected
                named = range(len(pending)) if error.pending is None else sorted(set(error.pending))
                left = [at for at in named if at not in rejected]
            except OSError as error:
                trouble, left = error, range(len(pending))
            if trouble is not None and left:
                attempt = 0 if len(left) < len(pending) else attempt
                if self.options.retries is not None and attempt >= self.options.retries:
                    rejected = rejected | dict.fromkeys(left, f"after {attempt + 1} attempts: {trouble}")
                    left = ()
            await self._account(batch, pending, left, rejected)
            pending = [pending[at] for at in left]
            if pending and trouble is not None:
                attempt = await self._pause(attempt, trouble)
                if not isinstance(trouble, RetryError) or isinstance(trouble, ReopenError):
                    attempt = await self._reopened(attempt)

    async def _write(self, entries: Sequence[Entry]) -> None:
        work: Awaitable[None] = self._sink.write(entries)
        if isinstance(work, Coroutine):
            await timed(work, self._around.clock, self._stepped)
        else:
            await work

    async def _reopened(self, attempt: int) -> int:
        """Close the sink, and open it as soon as that is possible; return how many attempts that makes."""
        while True:
            await self._let_go()
            try:
                await self._sink.open()
            except (RetryError, OSError) as error:
                attempt = await self._pause(attempt, error)
            else:
                return attempt

    async def _pause(self, attempt: int, error: BaseException) -> int:
        """Wait before the next attempt: at random, twice as long each time."""
        if self._state != "starting":
            if self._state == "ok":
                log.warning("%s is tried again until it works: %s", self.name, reason(error))
            self._enter("recovering", reason(error))
        else:
            if self._detail is None:
                log.warning("%s cannot be opened yet: %s", self.name, reason(error))
            self._detail = reason(error)
        self._retries += 1
        most = min(self.options.retry_most, self.options.retry_first * 2.0 ** min(attempt, 30))
        await asyncio.sleep(self._around.chance.uniform(0.0, most))
        return attempt + 1

    async def _account(
        self, batch: Batch, pending: Sequence[Entry], left: Sequence[int], rejected: dict[int, str]
    ) -> None:
        """Count what was written and what never will be, and see to the latter."""
        if not left and not rejected and not self._later:
            written, data = pending, batch.data
        else:
            out = {*left, *rejected}
            written = [entry for at, entry in enumerate(pending) if at not in out]
            data = sum(map(is_data, written))
            if rejected:
                self._part(batch, await self._rejects.bury(pending, out, rejected))
            self._part(batch, data)
        self.written += data
        self._rejects.remember(() if self._batches.lines_only else written)

    def _part(self, batch: Batch, data: int) -> None:
        """So many records of `batch` are dealt with before the others."""
        (self._spooling or self._batches).part(batch, data)

    async def _around_holes(self, batch: Batch, pending: Sequence[Entry]) -> Sequence[Entry]:
        before = self._holes.dropped
        told = self._rejects.tend(pending)
        self._part(batch, self._holes.dropped - before)
        if self._spooling is not None:
            self._pending = told
            await self._spooling.hold()
        return told

    def _stepped(self, seconds: float) -> None:
        if seconds > SLOW:
            self._slow += 1
            self._warn("slow", "%s held everything up for %.0f ms in `write`", self.name, seconds * 1000)

    def _dropping(self) -> None:
        self._warn("full", "%s does not keep up: %d dropped so far, gaps say where", self.name, self.lane.dropped)
