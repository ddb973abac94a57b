"""Wall time derived from the event loop's clock, so that virtual time moves the exchange's clock too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """`now` is the loop's monotonic time in seconds, `ms` the exchange's wall clock since the epoch."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start_ms: int | None, offset: float) -> None:
        self._loop = loop
        self._zero = loop.time()
        start = time.time_ns() // 1_000_000 if start_ms is None else start_ms
        self._start = start + round(offset * 1000)

    def now(self) -> float:
        return self._loop.time()

    def ms(self) -> int:
        return self._start + int((self._loop.time() - self._zero) * 1000)

    def later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, call)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(ms: int) -> str:
    """2020-12-08T09:08:57.715Z, exact for any ms."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
