"""`async for` on a stream: a lane like any other, whose consumer takes one record at a time."""

import asyncio
from collections import deque
from collections.abc import Callable

from ..records import AnyRecord
from .lane import Lane
from .rendering import records


class Iteration:
    """
    Hands out what waits in `lane`.

    Args:
        ended: set when nothing more will come.
        failure: what the stream ended by, None where that was as asked.
    """

    def __init__(self, lane: Lane, ended: asyncio.Event, failure: Callable[[], BaseException | None]) -> None:
        self.lane = lane
        self._ended = ended
        self._failure = failure
        self._pending: deque[AnyRecord] = deque()

    async def next(self) -> AnyRecord:
        """Return the next record; raises StopAsyncIteration at the end, or what the stream ended by."""
        lane = self.lane
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
            elif (failure := self._failure()) is not None:
                raise failure
            else:
                raise StopAsyncIteration
        return self._pending.popleft()
