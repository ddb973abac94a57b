"""
What an order book costs beside the plain script: `python -m benchmarks.book`.

Books of 400 levels a side take updates of 16 changes, as in the usual mix. Each update is read anew and dropped, as in
life; the figure is the best of a few turns in µs an update, less what it takes to read it and to look no further. What
follows on what is checked first; then come the levels, where they are kept for lanes that may lose something, and where
they are needed. The plain script's is its whole µs a message of the mix, as `python -m benchmarks` measures it.
"""

import time
from collections.abc import Callable
from typing import Any

import orjson

from okstream.book import BookView, Levels
from okstream.channels import parse
from okstream.dialects import Decoder, load
from okstream.feed import Feed
from okstream.feed.source import Source
from okstream.records import Book
from okstream.statements import Statements

from .market import INSTRUMENTS, Market
from .measure import Blaster, speed
from .wires import WIRES

_MESSAGES = 10_000
_TURNS = 7

Step = Callable[["_Reader", Any], object]


class _Reader:
    """What reads and follows one book."""

    def __init__(self, inst: str, keeps: bool) -> None:
        (sub,) = parse(f"book:{inst}")
        dialect = load("okx-v5")
        self.decode: Decoder = dialect.decoder(sub, "okx")
        self.levels = Levels()
        self.source: Source = Feed(sub, "okx", dialect, Statements("0"), keeps=keeps).source()
        self.source.ask()

    def begin(self, payload: Any) -> None:
        """Take the snapshot."""
        self.source.push(payload, 0)
        self.levels.replace(*_sides(self.read(payload)))

    def read(self, payload: Any) -> Book:
        (book,) = self.decode(payload, 0)
        assert isinstance(book, Book)
        return book


def _sides(book: Book) -> Any:
    return book.sides or (book.bids, book.asks)


def _read(reader: _Reader, payload: Any) -> None:
    """Read an update and leave it."""
    reader.read(payload)


def _followed(reader: _Reader, payload: Any) -> None:
    reader.source.push(payload, 1)


def _applied(reader: _Reader, payload: Any) -> None:
    reader.levels.apply(*_sides(reader.read(payload)))


def _checked(reader: _Reader, payload: Any) -> None:
    reader.levels.apply(*_sides(reader.read(payload)))
    reader.levels.checksum()


def _viewed(reader: _Reader, payload: Any) -> None:
    reader.levels.apply(*_sides(reader.read(payload)))
    _ = BookView(reader.levels, "", None, 0, None, 0.0).best


AIMS = {"sequence only": 0.13, "apply, checksum": 0.42}
"""At most such a part of what the plain script takes for a message."""

STEPS: dict[str, tuple[Step, bool]] = {
    "sequence only": (_followed, False),
    "sequence, kept": (_followed, True),
    "apply": (_applied, False),
    "apply, checksum": (_checked, False),
    "apply, best": (_viewed, False),
}
"""What is done with an update, and whether its feed keeps the book."""


def _cost(step: Step, keeps: bool, snapshots: list[bytes], updates: list[tuple[str, bytes]]) -> float:
    payload = load("okx-v5").payload
    times = []
    for _ in range(_TURNS):
        readers = {inst: _Reader(inst, keeps) for inst in INSTRUMENTS}
        for inst, text in zip(INSTRUMENTS, snapshots, strict=True):
            readers[inst].begin(payload(text))
        began = time.process_time()
        for inst, text in updates:
            step(readers[inst], payload(text))
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
    texts = [_text(frame) for frame in market.messages(_MESSAGES) if b'"books"' in frame]
    updates = [(str(orjson.loads(text)["arg"]["instId"]), text) for text in texts]
    reading = _cost(_read, False, snapshots, updates)
    return {name: _cost(step, keeps, snapshots, updates) - reading for name, (step, keeps) in STEPS.items()}


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
