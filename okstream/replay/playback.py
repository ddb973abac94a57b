"""
Plays journals and recordings into sinks, or to whoever iterates: lanes block, so that nothing is dropped.

    async with okstream.Playback([Path("journal")]) as playback:
        async for record in playback:
            ...
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from okstream.errors import ConfigError, JournalError
from okstream.fanout import Fanout
from okstream.fanout.lanes import Lanes
from okstream.fanout.surroundings import Surroundings
from okstream.feed import Feed
from okstream.feed.continuity import Delivery
from okstream.journal.strangers import stranger
from okstream.journal.volumes import journals, read
from okstream.lifetime import Lifetime, finished
from okstream.options import MIB, LaneOptions
from okstream.records import AnyRecord
from okstream.sinks import Sink
from okstream.statements import Statements
from okstream.states import SinkState
from okstream.venues import Venue

from . import Replay, recordings

log = logging.getLogger("okstream.journal")

LANE_BYTES = 8 * MIB
"""Default bound of a lane: who reads a file can wait, and what is read should stay in the processor's caches."""

DRAIN = 3600.0
"""Seconds that sinks have for what waits when all is read."""

_LOOK_NS = 1_000_000_000
"""Between two calls that tell the monotonic time lies no more, for each connection is looked at each second."""

_EVERY = 256
"""Calls between two looks at the lanes."""


class Playback:
    """
    A replay; it is opened and closed once. Sinks never drop: the reading waits for them.

    Args:
        places: files, or folders with journals; segments of a journal follow each other.
        sinks: where records go; without any, iterate.
        venue: whose recordings are that do not say it themselves.
        speed: 1 for as fast as it was recorded, 2 for twice as fast; None for as fast as it goes.
        statements: whether sinks without options of their own get gaps and statuses, too.
        progress: told how many bytes of the files were read.

    Raises:
        ConfigError: there is no such file, or the options of a sink make no sense.
    """

    def __init__(
        self,
        places: Iterable[str | Path],
        sinks: Sequence[Sink | tuple[Sink, LaneOptions]] = (),
        *,
        venue: Venue | None = None,
        speed: float | None = None,
        statements: bool = True,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        if speed is not None and not speed > 0:
            raise ConfigError(f"a speed is more than 0, not {speed:g}")
        self._journals = journals([Path(place) for place in places])
        self.files = [path for journal in self._journals for path in journal]
        self._venue = venue
        self._speed = speed
        self._progress = progress
        self.replay = Replay(self._put, self._forget)
        default = LaneOptions(bytes=LANE_BYTES, statements=statements, when_full="block")
        around = Surroundings(Statements("replay"), lambda: self.replay.wall, random.Random())
        self._fanout = Fanout([_blocking(one, default) for one in sinks], default, around)
        self.replay.parsed, self.replay.raw = self._fanout.parsed, self._fanout.raw
        self._life = Lifetime()
        self._lanes = Lanes(self._fanout, lambda: Delivery(None), self._life.fail, waits=True)
        self._opened = False
        self._began: tuple[float, float] | None = None
        self._told: tuple[float, Any] | None = None
        self.lost = 0

    async def __aenter__(self) -> Self:
        if self._opened or self._life.ended.is_set():
            raise RuntimeError("a Playback is opened once; make another")
        try:
            await self._lanes.open()
        except BaseException:
            await self.close()
            raise
        self._opened = True
        self._life.start(self._play(), "replay")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, drain: float = DRAIN) -> None:
        """Stop reading, let the sinks write what waits for at most `drain` seconds, and leave nothing behind."""
        await finished(self._close(drain), self._lanes.hurry)

    async def wait(self) -> None:
        """
        Wait until everything is read, or nobody takes it any more.

        Raises:
            JournalError: something could not be read; all else was. SinkError: the last sink failed.
        """
        await self._life.ended.wait()
        self._life.check()

    def __aiter__(self) -> AsyncIterator[AnyRecord]:
        return self

    async def __anext__(self) -> AnyRecord:
        return await (self._life.iteration or self._life.iterate(self._fanout.read())).next()

    @property
    def sinks(self) -> list[SinkState]:
        """How each sink is doing."""
        return self._fanout.states

    # -- inside

    def _put(self, deliveries: list[Delivery]) -> None:
        self._fanout.put(deliveries)

    def _forget(self, feed: Feed) -> None:
        self._fanout.forget(feed)

    async def _close(self, drain: float) -> None:
        await self._life.stop()
        self._life.end()
        self.lost = await self._lanes.close(drain)

    async def _play(self) -> None:
        wrong: list[Path] = []
        for journal in self._journals:
            self._began = self._told = None  # what lies between two journals is not waited for
            for number, path in enumerate(journal):
                try:
                    await self._one(path)
                except JournalError as error:
                    self.replay.leave()
                    if len(self.files) == 1:
                        raise
                    log.error("%s", error)
                    wrong += journal[number:]
                    break
        if wrong:
            how_many = f"{len(wrong)} of {len(self.files)} files"
            raise JournalError(f"{how_many} could not be played to their end, the first of them {wrong[0]}")
        if self.replay.lost:
            raise JournalError(f"{self.replay.lost} inputs are missing in the journal: gaps say where")
        self._life.end()

    async def _one(self, path: Path) -> None:
        before = self.replay.inputs
        for several in self._several(path):
            if self._speed is not None:
                await self._due(several[0], self._speed)
            try:
                self.replay.make_all(several)
            except JournalError as error:
                raise JournalError(f"{path}:{self.replay.inputs - before + 1}: {error}") from None
            await self._room()

    def _several(self, path: Path) -> Iterator[list[dict[str, Any]]]:
        """Yield calls together as far as they are due together, and no more than fit between two looks at the lanes."""
        several: list[dict[str, Any]] = []
        try:
            for call in self._calls(path):
                if several and (len(several) == _EVERY or self._speed is not None):
                    yield several
                    several = []
                several.append(call)
        except JournalError:
            if several:
                yield several
            raise
        if several:
            yield several

    def _calls(self, path: Path) -> Iterator[dict[str, Any]]:
        first = next(read(path), None)
        if first is None:
            raise JournalError(f"{path}: it is empty")
        if (why := stranger(first)) is not None:
            raise JournalError(f"{path}: {why}")
        if recordings.is_recording(first):
            yield from recordings.calls(path, self._venue, self._progress)
            return
        for number, line in enumerate(read(path, self._progress), 1):
            try:
                call = orjson.loads(line)
            except ValueError:
                call = None
            if type(call) is not dict:
                raise JournalError(f"{path}:{number}: it is no line of a journal")
            yield call

    async def _room(self) -> None:
        await asyncio.sleep(0)
        await self._fanout.room()
        if self._fanout.reading is not None:
            await self._fanout.reading.room()

    async def _due(self, call: dict[str, Any], speed: float) -> None:
        """Wait until `call` is due, by the journal's monotonic clock: the other may have been set meanwhile."""
        at: Any = call.get("now")
        wall: Any = call.get("wall")
        if type(at) in (int, float):
            self._told = at, wall
        elif self._told is not None and type(wall) is type(self._told[1]) is int:
            at = self._told[0] + min(max(wall - self._told[1], 0), _LOOK_NS) / 1e9
        else:
            return
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now, at
        began, first = self._began
        if (delay := began + (at - first) / speed - now) > 0:
            await asyncio.sleep(delay)


def _blocking(one: Sink | tuple[Sink, LaneOptions], default: LaneOptions) -> tuple[Sink, LaneOptions]:
    if not isinstance(one, tuple):
        return one, default
    sink, options = one
    return sink, replace(options, when_full="block", spool=None, spool_always=False)
