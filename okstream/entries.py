"""One line as a sink gets it, with what it is about."""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, cast

import orjson

from .identities import content, identity
from .records import AnyRecord, Gap, Status

RAW = "raw"
"""The type of an entry that is the exchange's own text."""


@dataclass(slots=True)
class Head:
    """
    What a line is about, where there is no record to ask: it is raw text, or it was read back from a spool.

    `identity` is empty where only the line tells.
    """

    identity: str
    type: str
    venue: str
    channel: str | None
    inst: str | None
    account: str | None
    ts: int | None
    recv: int


@dataclass(slots=True)
class Entry:
    """
    One line, and what it is about. Entries are shared by lanes: immutable by contract.

    Args:
        line: one JSON object, or the exchange's own text, with its newline.
        about: the record it was made of, or what is known of it.
        came: our clock, ns, where `about` does not tell: it is of many.
        feed: what it is data of, for the lane alone; None for statements.
    """

    line: bytes
    about: AnyRecord | Head
    came: int = 0
    feed: object = field(default=None, repr=False, compare=False)

    @property
    def type(self) -> str:
        """The record's type, `raw` for the exchange's own text."""
        return self.about.type

    @property
    def venue(self) -> str:
        return self.about.venue

    @property
    def channel(self) -> str | None:
        """None for what is said of a link or the stream."""
        return self.about.channel

    @property
    def inst(self) -> str | None:
        return self.about.inst

    @property
    def account(self) -> str | None:
        return cast("str | None", getattr(self.about, "account", None))

    @property
    def ts(self) -> int | None:
        """The exchange's clock, ms; None where there is none."""
        return self.about.ts

    @property
    def recv(self) -> int:
        """Our clock, ns."""
        return self.came or self.about.recv

    @property
    def identity(self) -> str:
        """
        What makes it the same in every process that sees it, see identities.py, as text of one line.

        Of gaps their id and state, of statuses their whole content: those are statements of one process.
        """
        about = self.about
        if isinstance(about, Head):
            return about.identity or f"raw:{about.venue}:{_digest(self.line)}"
        if isinstance(about, Gap):
            return f"{about.gap}:{about.state}"
        if isinstance(about, Status):
            return f"status:{about.recv}:{_digest(orjson.dumps(content(about)))}"
        return ":".join("" if part is None else str(part) for part in identity(about))

    @property
    def fields(self) -> dict[str, Any]:
        """The line, read."""
        return cast("dict[str, Any]", orjson.loads(self.line))

    def pack(self) -> bytes:
        """Return it as bytes that `unpack` reads."""
        head = (self.identity, self.type, self.venue, self.channel, self.inst, self.account, self.ts, self.recv)
        return orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE) + self.line


def raw(text: bytes, venue: str, channel: str, inst: str | None, account: str | None, recv: int) -> Entry:
    """Return the entry of the exchange's own `text`, which has its newline."""
    return Entry(text, Head("", RAW, venue, channel, inst, account, None, recv))


def unpack(payload: bytes) -> Entry:
    """Return the entry that `pack` made bytes of."""
    head, _, line = payload.partition(b"\n")
    return Entry(line, Head(*orjson.loads(head)))


def _digest(text: bytes) -> str:
    return blake2b(text, digest_size=8).hexdigest()
