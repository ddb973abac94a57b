"""Run a scenario on each kind of event loop, and prove that it leaves nothing behind."""

import asyncio
import gc
import os
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

PATIENCE = 60.0
"""Seconds that a scenario may take; it hangs otherwise."""

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def run(loop: str, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `scenario`; fail on tasks, descriptors, warnings or complaints of the loop that it leaves."""

    async def watched() -> None:
        said: list[str] = []
        here = asyncio.get_running_loop()
        here.set_exception_handler(lambda _, context: said.append(repr(context)))
        await _warmed()
        before = descriptors()
        async with asyncio.timeout(PATIENCE):
            await scenario()
        tasks = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert tasks == []
        for _ in range(3):  # closed sockets leave the loop in its next rounds
            await asyncio.sleep(0)
        gc.collect()
        assert descriptors() == before
        assert said == []

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(watched())
        gc.collect()


def descriptors() -> dict[str, str]:
    """Return what this process has open, by number."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the one of the listing itself
    return {name: target for name, target in found.items() if not target.startswith("/proc/")}


async def _warmed() -> None:
    """Let the loop open what it keeps for itself."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0)
