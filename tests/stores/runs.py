"""One run: carried out, judged, and what it showed."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from okstream.exits import LOST, OK

from .covering import bounded, covered
from .judging import Held, Truth, judged
from .plan import Plan
from .scene import Scene, staged


@dataclass
class Shown:
    """What a run showed: how each store was judged, and what befell it."""

    scene: Scene
    stores: dict[str, Held] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


async def _played(plan: Plan, folder: Path) -> tuple[Scene, dict[str, list[bytes]], float]:
    loop = asyncio.get_running_loop()
    async with staged(plan, folder) as scene:
        began = loop.time()
        await scene.act()
        return scene, await scene.holds(), loop.time() - began


def play(plan: Plan, folder: Path) -> Shown:
    """
    Carry out `plan` in an empty `folder`, and judge it.

    Raises:
        AssertionError: something is not as it should be.
    """
    scene, holds, seconds = asyncio.run(_played(plan, folder))
    assert set(scene.codes) <= {OK, LOST}, f"it exited with {scene.codes}"
    for name, lines in holds.items():
        (folder / f"{name}.held").write_bytes(b"".join(lines))
    for number, life in enumerate(scene.lives):
        (folder / f"{number}.told").write_text("".join(life.told))
    truth = Truth(scene)
    shown = Shown(scene, seconds=seconds)
    for store in plan.stores:
        held = shown.stores[store.name] = judged(store, holds[store.name], truth)
        bounded(store, held, truth)
        if store.kind == "file":
            held.incomplete = covered(store, holds[store.name], truth, str(folder / "data"))
    shown.faults = scene.counts + scene.sim.counters.faults
    return shown
