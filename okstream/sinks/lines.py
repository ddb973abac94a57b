"""
JSON lines to a descriptor, such as stdout.

A thread of our own does the writing, so a reader that stalls stops that thread and nothing else. The descriptor is
left as it is: O_NONBLOCK would be seen by every other program that shares it.
"""

import asyncio
import os
import select
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from okstream.entries import Entry
from okstream.errors import ReaderGoneError, SinkError
from okstream.files.disk import pass_on

_LINGER = 0.02
_LOOK_EVERY = 1.0

_Job = tuple[bytes, "asyncio.Future[None]"]


class Lines:
    """Lines to an open descriptor, which stays open; `where` names it in errors."""

    lines_only = joined = True

    def __init__(self, descriptor: int, where: str) -> None:
        self.linger = 0.0 if os.isatty(descriptor) else _LINGER
        self.gone = False
        self._descriptor = descriptor
        self._where = where
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._reader_left: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """
        Start the thread.

        Raises:
            SinkError: the descriptor is not open.
        """
        try:
            mode = os.fstat(self._descriptor).st_mode
        except OSError as error:
            raise SinkError(f"{self._where}: {error.strerror}") from None
        loop = asyncio.get_running_loop()
        self._reader_left = loop.create_future()
        watch = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        # A daemon thread: a reader that never reads must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, args=(loop, watch), name="okstream-lines", daemon=True)
        self._thread.start()

    async def write(self, batch: Sequence[Entry]) -> None:
        """Write the batch; see Sink."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put((b"".join([entry.line for entry in batch]), future))
        await future

    async def reader_gone(self) -> None:
        """Wait until the reader of a pipe has left, even while there is nothing to write."""
        assert self._reader_left is not None
        await asyncio.shield(self._reader_left)

    async def close(self) -> None:
        """End the thread, unless it is stuck in a write."""
        self._jobs.put(None)

    def _run(self, loop: asyncio.AbstractEventLoop, watch: bool) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_LOOK_EVERY if watch else None)
            except Empty:
                if _hung_up(self._descriptor):
                    watch = False
                    _tell(loop, self._reader_left, None)
                continue
            if job is None:
                return
            data, future = job
            try:
                pass_on(self._descriptor, data)
            except BrokenPipeError:
                _tell(loop, future, ReaderGoneError(f"{self._where}: the reader has left"))
            except OSError as error:
                _tell(loop, future, SinkError(f"{self._where}: {error.strerror}"))
            else:
                _tell(loop, future, None)


class Stdout(Lines):
    """Lines to the standard output, which stays open."""

    def __init__(self) -> None:
        super().__init__(1, "stdout")


def _hung_up(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _tell(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[None] | None", error: Exception | None) -> None:
    def settle() -> None:
        if future is None or future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(settle)
