"""
Short cuts for the messages that come most often. What does not fit them goes the long way, to the same end.

Most of a book's message is its levels, and most who pass a book on never look at them one by one. So they are cut
out as text, and only what stands around them is read: before them the same few texts, again and again.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from ..book import COMPILED
from ..channels import Subscription
from ..records import Book
from . import integer, needed

if COMPILED:
    from .._compiled import Cutter as Compiled

# From the point to the nine: one range is matched fastest. In quotes these characters are text as it is.
_TEXT = rb'"[.-9]*+"'
_LEVEL = rb"\[" + rb",".join([_TEXT] * 4) + rb"\]"
_SIDE = rb"(\[(?:" + _LEVEL + rb"(?:," + _LEVEL + rb")*+)?+\])"
_PLAIN = rb'"\w++":(?:"[^"\\]*+"|-?\d++)'
_BOOK = re.compile(
    rb'"data":\[\{((?:' + _PLAIN + rb',)*+)"asks":' + _SIDE + rb',"bids":' + _SIDE
    + rb",(" + _PLAIN + rb"(?:," + _PLAIN + rb")*+\})\]\}"
)  # fmt: skip
_DATA = b'"data":['
_HEAD = 1024
"""Bytes of a message in which its data must begin: what stands before that is remembered, so it must not be long."""

Cut = Callable[[bytes, int], Book | None]
"""Makes the record of one message and the time of its arrival (ns); None where that takes the long way."""

Action = Callable[[bytes], str | None]
"""Says what the text before a message's data makes of it: a snapshot or an update; None if that is not plain."""


class Names(NamedTuple):
    """What the row of a book has beside its levels, in the exchange's words; None for what it has not."""

    ts: str
    inst: str | None
    seq: str | None
    prev: str | None
    checksum: str


def cutter(sub: Subscription, venue: str, names: Names, time: Callable[[Any], int | None], action: Action) -> Cut:
    """
    Return what cuts the books of `sub`.

    Args:
        sub, venue: the subscription.
        names: what else there is in a row.
        time: what reads its time: `integer`, or else ms of the form 2020-07-24T09:41:05.316Z.
        action: see above; it is asked for each text it has not just been asked for.
    """
    if COMPILED:
        return Compiled(Book, venue, sub.channel, sub.inst, names, time is not integer, action)
    return Cutter(sub, venue, names, time, action)


def head(text: bytes) -> Any:
    """Return what stands before the data of a message; raises ValueError where its data does not follow there."""
    return orjson.loads(text + b'"data":[]}')


class Cutter:
    """The same in Python, which says what is right."""

    __slots__ = ("_action", "_names", "_sub", "_time", "_venue")

    def __init__(
        self, sub: Subscription, venue: str, names: Names, time: Callable[[Any], int | None], action: Action
    ) -> None:
        self._sub = sub
        self._venue = venue
        self._names = names
        self._time = time
        self._action = action

    def __call__(self, message: bytes, recv: int) -> Book | None:
        data = message.find(_DATA, 0, _HEAD)
        if (found := _BOOK.fullmatch(message, max(data, 0))) is None:
            return None
        first, asks, bids, last = found.groups()
        try:
            action, row = self._action(message[:data]), orjson.loads(b"{" + first + last)
            # What stands twice is for the long way.
            if action is None or "asks" in row or "bids" in row:
                return None
            return self._record(action, row, (bids, asks), recv)
        except (LookupError, TypeError, ValueError):
            return None

    def _record(self, action: str, row: dict[str, Any], sides: tuple[bytes, bytes], recv: int) -> Book:
        record: Book = Book.__new__(Book)
        names = self._names
        record.type = "book"
        record.venue, record.channel = self._venue, self._sub.channel
        record.inst = self._sub.inst if names.inst is None else needed(row[names.inst])
        record.ts, record.recv = self._time(row[names.ts]), recv
        record.action, record.sides = action, sides
        record.seq = integer(row.get(names.seq)) if names.seq is not None else None
        record.prev = integer(row.get(names.prev)) if names.prev is not None else None
        record.checksum, record.origin = integer(row.get(names.checksum)), None
        return record
