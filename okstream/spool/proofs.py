"""What a spool remembers of the last entry of each subscription, and what that proves after a restart."""

from collections.abc import Iterable, Mapping
from dataclasses import fields

import orjson

from okstream.encoding import encode
from okstream.entries import Entry, Head
from okstream.fanout.declaring import Key, key, place
from okstream.records import Gap
from okstream.sinks import Proven

_STATEMENTS = (b'"gap",', b'"status",')


def mark(payload: bytes) -> tuple[str, str] | None:
    """
    Return the subscription that a packed entry is data of, as text, and its head; None for statements.

    This is asked of every record that goes to the disk: what it costs is told by `make bench`. A head is a list that
    begins with two texts, identity and type, and ends with two numbers; between them stands the subscription.
    """
    head = payload[: payload.index(b"\n")]
    kind = head.index(b'","') + 2
    if head.startswith(_STATEMENTS, kind):
        return None
    begin = head.index(b'","', kind) + 2
    end = head.rindex(b",", begin, head.rindex(b","))
    return head[begin:end].decode(), head.decode()


def proven(marks: Mapping[str, str]) -> list[Proven]:
    """Return what marks prove: the last of each subscription that the spool has accepted."""
    return [
        Proven(venue, channel, inst, account, *place(entry), entry.identity)
        for (venue, channel, inst, account), entry in heads(marks).items()
        if channel is not None
    ]


def heads(marks: Mapping[str, str]) -> dict[Key, Entry]:
    """Return the same as entries without their lines, by subscription."""
    entries = [Entry(b"", Head(*orjson.loads(said))) for said in marks.values()]
    return {key(entry): entry for entry in entries}


def noted(gaps: Iterable[Gap]) -> bytes:
    """Return the note that `said` reads."""
    return b"".join(map(encode, gaps))


def said(note: bytes) -> dict[Key, Gap]:
    """Return the gaps of a note, by subscription."""
    names = [field.name for field in fields(Gap) if field.init]
    gaps = [Gap(*(one.get(name) for name in names)) for one in map(orjson.loads, note.splitlines())]
    return {(gap.venue, gap.channel, gap.inst, gap.account): gap for gap in gaps}


class Acknowledged:
    """
    What a sink had acknowledged of a spool that everything goes through, as that was opened.

    Args:
        marks: of what was acknowledged; None where not all goes through the spool.
    """

    def __init__(self, marks: Mapping[str, str] | None = None) -> None:
        self._last = {_whose(one): one for one in proven(marks or {})}

    def reached_by(self, one: Proven) -> bool:
        """Whether `one` of a sink is the last that it acknowledged, or later: then what waits goes on from there."""
        last = self._last.get(_whose(one))
        if last is None:
            return False
        return last.identity == one.identity or (last.after_ts or 0) < (one.after_ts or 0)


def _whose(one: Proven) -> tuple[str, str, str | None, str | None]:
    return one.venue, one.channel, one.inst, one.account
