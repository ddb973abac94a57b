"""
What an order book costs beside the plain script: `python -m benchmarks.book`.

Books of 400 levels a side take updates of 16 changes, as in the usual mix. Each update is parsed anew and dropped, as
in life; the figure is the best of a few turns in µs an update, less what parsing alone takes. The plain script's is its
whole µs a message of the mix, as `python -m benchmarks` measures it.
"""

import time
from collections.abc import Callable
from typing import Any

import orjson

from okstream.book import BookView, Levels
from okstream.records import Row

from .market import Market
from .measure import Blaster, speed
from .wires import WIRES

_MESSAGES = 10_000
_TURNS = 7

Step = Callable[[Levels, list[Row], list[Row]], object]


def _nothing(levels: Levels, bids: list[Row], asks: list[Row]) -> None:
    """Take an update and leave it."""


def _checked(levels: Levels, bids: list[Row], asks: list[Row]) -> None:
    levels.apply(bids, asks)
    levels.checksum()


def _viewed(levels: Levels, bids: list[Row], asks: list[Row]) -> None:
    levels.apply(bids, asks)
    _ = BookView(levels, "", None, 0, None, 0.0).best


AIMS = {"apply": 0.13, "apply, checksum": 0.42}
"""At most such a part of what the plain script takes for a message."""

STEPS: dict[str, Step] = {"apply": Levels.apply, "apply, checksum": _checked, "apply, best": _viewed}


def _books(texts: list[bytes]) -> dict[str, Levels]:
    books = {}
    for text in texts:
        message = orjson.loads(text)
        levels = books[message["arg"]["instId"]] = Levels()
        levels.replace(message["data"][0]["bids"], message["data"][0]["asks"])
    return books


def _cost(step: Step, snapshots: list[bytes], updates: list[bytes]) -> float:
    times = []
    for _ in range(_TURNS):
        books = _books(snapshots)
        began = time.process_time()
        for text in updates:
            message: dict[str, Any] = orjson.loads(text)
            data = message["data"][0]
            step(books[message["arg"]["instId"]], data["bids"], data["asks"])
        times.append(time.process_time() - began)
    return min(times) * 1e6 / len(updates)


def _snapshot(snapshots: list[bytes], after: Callable[[Levels], object]) -> float:
    data = orjson.loads(snapshots[0])["data"][0]
    times = []
    for _ in range(20 * _TURNS):
        levels = Levels()
        began = time.perf_counter()
        levels.replace(data["bids"], data["asks"])
        after(levels)
        times.append(time.perf_counter() - began)
    return min(times) * 1e6


def _text(frame: bytes) -> bytes:
    return frame[frame.index(b"{") :]


def costs() -> dict[str, float]:
    """Return what each step takes, in µs an update."""
    market = Market(WIRES["v5"])
    snapshots = [_text(frame) for frame in market.snapshots()]
    updates = [_text(frame) for frame in market.messages(_MESSAGES) if b'"books"' in frame]
    parsing = _cost(_nothing, snapshots, updates)
    return {name: _cost(step, snapshots, updates) - parsing for name, step in STEPS.items()}


def report(plain: float) -> None:
    """Print what a book takes beside the `plain` µs that the plain script's message takes."""
    print(
        f"\na book's own work, an update of 16 changes on 400 levels a side; the plain script's message: {plain:.1f} µs"
    )
    print(f"  {'step':<22}{'µs':>6}{'part':>7}{'aim':>7}")
    for name, cost in costs().items():
        aim = AIMS.get(name)
        verdict = "" if aim is None else f"{aim:>7.2f} {'met' if cost / plain <= aim else 'missed'}"
        print(f"  {name:<22}{cost:>6.2f}{cost / plain:>7.2f}{verdict}", flush=True)


def main() -> None:
    """Measure the plain script, too; print one line for each figure."""
    with Blaster("v5", _MESSAGES) as blaster:
        report(min(speed(blaster, "plain").cost for _ in range(3)))
    snapshots = [_text(frame) for frame in Market(WIRES["v5"]).snapshots()]
    print(f"  {'snapshot':<22}{_snapshot(snapshots, lambda levels: None):>6.0f}")
    print(f"  {'snapshot, best':<22}{_snapshot(snapshots, lambda levels: levels.top(1)):>6.0f}")


if __name__ == "__main__":
    main()
