"""
How late a record is at one sink while another one never returns: `python -m benchmarks.frozen`.

5,000 records a second go through a session and the fan-out in this process, five at a time. What is measured is
the time from the frame to `write` of the healthy sink: alone, beside a sink that awaits for ever, and beside one in a
thread that blocks for ever. What the lane of the other one holds is printed with it.
"""

import argparse
import asyncio
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import quantiles

from okstream.entries import Entry
from okstream.fanout import Fanout
from okstream.fanout.surroundings import Surroundings
from okstream.options import MIB, LaneOptions
from okstream.statements import Statements

from .parts import Part
from .wires import WIRES

SECONDS = 2.0
_RATE, _AT_ONCE = 5_000, 5
_LANE = 4 * MIB


@dataclass
class Healthy:
    """Notes how late each record is: `recv` is when its frame came."""

    late: list[float] = field(default_factory=list)

    async def open(self) -> None: ...

    async def write(self, batch: Sequence[Entry]) -> None:
        now = time.perf_counter_ns()
        self.late += [(now - entry.recv) / 1_000 for entry in batch]

    async def close(self) -> None: ...


class Frozen:
    """Never returns from `write`."""

    async def open(self) -> None: ...

    async def write(self, batch: Sequence[Entry]) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None: ...


class Blocked(Frozen):
    """Never returns from `write`, which it would hold the loop with."""

    threaded = True

    def __init__(self) -> None:
        self.released = threading.Event()

    async def write(self, batch: Sequence[Entry]) -> None:
        self.released.wait()


async def _beside(other: Frozen | None, seconds: float) -> tuple[list[float], int]:
    """Return how late each record was, µs, and how many bytes the other one's lane holds."""
    part, healthy = Part(WIRES["v5"], raw=False), Healthy()
    sinks = [healthy] if other is None else [healthy, other]
    around = Surroundings(Statements("0000"), time.time_ns, random.Random(1))
    fanout = Fanout(sinks, LaneOptions(bytes=_LANE), around)
    for pump in fanout.pumps:
        await pump.start()
    tasks = [asyncio.create_task(pump.run()) for pump in fanout.pumps]
    frames, loop = iter(part.frames), asyncio.get_running_loop()
    began = loop.time()
    for turn in range(int(seconds * _RATE / _AT_ONCE)):
        await asyncio.sleep(began + turn * _AT_ONCE / _RATE - loop.time())
        for _ in range(_AT_ONCE):
            fanout.put(part.session.receive(next(frames), part.binary, 0.0, time.perf_counter_ns()))
    held = max((pump.state.bytes for pump in fanout.pumps[1:]), default=0)
    if isinstance(other, Blocked):
        other.released.set()
    for pump in fanout.pumps:
        pump.finish()
    await tasks[0]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for pump in fanout.pumps:
        await pump.close(1.0)
    return healthy.late, held


def report(seconds: float = SECONDS) -> None:
    """Print how late records are."""
    print(f"\none sink beside another that never returns, {_RATE} records a second; µs from frame to write")
    alone = 0.0
    for name, other in (("alone", None), ("beside a frozen one", Frozen()), ("beside a blocked thread", Blocked())):
        late, held = asyncio.run(_beside(other, seconds))
        cuts = quantiles(late, n=100)
        alone = alone or cuts[98]
        print(f"  {name:<24} p50 {cuts[49]:>7.0f}  p99 {cuts[98]:>7.0f}", end="")
        if other is not None:
            print(f"  p99 {cuts[98] / alone:.2f}x; its lane holds {held / MIB:.1f} MiB of {_LANE // MIB}", end="")
        print(flush=True)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    report()
