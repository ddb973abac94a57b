"""From deliveries to lines: JSON is made once for all lanes that want it."""

from collections.abc import Iterable

from ..encoding import encode
from ..entries import RAW, Entry, Head
from ..feed.continuity import Delivery
from ..records import AnyRecord

_JOINED = Head("", RAW, "", None, None, None, None, 0)


def entries(deliveries: Iterable[Delivery], form: str, statements: bool = True) -> list[Entry]:
    """Return the lines of `deliveries`: JSON records, or the exchange's own text (`form` raw)."""
    if form == "raw":
        return bare(deliveries, form, statements)[0]
    made: list[Entry] = []
    for delivery in deliveries:
        if statements and delivery.statements:
            made += [Entry(encode(said), said) for said in delivery.statements]
        if delivery.records:
            if delivery.entries is None:
                feed = delivery.feed
                delivery.entries = [Entry(encode(record), record, 0, feed) for record in delivery.records]
            made += delivery.entries
    return made


def bare(deliveries: Iterable[Delivery], form: str, statements: bool = True) -> tuple[list[Entry], int, int]:
    """
    Return the same lines, for who wants nothing else: their records, which weigh most, are let go of.

    And how many records (raw: messages) `deliveries` have, and how many bytes the lines.
    """
    made: list[Entry] = []
    data = 0
    raw = form == "raw"
    for delivery in deliveries:
        feed, found = delivery.feed, delivery.records
        if statements and delivery.statements:
            made += [Entry(encode(said), said) for said in delivery.statements]
        if raw:
            if (text := delivery.text) is not None:
                data += 1
                if feed is not None:
                    made.append(Entry(_line(text), feed.head, found[-1].recv if found else delivery.recv, feed))
        else:
            data += len(found)
            for record in found:
                made.append(Entry(encode(record), record if feed is None else feed.head, record.recv, feed))
    return made, data, sum([len(entry.line) for entry in made])


def joined(deliveries: Iterable[Delivery], form: str, statements: bool = True) -> tuple[list[Entry], int, int]:
    """Return the same as `bare`, all lines as one entry, which is as old as the first."""
    lines: list[bytes] = []
    data = came = 0
    raw = form == "raw"
    for delivery in deliveries:
        found = delivery.records
        came = came or (found[0].recv if found else delivery.recv)
        if statements and delivery.statements:
            came = came or delivery.statements[0].recv
            lines += map(encode, delivery.statements)
        if not raw:
            data += len(found)
            for record in found:
                lines.append(encode(record))
        elif (text := delivery.text) is not None:
            data += 1
            lines.append(_line(text))
    line = b"".join(lines)
    return [Entry(line, _JOINED, came)] if line else [], data, len(line)


def _line(text: bytes) -> bytes:
    # A newline between the tokens of JSON is a space; as it is it would make two lines of one.
    return text.replace(b"\n", b" ") + b"\n"


def records(deliveries: Iterable[Delivery]) -> list[AnyRecord]:
    """Return the records of `deliveries`, statements included, in order."""
    return [record for delivery in deliveries for record in (*delivery.statements, *delivery.records)]
