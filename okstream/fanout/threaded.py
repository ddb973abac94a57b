"""A sink in a thread of its own, with an event loop of its own: for one whose calls block."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from ..entries import Entry
from ..errors import ReopenError, RetryError
from ..sinks import Sink

T = TypeVar("T")

_JOIN = 2.0


class Threaded:
    """
    Runs `sink` in a thread; whatever it does there holds up nobody.

    A call that is cancelled is cancelled there, too, if it waits for something; one that blocks goes on. `close` waits
    a moment for it, then leaves the thread to itself: it ends with the process at the latest.
    """

    def __init__(self, sink: Sink, name: str) -> None:
        self.sink = sink
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._one: asyncio.Lock | None = None
        self._stuck: threading.Thread | None = None

    async def open(self) -> None:
        """
        Start the thread, and open the sink there.

        Raises:
            RetryError: the thread of an earlier time has not returned from `close` yet.
        """
        if self._stuck is not None and self._stuck.is_alive():
            raise RetryError(f"{self._name} is still closing")
        if self._loop is None:
            started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._thread = threading.Thread(
                target=self._run,
                args=(asyncio.get_running_loop(), started),
                name=f"okstream sink {self._name}",
                daemon=True,  # a sink that never returns must not keep the process from ending
            )
            self._thread.start()
            await started
        await self._do(self.sink.open)

    async def write(self, batch: Sequence[Entry]) -> None:
        await self._do(self.sink.write, batch)

    async def close(self) -> None:
        """Close the sink, if its thread answers, and end the thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        closing = asyncio.ensure_future(self._do(self.sink.close))
        try:
            await asyncio.wait([closing], timeout=_JOIN)
        finally:
            self._loop = self._thread = None
            loop.call_soon_threadsafe(loop.stop)
            if not closing.done():
                closing.cancel()
        self._stuck = thread
        if closing.done():
            await asyncio.to_thread(thread.join, _JOIN)
            closing.result()
        else:
            await asyncio.gather(closing, return_exceptions=True)

    async def ask(self, question: Callable[[], T]) -> T:
        """Return what `question` says when asked in the thread."""

        async def answer() -> T:
            return question()

        return await self._do(answer)

    async def _do(self, call: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        if self._loop is None:
            raise ReopenError(f"{self._name} is closed")

        async def work() -> T:
            assert self._one is not None
            async with self._one:
                try:
                    return await call(*arguments)
                except (SystemExit, KeyboardInterrupt) as error:  # they would end its loop, and no answer ever come
                    raise RuntimeError(f"{self._name} raised {type(error).__name__}") from error

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), self._loop))

    def _run(self, caller: asyncio.AbstractEventLoop, started: "asyncio.Future[None]") -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._loop, self._one = loop, asyncio.Lock()
        caller.call_soon_threadsafe(_settle, started)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


def _settle(started: "asyncio.Future[None]") -> None:
    if not started.done():
        started.set_result(None)
