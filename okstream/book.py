"""
One instrument's order book: its levels, their checksum, and a view to read them by.

It knows rows, not messages: whether an update may be applied at all is decided elsewhere.
"""

from bisect import bisect_left
from decimal import Context, Decimal, InvalidOperation
from math import inf, isfinite
from zlib import crc32

from .errors import ConfigError
from .records import Row

_CHECKED = 25
_PATIENCE = 1000
_PRECISION = Context(prec=800)
"""Enough digits for the mid of any two prices that floats can sort."""


BOOK_BYTES = 384 * 1024
"""What a book of 400 levels a side takes, measured roughly."""


class Levels:
    """
    One instrument's levels of both sides. Prices and sizes stay the exchange's own text; a float is only a sort key.

    Nothing is sorted until `top`, `checksum` or `crossed` asks for it; from then on the order is kept, and dropped
    again after a thousand updates in which nobody asked. `changes` counts what was replaced or applied: while it
    stands still, so do the levels.
    """

    __slots__ = ("_asks", "_bids", "_read", "changes")

    def __init__(self) -> None:
        self.changes = 0
        self._read = 0
        self._bids = _Side(-1.0)
        self._asks = _Side(1.0)

    @property
    def depth(self) -> tuple[int, int]:
        """How many bids and asks there are."""
        return len(self._bids.rows), len(self._asks.rows)

    @property
    def crossed(self) -> bool:
        """Whether the best bid is not below the best ask, as it may be before trading opens."""
        self._order()
        bids, asks = self._bids.keys, self._asks.keys
        return bool(bids and asks) and -bids[0] >= asks[0]

    def replace(self, bids: list[Row], asks: list[Row]) -> None:
        """
        Take a snapshot in place of what there was; rows of size zero are dropped.

        Raises:
            ValueError: as in `apply`.
        """
        self.changes += 1
        self._bids = _Side(-1.0)
        self._asks = _Side(1.0)
        self._bids.fill(bids)
        self._asks.fill(asks)

    def apply(self, bids: list[Row], asks: list[Row]) -> None:
        """
        Take an update: each row is what its level is from now on; size zero removes it, if it is there.

        A price is the level it names however it is spelled: "8.80" replaces "8.8".

        Raises:
            ValueError: a price is no finite number, or no float can tell it from another one here; or a size is no
                finite number, or negative. Part of the update may have been applied: drop these levels.
        """
        self.changes += 1
        if self.changes - self._read > _PATIENCE:
            self._forget()
        self._bids.apply(bids)
        self._asks.apply(asks)

    def checksum(self) -> int:
        """Return the CRC32 of the best 25 of each side as the exchange computes it, signed."""
        self._order()
        bids, asks = self._bids.rows, self._asks.rows
        best_bids, best_asks = self._bids.prices[:_CHECKED], self._asks.prices[:_CHECKED]
        parts: list[str] = []
        # Made anew each time: to keep the texts of the best 25 costs more than it saves, for most updates touch them.
        for bid, ask in zip(best_bids, best_asks, strict=False):
            parts += (bid, bids[bid][1], ask, asks[ask][1])
        common = len(parts) // 4
        for price in best_bids[common:]:
            parts += (price, bids[price][1])
        for price in best_asks[common:]:
            parts += (price, asks[price][1])
        number = crc32(":".join(parts).encode())
        return number - (number >> 31 << 32)

    def top(self, depth: int | None = None) -> tuple[list[Row], list[Row]]:
        """Return the best `depth` bids and asks, or all, best first; the lists are new, the rows are shared."""
        self._order()
        return self._bids.top(depth), self._asks.top(depth)

    def _order(self) -> None:
        self._read = self.changes
        if not self._bids.ordered:
            self._bids.sort()
            self._asks.sort()

    def _forget(self) -> None:
        self._read = self.changes
        self._bids.forget()
        self._asks.forget()


class _Side:
    """
    The levels of one side.

    `rows` finds a row by the text of its price, which is all that most changes need. Only where a text is not known is
    it made a number, to learn from `spelled` whether the level stands here in another spelling. `keys` and `prices`
    are parallel, best first, while `ordered`; bids have negative keys, so that both sides ascend.
    """

    __slots__ = ("keys", "ordered", "prices", "rows", "sign", "spelled")

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self.rows: dict[str, Row] = {}
        self.spelled: dict[float, str] = {}
        self.ordered = False
        self.keys: list[float] = []
        self.prices: list[str] = []

    def fill(self, levels: list[Row]) -> None:
        """Take the first rows of all: at once if each is a level of its own, else one by one."""
        sign = self.sign
        rows = {row[0]: row for row in levels if 0.0 < float(row[1]) < inf}
        spelled = {float(price) * sign: price for price in rows}
        if len(levels) == len(spelled) and 0.0 not in spelled and isfinite(sum(spelled)):
            self.rows, self.spelled = rows, spelled
        else:
            self.apply(levels)

    def apply(self, changes: list[Row]) -> None:
        rows = self.rows
        for row in changes:
            price = row[0]
            size = float(row[1])
            if 0.0 < size < inf:
                if price not in rows:
                    self._appear(price)
                rows[price] = row
            elif size == 0.0:
                self._go(price)
            else:
                raise ValueError(f"{row[1]!r} is no size")

    def _appear(self, price: str) -> None:
        key = float(price) * self.sign
        if not 0.0 < abs(key) < inf:
            _same("0", price)
        known = self.spelled.setdefault(key, price)
        if known is not price:
            self._respell(key, known, price)
        elif self.ordered:
            place = bisect_left(self.keys, key)
            self.keys.insert(place, key)
            self.prices.insert(place, price)

    def _go(self, price: str) -> None:
        key = float(price) * self.sign
        known = self.spelled.pop(key, None)
        if known is None:
            if not 0.0 < abs(key) < inf:
                _same("0", price)
            return
        if known != price:
            _same(known, price)
        del self.rows[known]
        if self.ordered:
            place = bisect_left(self.keys, key)
            del self.keys[place]
            del self.prices[place]

    def _respell(self, key: float, known: str, price: str) -> None:
        _same(known, price)
        del self.rows[known]
        self.spelled[key] = price
        if self.ordered:
            self.prices[bisect_left(self.keys, key)] = price

    def sort(self) -> None:
        spelled = self.spelled
        self.keys = sorted(spelled)
        self.prices = [spelled[key] for key in self.keys]
        self.ordered = True

    def forget(self) -> None:
        self.ordered = False
        self.keys = []
        self.prices = []

    def top(self, depth: int | None) -> list[Row]:
        rows = self.rows
        return [rows[price] for price in self.prices[:depth]]


def _same(known: str, price: str) -> None:
    """
    Make sure that two prices whose floats cannot be told apart are one number: better no book than one mixed up.

    What a float makes zero, infinite or nan is held against "0", the only such price there is.
    """
    try:
        same = Decimal(known) == Decimal(price)
    except InvalidOperation:
        same = False
    if not same:
        raise ValueError(f"{price!r} is no price, or none that a float can tell from {known!r}")


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
