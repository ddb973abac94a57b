"""What is closed once, whoever asks for it, and whoever of them is cancelled meanwhile."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..errors import SinkError, reason

log = logging.getLogger("okstream.sinks")

CLOSING = 10.0
"""Seconds that a sink has to close."""

GRACE = 1.0
"""Seconds that it has where everything is to end at once, or to end what was cancelled."""


class Closing:
    """
    Closes a sink, then what stands before it.

    Args:
        name: what the log calls the sink.
        close: closes the sink; what it raises is logged.
        then: follows, whatever became of that.
    """

    def __init__(self, name: str, close: Callable[[], Awaitable[None]], then: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._close = close
        self._then = then
        self._task: asyncio.Task[None] | None = None
        self._limit: asyncio.Timeout | None = None

    @property
    def begun(self) -> bool:
        """Whether anybody has asked for it."""
        return self._task is not None

    async def within(self, seconds: float, *, leave: bool = False) -> None:
        """
        Close what is not closed, and wait for it. The sink has so many seconds, fewer if it has fewer already; or it is
        left as it is.
        """
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._work(seconds, leave), name=f"okstream sink {self._name} closing")
        elif self._limit is not None:
            until = loop.time() + seconds
            if (known := self._limit.when()) is not None and until < known and not self._limit.expired():
                self._limit.reschedule(until)
        await asyncio.shield(self._task)

    async def _work(self, seconds: float, leave: bool) -> None:
        try:
            if not leave:
                await self._closed(asyncio.ensure_future(self._call()), seconds)
        finally:
            self._limit = None
            await self._then()

    async def _call(self) -> None:
        try:
            await self._close()
        except SystemExit as error:  # it would end the loop
            raise SinkError("it wants the process to end") from error

    async def _closed(self, closing: asyncio.Future[None], seconds: float) -> None:
        """Wait for `closing`, however it ends; where it does not, also not when it is cancelled, go on without it."""
        why: str | None = None
        try:
            async with asyncio.timeout(seconds) as self._limit:
                await asyncio.wait([closing])
        except TimeoutError:
            why = f"it takes more than {seconds:g} s"
        finally:
            closing.cancel()
        await asyncio.wait([closing], timeout=GRACE)
        if closing.done() and not closing.cancelled() and (error := closing.exception()) is not None:
            why = reason(error)  # whatever a sink of anybody's raises: closed for good, it can do no more harm
        if why is not None:
            log.warning("%s was not closed properly: %s", self._name, why)
