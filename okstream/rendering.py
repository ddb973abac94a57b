"""From deliveries to lines: JSON is made once for all lanes that want it."""

from collections.abc import Iterable

from .continuity import Delivery
from .entries import Entry
from .records import AnyRecord, encode


def entries(deliveries: Iterable[Delivery], form: str, statements: bool = True) -> list[Entry]:
    """Return the lines of `deliveries`: JSON records, or the exchange's own text (`form` raw)."""
    made: list[Entry] = []
    for delivery in deliveries:
        if statements and delivery.statements:
            made += [Entry(encode(said), said) for said in delivery.statements]
        if form == "raw":
            if delivery.text is not None and delivery.feed is not None:
                # A newline between the tokens of JSON is a space; as it is it would make two lines of one.
                line = delivery.text.replace(b"\n", b" ") + b"\n"
                recv = delivery.records[-1].recv if delivery.records else delivery.recv
                made.append(Entry(line, delivery.feed.head, recv, delivery.feed))
        elif delivery.records:
            if delivery.entries is None:
                feed = delivery.feed
                delivery.entries = [Entry(encode(record), record, 0, feed) for record in delivery.records]
            made += delivery.entries
    return made


def records(deliveries: Iterable[Delivery]) -> list[AnyRecord]:
    """Return the records of `deliveries`, statements included, in order."""
    return [record for delivery in deliveries for record in (*delivery.statements, *delivery.records)]
