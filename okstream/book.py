"""
One instrument's order book: its levels, their checksum, and a view to read them by.

It knows rows, not messages: whether an update may be applied at all is decided elsewhere.
"""

from decimal import Context, Decimal
from typing import TYPE_CHECKING

from .errors import ConfigError
from .records import Row

if TYPE_CHECKING:
    from .levels import Levels as Levels
else:
    try:
        from ._compiled import Levels
    except ImportError:  # it was not built, or is not wanted
        from .levels import Levels

COMPILED = Levels.__module__ != "okstream.levels"
"""Whether levels are those of the compiled part."""

_PRECISION = Context(prec=800)
"""Enough digits for the mid of any two prices that floats can sort."""

BOOK_BYTES = (448 if COMPILED else 832) * 1024
"""
What a book takes at most, as measured, with as many levels and as long rows as there may be (see levels.py). One of 400
levels a side takes 70 KiB, or 180.
"""


class BookView:
    """
    One instrument's book as it stands, to be read before control returns to the event loop.

    It copies no levels, so it costs next to nothing; what it returns is the caller's to keep, the view is not. Once
    the book has moved on, it raises ConfigError rather than mix two moments.

    Args:
        inst: the instrument.
        ts: time of the last change, ms since the epoch, the exchange's clock; None where it gave none.
        recv: when that arrived, ns since the epoch, our clock.
        seq: sequence number of the last change; None where the exchange numbers none.
        age: seconds since the book's last message, keep-alives included.
    """

    __slots__ = ("_changes", "_levels", "age", "inst", "recv", "seq", "ts")

    def __init__(self, levels: Levels, inst: str, ts: int | None, recv: int, seq: int | None, age: float) -> None:
        self._levels = levels
        self._changes = levels.changes
        self.inst = inst
        self.ts = ts
        self.recv = recv
        self.seq = seq
        self.age = age

    def __repr__(self) -> str:
        return f"BookView(inst={self.inst!r}, ts={self.ts}, recv={self.recv}, seq={self.seq}, age={self.age})"

    @property
    def best(self) -> tuple[Row | None, Row | None]:
        """The best bid and the best ask; None where a side is empty."""
        bids, asks = self.top(1)
        return (bids[0] if bids else None), (asks[0] if asks else None)

    @property
    def bids(self) -> list[Row]:
        """All bids, best first."""
        return self.top()[0]

    @property
    def asks(self) -> list[Row]:
        """All asks, best first."""
        return self.top()[1]

    @property
    def depth(self) -> tuple[int, int]:
        """How many bids and asks there are."""
        return self._present().depth

    @property
    def mid(self) -> Decimal | None:
        """Half of best bid plus best ask, exact; None where a side is empty."""
        bid, ask = self.best
        if bid is None or ask is None:
            return None
        return _PRECISION.divide(_PRECISION.add(Decimal(bid[0]), Decimal(ask[0])), Decimal(2))

    def top(self, depth: int | None = None) -> tuple[list[Row], list[Row]]:
        """Return the best `depth` bids and asks, or all, best first."""
        return self._present().top(depth)

    def _present(self) -> Levels:
        if self._levels.changes != self._changes:
            raise ConfigError(f"the book of {self.inst} has changed since this view of it was taken; take another")
        return self._levels
