"""
One book as one connection brings it: what follows on what, and whether it is right.

Every message is checked before anybody sees it. OKX v5 numbers its changes, v3 sends a checksum of the best 25
levels with each, v1 has neither: there a book that is crossed, or has lost most of its levels, cannot be right.

Rules and their sources: https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel, and the
v3 documentation of the time. The checksum of v5 is the constant 0 since June 2026, which says nothing.
"""

import re
from enum import Enum
from typing import Any

from ..book import Levels
from ..dialects import Traits
from ..records import Book
from .kept import put

_DISTRUSTED = 3
_MANY = 20
_SHRUNKEN = 4
_ZERO = re.compile(r"0+(\.0*)?")
_SAID = 200
"""Characters of the exchange's text that are told at most: no bound holds for what waits of that to be written."""


class Verdict(Enum):
    """What is to become of a message: only what is `RIGHT` may be delivered."""

    RIGHT = 0
    REPEATED = 1
    AWAITED = 2
    """It changes a book of which there is no snapshot."""

    BROKEN = 3
    """The book is void from now on; `Chain.reason` and `Chain.detail` say why."""


RIGHT, REPEATED, AWAITED, BROKEN = Verdict


class Chain:
    """
    Holds the messages of one book against each other; void until a snapshot.

    `epoch` counts how often the exchange began to number anew, so that (`epoch`, `seq`) always grows. `levels` is what
    the book has come to, kept only where that is needed to verify it. It is `distrusted` where even snapshots never
    bore their checksum out, while the sequence can be relied on.
    """

    __slots__ = (
        "_bad", "_full", "_traits", "awaited", "detail", "distrusted", "epoch", "levels", "reason", "seq", "void",
    )  # fmt: skip

    def __init__(self, traits: Traits) -> None:
        self.void = True
        self.awaited = 0
        self.seq: int | None = None
        self.epoch = 0
        self.levels: Levels | None = None
        self.reason = ""
        self.detail: dict[str, Any] | None = None
        self.distrusted = False
        self._traits = traits
        self._bad = 0
        self._full = (0, 0)

    def restart(self) -> None:
        """Wait for a snapshot."""
        self.void = True
        self.awaited = 0
        self.levels = None

    def check(self, book: Book) -> Verdict:
        """Take the next message and say what it is worth."""
        if book.action == "snapshot" and not (self.void and self._partial(book)):
            return self._replaced(book)
        if self.void:
            self.awaited += 1
            return AWAITED
        if book.prev != self.seq:
            if book.seq == self.seq and book.prev is not None and book.seq is not None and book.prev < book.seq:
                return REPEATED
            return self._broken("sequence", {"expected": self.seq, "prev": book.prev, "seq": book.seq})
        if self.seq is not None:
            if book.seq is None:
                return self._broken("sequence", {"expected": self.seq, "prev": book.prev, "seq": None})
            if book.seq < self.seq:
                self.epoch += 1  # a reset after maintenance: what follows is numbered from here
            self.seq = book.seq
        return RIGHT if self.levels is None else self._apply(self.levels, book)

    def _partial(self, book: Book) -> bool:
        """
        Whether what came first, where nothing tells a snapshot, is a change that was still on its way.

        A whole book has no level of size zero, and hardly a quarter of the levels it had; but once it may have.
        """
        if self._traits.sequenced or self._traits.checksums:
            return False
        full, self._full = self._full, (0, 0)
        few = any(_few(len(side), most) for side, most in zip((book.bids, book.asks), full, strict=True))
        return few or any(_ZERO.fullmatch(row[1]) for row in (*book.bids, *book.asks))

    def _replaced(self, book: Book) -> Verdict:
        if self.seq is not None and book.seq is not None and book.seq < self.seq and not self.void:
            self.epoch += 1
        self.seq = book.seq
        self.void = False
        self.awaited = 0
        self.levels = Levels() if self._verifies(book) or not self._traits.sequenced else None
        if self.levels is None:
            return RIGHT
        self._full = (0, 0)
        verdict = self._apply(self.levels, book)
        self._full = self.levels.depth if self.levels is not None else (0, 0)
        self._bad = self._bad + 1 if verdict is BROKEN and self.reason == "checksum" else 0
        self.distrusted = self._bad >= _DISTRUSTED and self._traits.sequenced
        return verdict

    def _verifies(self, book: Book) -> bool:
        """Whether a checksum has to match; one that is missing where every message has one does not."""
        return not self.distrusted and (self._traits.checksums or bool(book.checksum))

    def _apply(self, levels: Levels, book: Book) -> Verdict:
        try:
            put(levels, book)
            if self._verifies(book):
                if (computed := levels.checksum()) != book.checksum:
                    return self._broken("checksum", {"stated": book.checksum, "computed": computed})
            elif not self._traits.sequenced and not self._traits.checksums:
                return self._plausible(levels)
        except ValueError as error:
            return self._broken("malformed", {"why": str(error)})
        return RIGHT

    def _plausible(self, levels: Levels) -> Verdict:
        if levels.crossed:
            (bid, *_), (ask, *_) = levels.top(1)
            return self._broken("sequence", {"why": "crossed", "bid": bid[0], "ask": ask[0]})
        for side, count, full in zip(("bids", "asks"), levels.depth, self._full, strict=True):
            if _few(count, full):
                return self._broken("sequence", {"why": "shrunken", "side": side, "levels": count, "of": full})
        return RIGHT

    def _broken(self, reason: str, detail: dict[str, Any]) -> Verdict:
        self.reason = reason
        self.detail = {name: value[:_SAID] if isinstance(value, str) else value for name, value in detail.items()}
        self.restart()
        return BROKEN


def _few(count: int, full: int) -> bool:
    """Whether a side of `count` levels cannot be what had `full` of them."""
    return full >= _MANY and count < full // _SHRUNKEN
