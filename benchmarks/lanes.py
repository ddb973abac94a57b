"""
What each lane costs a record, beside what one costs: `python -m benchmarks.lanes`.

The usual mix goes through a session and the fan-out to sinks that do nothing, in this process; JSON is made once for
all. Figures are µs of processor time a message; what a lane costs is the difference to one lane, shared by the others.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Sequence

from okstream.entries import Entry
from okstream.fanout import Fanout
from okstream.fanout.surroundings import Surroundings
from okstream.options import LaneOptions
from okstream.statements import Statements

from .parts import Part
from .wires import WIRES

LANES = (0, 1, 3, 10)
AIM = 0.08
"""What a lane may cost, in parts of what the plain script takes for a message."""

_BATCH = 500
_TURNS = 5


class Null:
    """A sink that does nothing."""

    async def open(self) -> None: ...

    async def write(self, batch: Sequence[Entry]) -> None: ...

    async def close(self) -> None: ...


async def _through(lanes: int) -> float:
    """Return the seconds that all messages of a part take, from frame to so many sinks; none: to no lane."""
    part = Part(WIRES["v5"], raw=False)
    around = Surroundings(Statements("0000"), time.time_ns, random.Random(1))
    fanout = Fanout([Null() for _ in range(lanes)], LaneOptions(statements=False), around)
    if not lanes:
        fanout.unread()
    for pump in fanout.pumps:
        await pump.start()
    tasks = [asyncio.create_task(pump.run()) for pump in fanout.pumps]
    receive, binary = part.session.receive, part.binary
    began = time.process_time()
    for at in range(0, len(part.frames), _BATCH):
        for frame in part.frames[at : at + _BATCH]:
            fanout.put(receive(frame, binary, 0.0, 1))
        await asyncio.sleep(0)
    for pump in fanout.pumps:
        pump.finish()
    await asyncio.gather(*tasks)
    took = time.process_time() - began
    assert all(pump.written >= len(part.frames) for pump in fanout.pumps), "a lane lost something"
    return took * 1e6 / len(part.frames)


def measure() -> dict[int, float]:
    """Return µs a message by how many lanes there are, each the best of a few turns."""
    return {lanes: min(asyncio.run(_through(lanes)) for _ in range(_TURNS)) for lanes in LANES}


def report(plain: float | None = None) -> None:
    """Print what lanes cost; `plain` is what the plain script takes for a message of v5, µs."""
    costs = measure()
    print("\nlanes to sinks that do nothing, v5, JSON; µs of processor time a message")
    for lanes, cost in costs.items():
        print(f"  {lanes:>3} lanes{cost:>8.2f}")
    each = (costs[10] - costs[1]) / 9
    verdict = "" if plain is None else f", {each / plain:.3f}x the plain script's {plain:.1f}, aim: at most {AIM}, "
    met = "" if plain is None else "met" if each <= AIM * plain else "missed"
    print(f"  each lane beyond the first {each:.2f}{verdict}{met}", flush=True)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    report()
