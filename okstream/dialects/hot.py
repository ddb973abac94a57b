"""
Short cuts for the messages that come most often. What does not fit them goes the long way, to the same end.

Most of a book's message is its levels, and most who pass a book on never look at them one by one. So they are cut
out as text, and the rest is parsed without them.
"""

import re
from typing import Any

from ..records import Book
from . import parsed

# From the point to the nine: one range is matched fastest. In quotes these characters are text as it is.
_TEXT = rb'"[.-9]*+"'
_LEVEL = rb"\[" + rb",".join([_TEXT] * 4) + rb"\]"
_SIDE = rb"(\[(?:" + _LEVEL + rb"(?:," + _LEVEL + rb")*+)?+\])"
_BOOK = re.compile(rb'\{(?:"\w++":"[^"\\]*+",)?+"asks":' + _SIDE + rb',"bids":' + _SIDE)
_ROW = b'"data":['
_NONE = b'[],"bids":[]'

Head = tuple[str, str, str | None, int | None, int]
"""Venue, channel, instrument, time of the exchange, time of the arrival: what a book begins with."""


def book(message: bytes, dialect: str) -> Any:
    """
    Return a message as JSON; where it is one book of levels of four texts, perhaps in two parts.

    The first is the message without its levels, for `only`; the second, for `cut`, its bids and its asks as sent.

    Raises:
        DecodeError: it is no JSON.
    """
    row = message.rfind(b"{")
    if message[row - len(_ROW) : row] != _ROW or (found := _BOOK.match(message, row)) is None:
        return parsed(message, dialect)
    (asks, middle), (bids, end) = found.span(1), found.span(2)
    rest = message[:asks] + _NONE + message[end:]
    # Without a backslash each quote begins or ends a text, so that what was found stands in none. With another list
    # after it, a name may stand there twice.
    if b"\\" in rest or message.find(b"[", end) >= 0:
        return parsed(message, dialect)
    return parsed(rest, dialect), (message[bids:end], message[asks:middle])


def only(message: Any) -> dict[str, Any]:
    """
    Return the one row of a message whose levels were cut out.

    Raises:
        LookupError, TypeError, ValueError: there is another, or it has levels of its own: a name stood there twice.
    """
    (row,) = message["data"]
    if row["asks"] != [] or row["bids"] != []:
        raise ValueError("asks or bids stand there twice")
    found: dict[str, Any] = row
    return found


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
