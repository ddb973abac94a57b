"""What a spool remembers of the last that was appended of each subscription, and what that proves after a restart."""

from collections.abc import Iterator, Mapping

import orjson

from .entries import RAW
from .sinks import Proven

_STATEMENTS = frozenset({"gap", "status"})
_BOOK_KEY = 4  # action, prev, seq and ts; without a sequence it has fewer parts


def mark(payload: bytes) -> tuple[str, str] | None:
    """Return the subscription that a packed entry is data of, and its head; None for statements."""
    head = payload[: payload.index(b"\n")]
    _, kind, venue, channel, inst, account, _, _ = orjson.loads(head)
    if kind in _STATEMENTS or channel is None:
        return None
    return f"{venue}\n{channel}\n{inst or ''}\n{account or ''}", head.decode()


def proven(marks: Mapping[str, str]) -> Iterator[Proven]:
    """Yield what the marks of a spool prove: the last of each subscription that the spool has accepted."""
    for said in marks.values():
        identity, kind, venue, channel, inst, account, ts, _ = orjson.loads(said)
        if kind == RAW:
            yield Proven(venue, channel, inst, account, None, None)
            continue
        before = ":".join((venue, channel, account or "", inst or "", ""))
        yield Proven(venue, channel, inst, account, _position(kind, identity.removeprefix(before)), ts)


def _position(kind: str, key: str) -> str | int | None:
    """Return the trade id or book sequence in the key of an identity, see identities.py."""
    parts = key.split(":")
    if kind == "trade":
        return key
    if kind == "fill":
        return parts[1]
    return int(parts[2]) if kind == "book" and len(parts) == _BOOK_KEY else None
