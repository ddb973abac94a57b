"""What makes two records the same: from exchange data only, so equal in every process that sees it."""

from dataclasses import fields
from hashlib import blake2b
from typing import Any

import orjson

from .records import TYPES, AnyRecord, Book, DataRecord, Fill, Order, Trade

Identity = tuple[str | int | None, ...]


def identity(record: DataRecord) -> Identity:
    """
    Return what makes `record` the same in every process that sees it: venue, channel, account, inst and a key.

    The key is the trade id; for a book with a sequence action, prev, seq and ts; for an order its id, update time,
    state and filled size; for a fill order id, trade id and side; for everything else ts and a 64-bit hash of the
    exchange's content. `recv` and `origin` take no part.
    """
    head = (record.venue, record.channel, getattr(record, "account", None), record.inst)
    match record:
        case Trade():
            return (*head, record.id)
        case Book() if record.seq is not None:
            return (*head, record.action, record.prev, record.seq, record.ts)
        case Order():
            return (*head, record.id, record.ts, record.state, record.filled)
        case Fill():
            return (*head, record.order_id, record.id, record.side)
        case _:
            return (*head, record.ts, _content_hash(record))


def _content_hash(record: DataRecord) -> str:
    digest = blake2b(digest_size=8)
    digest.update(orjson.dumps(content(record)))
    return digest.hexdigest()


_CONTENT: dict[type, tuple[str, ...]] = {
    kind: tuple(f.name for f in fields(kind) if f.name not in {"recv", "origin"}) for kind in TYPES.values()
}


def content(record: AnyRecord) -> tuple[Any, ...]:
    """Return every field of `record` but `recv` and `origin`, in the schema's order."""
    return tuple(getattr(record, name) for name in _CONTENT[type(record)])
