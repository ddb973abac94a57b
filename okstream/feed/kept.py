"""A book as it was delivered, for whoever may want it; few ever do."""

import re
from collections.abc import Sequence

import orjson

from ..book import COMPILED, Levels
from ..levels import MOST_LEVELS, ROW_BYTES, SIDE_BYTES
from ..records import Book, DataRecord, Row

_UNREAD = 1000
_WAITING = 32
"""Messages that are taken at once, which is faster for each book's levels are far from the next one's in memory."""

_LARGE = 2048
"""Bytes of a message that does not wait."""

_GROWN = 512
"""So many levels more than are there may be gone and not yet swept out."""


def put(levels: Levels, book: Book) -> None:
    """
    Make of `levels` what `book` says.

    Raises:
        ValueError: as in `Levels.apply`.
    """
    (levels.replace if book.action == "snapshot" else levels.apply)(*(book.sides or (book.bids, book.asks)))


class KeptLevels:
    """A book as it was delivered, as levels from its snapshot on: those that are compiled cost less than a text."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: Levels | None = None

    @property
    def known(self) -> bool:
        """Whether there was a snapshot."""
        return self._levels is not None

    def take(self, records: Sequence[DataRecord]) -> None:
        """Take what was delivered next."""
        for book in records:
            if not isinstance(book, Book):
                return
            try:
                if book.action == "snapshot":
                    self._levels = Levels()
                if self._levels is not None:
                    put(self._levels, book)
            except ValueError:
                self._levels = None

    def drop(self) -> None:
        """Somebody else has it: until the next snapshot nothing is known."""
        self._levels = None

    def begin(self, levels: Levels) -> None:
        """Take what somebody else had up to now."""
        self._levels = Levels()
        self._levels.replace(*levels.sides())

    def copy(self) -> "KeptLevels":
        """Return the same book, to go another way."""
        other = KeptLevels()
        if self._levels is not None:
            other.begin(self._levels)
        return other

    def levels(self) -> Levels | None:
        """Return the levels; None where there was no snapshot, or levels would not have taken what came since."""
        return self._levels


class KeptText:
    """
    The same, where levels are not compiled.

    While nobody looks it is a text for each price and no more, a fifth of what levels take; from the first look on it
    is levels, until nobody has looked for a while. What levels do not take may be noticed later, or not at all if it is
    gone by then; but what is held is bounded by the same numbers.
    """

    __slots__ = ("_asks", "_bids", "_levels", "_sweep", "_unread", "_waiting", "_whole")

    def __init__(self) -> None:
        self._whole = False
        self._bids: dict[bytes, bytes] = {}
        self._asks: dict[bytes, bytes] = {}
        self._waiting: list[tuple[bytes, bytes]] = []
        self._sweep = _GROWN
        self._levels: Levels | None = None
        self._unread = 0

    @property
    def known(self) -> bool:
        """Whether there was a snapshot."""
        return self._whole

    def take(self, records: Sequence[DataRecord]) -> None:
        """Take what was delivered next."""
        for book in records:
            if not isinstance(book, Book):
                return
            self._unread += 1
            if book.action == "snapshot":
                self._whole, self._levels = True, None
                self._bids, self._asks, self._waiting = {}, {}, []
            if self._levels is not None:
                self._apply(self._levels, book)
            elif self._whole:
                bids, asks = book.sides or (orjson.dumps(book.bids), orjson.dumps(book.asks))
                self._waiting.append((bids, asks))
                if len(self._waiting) >= _WAITING or len(bids) + len(asks) > _LARGE:
                    self._take()

    def drop(self) -> None:
        """Somebody else has it: until the next snapshot nothing is known."""
        if self._whole:
            self._whole, self._levels = False, None
            self._bids, self._asks, self._waiting = {}, {}, []

    def begin(self, levels: Levels) -> None:
        """Take what somebody else had up to now."""
        self.drop()
        self._whole = True
        self._rest(self, levels)

    def copy(self) -> "KeptText":
        """Return the same book, to go another way."""
        other = KeptText()
        if self._levels is not None:
            self._rest(other, self._levels)
        else:
            self._take()
            other._bids, other._asks = self._bids.copy(), self._asks.copy()
        other._whole = self._whole
        return other

    def levels(self) -> Levels | None:
        """Return the levels; None where there was no snapshot, or something in them is not for levels."""
        self._unread = 0
        if self._levels is None and self._whole:
            self._take()
            try:
                self._levels = self._made() if self._whole else None
            except ValueError:
                self._whole = False
            self._bids, self._asks = {}, {}
        return self._levels

    def _take(self) -> None:
        """Take what waits."""
        waiting, self._waiting = self._waiting, []
        bids, asks = _found([bids for bids, _ in waiting]), _found([asks for _, asks in waiting])
        if bids is None or asks is None:
            self._settle(waiting)
        else:
            self._bids.update(bids)
            self._asks.update(asks)
        if len(self._bids) + len(self._asks) >= self._sweep:
            self._bids, self._asks = _swept(self._bids), _swept(self._asks)
            if max(len(self._bids), len(self._asks)) > MOST_LEVELS:
                self._settle([])  # some may be one level in several spellings
            self._sweep = len(self._bids) + len(self._asks) + _GROWN

    def _settle(self, waiting: list[tuple[bytes, bytes]]) -> None:
        """Have levels say whether it is too much."""
        try:
            levels = self._made()
            for sides in waiting:
                levels.apply(*sides)
        except ValueError:
            self.drop()
        else:
            self._rest(self, levels)

    def _made(self) -> Levels:
        """Return what is kept as levels; raises ValueError where it is not for them."""
        levels = Levels()
        bids, asks = list(self._bids.items()), list(self._asks.items())
        for at in range(0, max(len(bids), len(asks)), MOST_LEVELS):
            levels.apply(_json(bids[at : at + MOST_LEVELS]), _json(asks[at : at + MOST_LEVELS]))
        return levels

    def _apply(self, levels: Levels, book: Book) -> None:
        if self._unread >= _UNREAD:
            self._rest(self, levels)
            self._levels = None
            self.take([book])
            return
        try:
            put(levels, book)
        except ValueError:
            self._whole, self._levels = False, None

    @staticmethod
    def _rest(kept: "KeptText", levels: Levels) -> None:
        """Keep `levels` as text."""
        bids, asks = levels.sides()
        kept._bids, kept._asks = dict(_ROWS(bids)), dict(_ROWS(asks))


Kept = KeptLevels | KeptText


def keep() -> Kept:
    """Return a book of which nothing is known yet."""
    return KeptLevels() if COMPILED else KeptText()


Sides = tuple[list[Row], list[Row]]


def difference(before: Sides, after: Sides) -> Sides:
    """Return the bids and asks of an update that changes the book `before` into the book `after`."""
    return _changes(before[0], after[0]), _changes(before[1], after[1])


def _changes(before: list[Row], after: list[Row]) -> list[Row]:
    known, wanted = {row[0]: row for row in before}, {row[0] for row in after}
    gone = [[row[0], *["0"] * (len(row) - 1)] for row in before if row[0] not in wanted]
    return gone + [row for row in after if known.get(row[0]) != row]


# A price and what follows it: one text of all, which is what costs least to make and to let go of again.
_ROWS = re.compile(rb'\["([^"]*+)"([^\]]*+)').findall
_PRICE_BYTES = 32
_SHORT_ROWS = re.compile(rb'\["([^"]{0,%d}+)"([^\]]{0,%d}+)\]' % (_PRICE_BYTES, ROW_BYTES - _PRICE_BYTES - 4)).findall
"""The same of rows that are certainly no longer than levels take."""

_GONE = b',"0"'


def _found(texts: list[bytes]) -> list[tuple[bytes, bytes]] | None:
    """Return the rows in `texts`; None where it is for levels to say whether there are any."""
    if max(map(len, texts), default=0) > SIDE_BYTES:
        return None
    text = b"".join(texts)
    rows: list[tuple[bytes, bytes]] = _SHORT_ROWS(text)
    return rows if len(rows) + len(texts) == text.count(b"[") else None


def _swept(side: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return `side` without the levels that are gone."""
    return {price: rest for price, rest in side.items() if rest[:4] != _GONE}


def _json(rows: list[tuple[bytes, bytes]]) -> bytes:
    return b"[" + b",".join([b'["' + price + b'"' + rest + b"]" for price, rest in rows]) + b"]"
