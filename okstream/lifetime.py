"""How long a stream or a replay runs: until it is closed, or something fails that keeps it going."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from .fanout.iteration import Iteration
from .fanout.lane import Lane


class Lifetime:
    """
    From the opening of a stream or replay to its end: its tasks, and who iterates over it.

    `failure` is what it ended by, None where that was as asked.

    Args:
        over: told that nothing more will come; maybe several times.
    """

    def __init__(self, over: Callable[[], None] = lambda: None) -> None:
        self.ended = asyncio.Event()
        self.failure: BaseException | None = None
        self.iteration: Iteration | None = None
        self._over = over
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` beside the rest; where it fails, that is the end."""
        task = asyncio.get_running_loop().create_task(work, name=f"okstream {name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def iterate(self, lane: Lane) -> Iteration:
        """Hand out what comes to `lane`, until the end."""
        self.iteration = Iteration(lane, self.ended, lambda: self.failure)
        return self.iteration

    def check(self) -> None:
        """Raise what it ended by."""
        if self.failure is not None:
            raise self.failure

    def fail(self, error: BaseException) -> None:
        """End by `error`, unless by another one before."""
        self.failure = self.failure or error
        self.hurry()
        self.end()

    def end(self) -> None:
        """Wake all who wait for something that will not come."""
        self.ended.set()
        self._over()
        if self.iteration is not None:
            self.iteration.lane.ready.set()

    def hurry(self) -> None:
        """Tell its tasks to end."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """End its tasks."""
        await cancelled(self._tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)


async def finished(work: Coroutine[Any, Any, None], hurry: Callable[[], None] = lambda: None) -> None:
    """Run `work` to its end. Cancelled meanwhile: tell it to `hurry`, and be cancelled when it has ended."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            hurry()
    if cancelled is None:
        return task.result()
    await asyncio.gather(task, return_exceptions=True)
    raise cancelled


async def cancelled(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel `tasks` and wait until they have ended, whatever they end with."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.gather(*tasks, return_exceptions=True)


async def first(*works: Coroutine[Any, Any, Any]) -> None:
    """Run all `works` until one of them has ended, whatever it ends with."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancelled(tasks)
