"""One run: carried out, judged, and what it showed."""

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from . import judging, texts
from .covering import bounded, covered
from .judging import Held, Truth
from .plan import Plan
from .scene import Scene, staged


@dataclass
class Shown:
    """What a run showed: what each store held, how that was judged, which faults there were, and what came of them."""

    truth: Truth
    lines: dict[str, list[bytes]]
    stores: dict[str, Held] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)


async def _played(plan: Plan, folder: Path) -> tuple[Scene, dict[str, list[bytes]]]:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)  # no process may stay behind
    async with staged(plan, folder) as scene:
        await scene.act()
        return scene, await scene.holds()


def play(plan: Plan, folder: Path) -> Shown:
    """
    Carry out `plan` in an empty `folder`, and judge it.

    Raises:
        AssertionError: something is not as it should be.
    """
    scene, holds = asyncio.run(_played(plan, folder))
    for name, lines in holds.items():
        (folder / f"{name}.held").write_bytes(b"".join(lines))
    for number, life in enumerate(scene.lives):
        (folder / f"{number}.told").write_text("".join(life.told))
    truth = Truth(scene)
    shown = Shown(truth, holds, faults=scene.counts + scene.sim.counters.faults)
    for store in plan.stores:
        judge = texts.judged if store.raw else judging.judged
        held = shown.stores[store.name] = judge(store, holds[store.name], truth)
        bounded(store, held, truth)
        if store.kind == "file" and not store.raw:
            held.incomplete = covered(store, held, holds[store.name], truth, str(folder / "data"))
    shown.counts = Counter(
        {
            "restarts": len(scene.lives) - 1,
            "spills": sum(life.said("goes to the disk until it has caught up") for life in scene.lives),
            "connections to the broker": scene.wire.visits,
            "acknowledgements lost": scene.wire.lost,
        }
    )
    return shown
