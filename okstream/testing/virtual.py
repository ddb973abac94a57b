"""An event loop whose time passes only when there is nothing else to do."""

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_NS = 1_767_225_600_000_000_000
"""What `wall_ns` of a fresh VirtualLoop begins with: 2026-01-01T00:00:00Z."""

_GRACE = 0.001
_QUIET = 1000
"""Moments without a word from any other thread after which they are not waited for any longer."""

_RESOLUTION = 1e-9


class VirtualLoop(asyncio.SelectorEventLoop):
    """
    An event loop with a clock of its own: where it would wait for a timer, it moves the clock there instead.

    Sockets are real, and are looked at before the clock moves: what is under way on loopback arrives first. Threads
    that began later than the loop get a moment, as long as they have something to say; other processes do not know of
    this clock.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._moments = _Selector(self._pass)
        super().__init__(self._moments)

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._moments.silent = 0
        return super().call_soon_threadsafe(callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> "asyncio.Future[T]":
        future = super().run_in_executor(executor, func, *args)
        self._moments.awaited += 1
        future.add_done_callback(self._answered)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for threads as long as they take: `timeout`, which later Pythons give, is over at once by this clock."""
        await super().shutdown_default_executor()

    def _answered(self, future: "asyncio.Future[Any]") -> None:
        self._moments.awaited -= 1

    def time(self) -> float:
        return self._now

    def wall_ns(self) -> int:
        """Return the wall clock that goes with `time`, ns since the epoch."""
        return START_NS + int(self._now * 1e9)

    def _pass(self, seconds: float) -> None:
        self._now += seconds


class _Selector(selectors.BaseSelector):
    """Waits for sockets, never for time."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        self.awaited = 0
        self.silent = 0
        self._threads = self._before = threading.active_count()
        self._real = selectors.DefaultSelector()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._real.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if timeout is None:
            return self._real.select(None)
        if self._others() and (events := self._real.select(_GRACE)):
            return events
        self._jump(max(timeout, _RESOLUTION))  # asyncio is early by less than that, and might be so for ever
        return []

    def _others(self) -> bool:
        """Whether another thread may be about to say something."""
        if self.awaited:
            return True
        threads = threading.active_count()
        if threads != self._threads:
            self._threads, self.silent = threads, 0
        self.silent += 1
        return threads > self._before and self.silent < _QUIET

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def run(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `scenario` in a VirtualLoop and return what it returns."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario())


def wall_ns() -> int:
    """Return the wall clock of the running VirtualLoop; pass it to Stream as `wall_ns`."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise RuntimeError("not in a VirtualLoop; use okstream.testing.run")
    return loop.wall_ns()
