"""The sinks of a stream while it runs: they come and go, and fail, each for itself."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from ..errors import ConfigError, SinkError, reason
from ..feed.continuity import Continuity, Delivery
from ..options import LaneOptions
from ..sinks import Sink
from ..states import SinkState
from . import Fanout
from .closing import CLOSING, GRACE
from .filters import Filters
from .pump import Pump

log = logging.getLogger("okstream.sinks")


class Lanes:
    """
    Runs what empties the lanes of `fanout`.

    Args:
        head: what the stream of a sink begins with that comes later.
        forsaken: told what the last sink failed by, or one whose failure is to be the end.
        waits: whether the producer can wait: that of a replay.

    Raises:
        ConfigError: a lane is to make its producer wait, which cannot.
    """

    def __init__(
        self,
        fanout: Fanout,
        head: Callable[[], Delivery],
        forsaken: Callable[[BaseException], None],
        *,
        waits: bool = False,
    ) -> None:
        for pump in [] if waits else fanout.pumps:
            _live(pump.options)
        self.fanout = fanout
        self._head = head
        self._forsaken = forsaken
        self._tasks: dict[Pump, asyncio.Task[None]] = {}
        self._hurried = False
        self._adding = asyncio.Lock()
        self._opening: Pump | None = None
        self._closed = False

    async def open(self) -> None:
        """
        Open all sinks, and begin to write.

        Raises:
            SinkError: one cannot be opened, or none.
        """
        for pump in self.fanout.pumps:
            await pump.start()
        for pump in list(self.fanout.pumps):
            if pump.failure is None:
                self._run(pump)
            else:
                self.fanout.leave(pump)
        if self.fanout.forsaken:
            raise _failure(self.fanout.pumps[0])

    async def add(self, sink: Sink, options: LaneOptions | None, feeds: Iterable[Continuity]) -> str:
        """
        Open one more sink, beside what it will get of `feeds`; return its name.

        Raises:
            ConfigError: its options make no sense here. SinkError: it cannot be opened, or all are closed meanwhile.
        """
        async with self._adding:
            _live(options or LaneOptions())
            filters = Filters(options or LaneOptions())
            for feed in feeds:
                filters.check(feed.venue, feed.sub)
            pump = self.fanout.add(sink, options)
            pump.lane.put([self._head()])
            self._opening = pump
            try:
                await pump.start()
                if self._closed:
                    raise SinkError(f"{pump.name}: the stream was closed while this was being opened")
            except BaseException:
                self.fanout.remove(pump)
                await pump.close(GRACE)
                raise
            finally:
                self._opening = None
            if pump.failure is None:
                self._run(pump)
            else:
                self.fanout.leave(pump)
            return pump.name

    async def remove(self, name: str, drain: float) -> SinkState:
        """
        Let a sink write what waits for at most `drain` seconds, and close it; return how it ended.

        Raises:
            ConfigError: there is no sink of that name.
        """
        pump = self.fanout.find(name)
        if pump is self._opening:
            raise ConfigError(f"{name} is still being opened")
        self.fanout.leave(pump)
        await self._end([pump], drain)
        state = pump.state
        if pump in self.fanout.pumps:
            self.fanout.remove(pump)
        return state

    async def close(self, drain: float) -> int:
        """Let all sinks write what waits for at most `drain` seconds, and close them; return what was lost."""
        self._closed = True
        await self._end([pump for pump in self.fanout.pumps if pump is not self._opening], drain)
        return self.fanout.lost

    def hurry(self) -> None:
        """Leave out what takes time."""
        self._hurried = True
        for task in self._tasks.values():
            task.cancel()

    async def _end(self, pumps: list[Pump], drain: float) -> None:
        for pump in pumps:
            pump.finish()
        tasks = [self._tasks[pump] for pump in pumps if pump in self._tasks]
        late: set[asyncio.Task[None]] = set(tasks)
        if tasks and not self._hurried:
            _, late = await asyncio.wait(tasks, timeout=drain)
        for task in late:
            task.cancel()
        await asyncio.gather(*map(self._close, pumps))

    async def _close(self, pump: Pump) -> None:
        """Close a sink that has ended what it does, or was told to."""
        within = GRACE if self._hurried else CLOSING
        task = self._tasks.get(pump)
        if task is not None:
            await asyncio.wait([task], timeout=within)
        stuck = task is not None and not task.done()  # a sink is never closed while it writes
        if stuck:
            self._tasks.pop(pump, None)
            log.error("%s does not end what it does, and is left to itself", pump.name)
        await pump.close(within, leave=stuck)

    def _run(self, pump: Pump) -> None:
        pump.on_failed = self._failed
        task = asyncio.get_running_loop().create_task(pump.run(), name=f"okstream sink {pump.name}")
        self._tasks[pump] = task
        task.add_done_callback(lambda done: self._ended(pump, done))

    def _failed(self, pump: Pump) -> None:
        """Nobody else notices, unless it was the last."""
        self.fanout.leave(pump)
        if pump.fatal or self.fanout.forsaken:
            self._forsaken(_failure(pump))

    def _ended(self, pump: Pump, task: asyncio.Task[None]) -> None:
        self._tasks.pop(pump, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._forsaken(error)


def _failure(pump: Pump) -> SinkError:
    """What `pump` failed by, as an output that failed: also where that is a mistake of the sink's own."""
    if isinstance(pump.failure, SinkError):
        return pump.failure
    assert pump.failure is not None
    error = SinkError(f"{pump.name}: {reason(pump.failure, pump.name)}")
    error.__cause__ = pump.failure
    return error


def _live(options: LaneOptions) -> None:
    if options.when_full == "block":
        raise ConfigError("`block` is for replays: an exchange does not wait")
