"""
The full matrix for a given time: `python -m soak SECONDS`, with the folder of tests on the path.

SEED= repeats one run by the name it was printed with: `SEED=random/17`, `SEED=kills/okx-v5`, `SEED=stores/17`.
"""

# ruff: noqa: T201
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from multiprocessing import active_children

from stores.plan import plan as plan_of_stores

from .episodes import Proof
from .faults import ALL
from .runs import run
from .schedule import plan

_EACH = 3
"""After so many runs of a stream in virtual time comes one of stores, in real time."""

_PLANS: dict[str, Callable[[int], object]] = {"random": plan, "stores": plan_of_stores}
_FIXED = [f"{name}/{dialect}" for name in ("rotations", "kills") for dialect in ALL] + ["stalled/1"]


def names(first: int) -> Iterator[str]:
    """All runs: those in real time take long and do little, so one goes on beside the others from the start."""
    yield f"freezes/{first}"
    yield f"stores/{first}"
    yield from _FIXED
    for seed in count(first):
        yield f"random/{seed}"
        if (seed - first) % _EACH == _EACH - 1:
            yield f"stores/{seed}"


def soak(seconds: float, first: int) -> int:
    """Run for about `seconds`; print what was shown, and return how it ends."""
    deadline = time.monotonic() + seconds
    total, done, wanted = Proof(), [], names(first)
    workers = (os.cpu_count() or 1) + 1
    with ProcessPoolExecutor(workers, max_tasks_per_child=10) as pool:
        under_way: dict[Future[Proof], str] = {}
        while under_way or time.monotonic() < deadline:
            while len(under_way) < workers and time.monotonic() < deadline:
                name = next(wanted)
                under_way[pool.submit(run, name, max(70.0, min(seconds - 20, 600.0)))] = name
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                name = under_way.pop(future)
                if (error := future.exception()) is not None:
                    _blame(name, error)
                    children = active_children()
                    pool.shutdown(wait=False, cancel_futures=True)
                    for child in children:
                        child.terminate()
                    return 1
                total.add(future.result())
                done.append(name)
                print(f"{name}: {_line(future.result())}", flush=True)
    _prove(total, done)
    missing = [name for name in _FIXED if name not in done]
    if missing:
        print(f"too short for {', '.join(missing)}")
    return 0


def _blame(name: str, error: BaseException) -> None:
    print("".join(traceback.format_exception(error)), file=sys.stderr)
    kind, _, what = name.partition("/")
    print(f"VIOLATION in {name}: {str(error)[:2000]}\nrepeat it: make soak SEED={name}", flush=True)
    if kind in _PLANS:
        print(_PLANS[kind](int(what)))


def _line(proof: Proof) -> str:
    report = proof.report
    if proof.stores:
        return _counts(proof.stores)
    passed = f"{report.pushes} pushed, {report.delivered} delivered, {report.excused} excused"
    return f"{proof.seconds:.0f} s of market, {passed}, {sum(report.gaps.values())} gaps"


def _prove(total: Proof, done: list[str]) -> None:
    report = total.report
    print(f"\nruns               {total.runs}")
    print(f"seeds              {' '.join(done)}")
    print(f"virtual hours      {total.seconds / 3600:.2f}")
    print(f"pushes logged      {report.pushes}")
    print(f"records delivered  {report.delivered}")
    print(f"inside of gaps     {report.excused}")
    print(f"books compared     {report.checked}")
    print(f"gaps by reason     {_counts(report.reasons)}")
    print(f"longest gap        {report.longest:.1f} s beyond a cadence")
    print("lost               0")
    print("double             0")
    print(f"faults             {_counts(total.faults)}")
    print(f"rotations          {total.rotations}")
    print(f"kills              {total.kills}")
    print(f"stores             {_counts(total.stores)}")


def _counts(counted: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counted.items())) or "none"


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    again = os.environ.get("SEED", "")
    if "/" in again:
        proof = run(again, seconds)
        print(f"{again}: {_line(proof)}")
        return 0
    return soak(seconds, int(again) if again else random.SystemRandom().randrange(1_000_000))


if __name__ == "__main__":
    sys.exit(main())
