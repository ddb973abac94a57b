"""
Short cuts for the messages that come most often. What does not fit them goes the long way, to the same end.

Most of a book's message is its levels, and most who pass a book on never look at them one by one. So they are cut
out as text, and only what stands around them is parsed: before them the same few texts, again and again.
"""

import re
from functools import lru_cache
from typing import Any

import orjson

from ..records import Book
from . import parsed

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
_HEADS = 1024

Head = tuple[str, str, str | None, int | None, int]
"""Venue, channel, instrument, time of the exchange, time of the arrival: what a book begins with."""


def book(message: bytes, dialect: str) -> Any:
    """
    Return a message as JSON; where it is one book of levels of four texts, perhaps in three parts.

    These are what stands before its data, which is not to be changed; its one row without its levels; and, for `cut`,
    its bids and its asks as sent.

    Raises:
        DecodeError: it is no JSON.
    """
    data = message.find(_DATA)
    if (found := _BOOK.fullmatch(message, max(data, 0))) is None:
        return parsed(message, dialect)
    first, asks, bids, last = found.groups()
    try:
        head, row = _head(message[:data]), orjson.loads(b"{" + first + last)
    except ValueError:
        return parsed(message, dialect)
    # What stands twice is for the long way.
    return parsed(message, dialect) if "asks" in row or "bids" in row else (head, row, (bids, asks))


@lru_cache(_HEADS)
def _head(text: bytes) -> Any:
    """Return what stands before the data of a message; raises ValueError where its data does not follow there."""
    return orjson.loads(text + b'"data":[]}')


def cut(
    head: Head, action: str, sides: tuple[bytes, bytes], seq: int | None, prev: int | None, checksum: int | None
) -> Book:
    """Return a book whose levels are still JSON."""
    record: Book = Book.__new__(Book)
    record.type = "book"
    record.venue, record.channel, record.inst, record.ts, record.recv = head
    record.action, record.sides, record.seq, record.prev = action, sides, seq, prev
    record.checksum, record.origin = checksum, None
    return record
