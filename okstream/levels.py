"""
The levels of one instrument, in Python: what they are is said here.

book.py has them made by the compiled part where that is there, which must be the same in everything but time.
"""

import re
from bisect import bisect_left
from decimal import Decimal, InvalidOperation
from math import inf, isfinite
from zlib import crc32

import orjson

MOST_LEVELS = 1000
"""
So many levels a side holds at most, also between two rows of one message: no channel ever showed over 452, and where
one message replaces them all the new ones may come first. The three numbers here stand in the compiled part, too.
"""

ROW_BYTES = 128
"""The longest row, as JSON; real ones have up to 45 bytes."""

SIDE_BYTES = 2 * MOST_LEVELS * ROW_BYTES
"""The longest side of one message, as JSON: all levels replaced by others."""

_CHECKED = 25
_PATIENCE = 1000

Row = list[str]
"""As in records, which must not be imported here: they are written by the compiled part, which imports this."""

Rows = list[Row] | bytes
"""Levels of one side, or the JSON of them."""


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

    def replace(self, bids: Rows, asks: Rows) -> None:
        """
        Take a snapshot in place of what there was; rows of size zero are dropped.

        Raises:
            ValueError: as in `apply`.
        """
        self.changes += 1
        self._bids = _Side(-1.0)
        self._asks = _Side(1.0)
        self._bids.fill(read(bids))
        self._asks.fill(read(asks))

    def apply(self, bids: Rows, asks: Rows) -> None:
        """
        Take an update: each row is what its level is from now on; size zero removes it, if it is there.

        A price is the level it names however it is spelled: "8.80" replaces "8.8".

        Raises:
            ValueError: a price is no finite number, or no float can tell it from another one here; a size is no
                finite number, or negative; or there are too many levels on a side, too long a row, or too much of it
                all. Part of the update may have been applied: drop these levels.
        """
        self.changes += 1
        if self.changes - self._read > _PATIENCE:
            self._forget()
        self._bids.apply(read(bids))
        self._asks.apply(read(asks))

    def checksum(self) -> int:
        """Return the CRC32 of the best 25 of each side as the exchange computes it, signed."""
        self._order()
        bids, asks = self._bids.summed(), self._asks.summed()
        both = min(len(bids), len(asks))
        parts = bids + asks
        # In turns, as far as both sides go; then what the deeper one has more.
        parts[: 2 * both : 2], parts[1 : 2 * both : 2] = bids[:both], asks[:both]
        parts[2 * both :] = bids[both:] or asks[both:]
        number = crc32(b":".join(parts))
        return number - (number >> 31 << 32)

    def top(self, depth: int | None = None) -> tuple[list[Row], list[Row]]:
        """Return the best `depth` bids and asks, or all, best first; the caller's to keep."""
        bids, asks = self.sides(depth)
        return orjson.loads(bids), orjson.loads(asks)

    def sides(self, depth: int | None = None) -> tuple[bytes, bytes]:
        """Return the same as JSON."""
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


Level = tuple[bytes, bytes]
"""A price, and what follows it in a row of JSON behind the quote that begins the size; nothing where the level goes."""

# With so few digits no size is beyond a float, nor below it. Possessive, so that nothing is tried twice.
_LEVELS = re.compile(
    rb'\[(?=[^\]]{0,%d}+\])"([.-9]++)","(?:0++(?:\.0*+)?+"[^\]]*+|([0-9]{1,40}+\.?+[0-9]{0,40}+"[^\]]*+))'
    % (ROW_BYTES - 2)
).findall


def read(rows: Rows) -> list[Level]:
    """
    Return the levels of `rows`.

    Raises:
        ValueError: a size is no finite number, or negative; or a row, or all of them, are too long.
    """
    text = rows if type(rows) is bytes else orjson.dumps(rows)
    if len(text) > SIDE_BYTES:
        raise ValueError(f"a side of {len(text)} bytes is longer than {SIDE_BYTES}")
    levels: list[Level] = _LEVELS(text)
    if len(levels) + 1 == text.count(b"[") == text.count(b"]"):
        return levels
    levels = []
    for price, size, *more in orjson.loads(text):
        number = float(size)
        if not 0.0 <= number < inf:
            raise ValueError(f"{size!r} is no size")
        if (length := len(orjson.dumps([price, size, *more]))) > ROW_BYTES:
            raise ValueError(f"a row of {length} bytes is longer than {ROW_BYTES}")
        levels.append((orjson.dumps(price)[1:-1], orjson.dumps([size, *more])[2:-1] if number else b""))
    return levels


class _Side:
    """
    The levels of one side, as the text that they came in: that takes a third of the memory of lists, and of the time
    to get hold of it.

    `rows` finds a level by the text of its price, which is all that most changes need. Only where a text is not known
    is it made a number, to learn from `spelled` whether the level stands here in another spelling. `keys` and `prices`
    are parallel, best first, while `ordered`; bids have negative keys, so that both sides ascend. From the first
    checksum on, `texts` has the `price:size` of the best 25 and of no other; until then it is empty.
    """

    __slots__ = ("keys", "ordered", "prices", "rows", "sign", "spelled", "texts")

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self.rows: dict[bytes, bytes] = {}
        self.spelled: dict[float, bytes] = {}
        self.ordered = False
        self.keys: list[float] = []
        self.prices: list[bytes] = []
        self.texts: dict[bytes, bytes] = {}

    def fill(self, levels: list[Level]) -> None:
        """Take the first levels of all: at once if each is one of its own, else one by one."""
        sign = self.sign
        rows = {price: rest for price, rest in levels if rest}
        spelled = {float(price.decode()) * sign: price for price in rows}
        whole = len(levels) == len(spelled) <= MOST_LEVELS
        if whole and 0.0 not in spelled and isfinite(sum(spelled)):
            self.rows, self.spelled = rows, spelled
        else:
            self.apply(levels)

    def apply(self, levels: list[Level]) -> None:
        rows, texts = self.rows, self.texts
        for price, rest in levels:
            if not rest:
                self._go(price)
            elif price in rows:
                rows[price] = rest
                if price in texts:
                    self._sum(price)
            else:
                self._appear(price, rest)

    def _appear(self, price: bytes, rest: bytes) -> None:
        key = float(price.decode()) * self.sign
        if not 0.0 < abs(key) < inf:
            same(b"0", price)
        if len(self.rows) == MOST_LEVELS and key not in self.spelled:
            raise ValueError(f"a side has more than {MOST_LEVELS} levels")
        known = self.spelled.setdefault(key, price)
        if known is not price:
            self._respell(key, known, price, rest)
            return
        self.rows[price] = rest
        if self.ordered:
            place = bisect_left(self.keys, key)
            self.keys.insert(place, key)
            self.prices.insert(place, price)
            if self.texts and place < _CHECKED:
                self._sum(price)
                for left in self.prices[_CHECKED : _CHECKED + 1]:
                    del self.texts[left]

    def _go(self, price: bytes) -> None:
        key = float(price.decode()) * self.sign
        known = self.spelled.pop(key, None)
        if known is None:
            if not 0.0 < abs(key) < inf:
                same(b"0", price)
            return
        if known != price:
            same(known, price)
        del self.rows[known]
        if self.ordered:
            place = bisect_left(self.keys, key)
            del self.keys[place]
            del self.prices[place]
            if self.texts.pop(known, None) is not None:
                for moved_up in self.prices[_CHECKED - 1 : _CHECKED]:
                    self._sum(moved_up)

    def _respell(self, key: float, known: bytes, price: bytes, rest: bytes) -> None:
        same(known, price)
        del self.rows[known]
        self.rows[price] = rest
        self.spelled[key] = price
        if self.ordered:
            self.prices[bisect_left(self.keys, key)] = price
            if self.texts.pop(known, None) is not None:
                self._sum(price)

    def _sum(self, price: bytes) -> None:
        self.texts[price] = price + b":" + self.rows[price].partition(b'"')[0]

    def summed(self) -> list[bytes]:
        """Return `price:size` of the best 25."""
        best = self.prices[:_CHECKED]
        if not self.texts:
            for price in best:
                self._sum(price)
        return list(map(self.texts.__getitem__, best))

    def sort(self) -> None:
        spelled = self.spelled
        self.keys = sorted(spelled)
        self.prices = [spelled[key] for key in self.keys]
        self.ordered = True

    def forget(self) -> None:
        self.ordered = False
        self.keys = []
        self.prices = []
        self.texts.clear()

    def top(self, depth: int | None) -> bytes:
        rows = self.rows
        texts = [b'["' + price + b'","' + rows[price] + b"]" for price in self.prices[:depth]]
        return b"[" + b",".join(texts) + b"]"


def same(known: bytes, price: bytes) -> None:
    """
    Make sure that two prices whose floats cannot be told apart are one number: better no book than one mixed up.

    What a float makes zero, infinite or nan is held against "0", the only such price there is.
    """
    try:
        same = Decimal(known.decode()) == Decimal(price.decode())
    except InvalidOperation:
        same = False
    if not same:
        raise ValueError(f"{price.decode()!r} is no price, or none that a float can tell from {known.decode()!r}")
