"""What a sink does: step by step, so that what it does between two waits can be timed; and apart from what is ours."""

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from ..errors import SinkError

T = TypeVar("T")


@types.coroutine
def timed(
    work: Coroutine[Any, Any, T], clock: Callable[[], float], note: Callable[[float], None]
) -> Generator[Any, Any, T]:
    """Run `work` as awaiting it would; tell `note` the seconds of each step, in which nothing else could run."""
    value: Any = None
    error: BaseException | None = None
    while True:
        began = clock()
        try:
            waited_for = work.send(value) if error is None else work.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            note(clock() - began)
        value, error = None, None
        try:
            value = yield waited_for
        except BaseException as thrown:
            error = thrown


async def uncancelled(work: Awaitable[T]) -> T:
    """
    Await `work`.

    Raises:
        SinkError: something that it waited for was cancelled, and we were not.
    """
    try:
        return await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise SinkError("what it waited for was cancelled, and not by us") from None
