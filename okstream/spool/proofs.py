"""What a spool remembers of the last entry of each subscription, and what that proves after a restart."""

from collections.abc import Mapping

import orjson

from okstream.entries import Entry, Head
from okstream.fanout.declaring import place
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
    found = []
    for said in marks.values():
        about = Head(*orjson.loads(said))
        if about.channel is not None:
            last = place(Entry(b"", about))
            found.append(Proven(about.venue, about.channel, about.inst, about.account, *last, about.identity))
    return found


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
