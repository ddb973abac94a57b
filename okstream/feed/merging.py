"""
What comes twice: within one connection's messages, and from two connections that carry the same.

A record that was delivered is told by its identity where it has one (trades, orders, fills), by its place in the
sequence (books of OKX v5), and by its time and content everywhere else.
"""

import operator
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from ..identities import content
from ..records import Balance, Book, Candle, DataRecord, Fill, Native, Order, Position, Trade

_IDS = 1024
_RECENT = 64
_REPEATS = 4
_DIGITS = 20
_ANEW = 100_000
"""So far ids do not go back, unless they are numbered anew."""

SKEW_MS = 1000
"""How far two servers of the exchange may be apart."""

_IDENTIFIED = frozenset({Trade, Fill})

Records = list[DataRecord]


class Seen:
    """
    What was delivered of one subscription, as far as it is needed to tell what comes again.

    `stamp`: what rows call the time of a push, see Traits.
    """

    def __init__(self, stamp: str | None = None) -> None:
        self.repeated = 0
        self._stamp = stamp
        self._ids = _Window(_IDS)
        self._orders: dict[str, int] = {}
        self._recent: deque[Records] = deque(maxlen=_RECENT)
        self._latest = -1
        self._count = 0

    def forget_recent(self) -> None:
        """What follows begins anew, and may look like what was before."""
        self._recent.clear()
        self._latest = -1

    def unseen(self, records: Records) -> Records:
        """Return those of `records` that are new, and remember them."""
        if not records:
            return records
        kind = type(records[0])
        if kind in _IDENTIFIED:
            return self._counted(records, self._ids.add, _id)
        if kind is Order:
            return self._counted(records, self._new_order, lambda record: record)
        ts = self._moment(records[-1])
        if ts is None or ts <= self._latest:
            if self._known(records, ts):
                self.repeated += len(records)
                return []
        else:
            self._latest = ts
        previous = self._recent[-1][-1] if self._recent else None
        self._recent.append(records)
        self._count += 1
        if kind is Candle and len(records) > 1 and previous is not None and _same(records[:1], [previous]):
            # The bar that is over comes once more with the next one.
            self.repeated += 1
            return records[1:]
        return records

    def covers(
        self, records: Records, last: DataRecord | None, cursor: int | None, overtaken: bool | None = None
    ) -> tuple[bool, int | None]:
        """
        Say whether another connection's `records` are delivered, or what was delivered (`last` of all) is newer.

        Where neither identity nor time tells, its messages are found in order among those delivered: `cursor` is the
        place behind the last that was found, None at first; returned is where it stands now. `overtaken`: the one that
        leads brought something later, None where it has these itself.
        """
        if not records:
            return True, cursor
        if type(records[0]) in _IDENTIFIED:
            return all(_id(record) in self._ids or before(record, last) for record in records), cursor
        if type(records[0]) is Order:
            return all(_whole(record) in self._ids for record in records), cursor
        hidden = overtaken is not None and opaque(records)
        ts = self._moment(records[-1]) if _comparable(records[-1], last) else None
        if ts is not None and ts != self._latest and (ts < self._latest or not hidden):
            return ts < self._latest, cursor
        if _behind(records[-1], last):
            return True, cursor
        first = self._count - len(self._recent)
        start = self._count - 1 if cursor is None else cursor
        same = self._shows_same if hidden else _same
        for at in range(max(start - first, 0), len(self._recent)):
            if same(records, self._recent[at]):
                return True, first + at + 1
        return hidden and ts is None and bool(overtaken), cursor

    def _moment(self, record: DataRecord) -> int | None:
        """Return when the exchange says that what `record` shows was so; None where later ones may say less."""
        if not isinstance(record, Position):
            return record.ts
        stamped = record.extra.get(self._stamp or "")  # its own time is that of its last change
        return int(stamped) if isinstance(stamped, str) and len(stamped) < _DIGITS and stamped.isdecimal() else None

    def _shows_same(self, some: Records, others: Records) -> bool:
        """Whether they differ in nothing but when they were pushed."""
        return len(some) == len(others) and all(map(operator.eq, map(self._shown, some), map(self._shown, others)))

    def _shown(self, record: DataRecord) -> DataRecord:
        if isinstance(record, Balance) and record.currency is None:
            return replace(record, ts=None, recv=0, origin=None)
        if isinstance(record, Position):
            return replace(record, recv=0, origin=None, extra=self._unstamped(record.extra))
        if isinstance(record, Native) and isinstance(record.data, dict) and isinstance(record.data.get("data"), list):
            rows = [self._unstamped(row) if isinstance(row, dict) else row for row in record.data["data"]]
            return replace(record, recv=0, origin=None, data={**record.data, "data": rows})
        return replace(record, recv=0, origin=None)

    def _unstamped(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name != self._stamp}

    def _known(self, records: Records, ts: int | None) -> bool:
        # A clock that stands still or goes back, or none: only the content tells a repetition. Without a clock an
        # earlier content may return, so only the last one counts.
        recent = list(self._recent)[-_REPEATS if ts is not None else -1 :]
        if isinstance(records[0], Candle) and recent and _same(records, recent[-1][-1:]):
            return True  # the bar that came with the end of the one before
        return any(_same(records, others) for others in recent)

    def _counted(self, records: Records, add: Callable[[Any], bool], key: Callable[[DataRecord], Any]) -> Records:
        if len(records) == 1:  # as nearly always
            if add(key(records[0])):
                return records
            self.repeated += 1
            return []
        unseen = [record for record in records if add(key(record))]
        self.repeated += len(records) - len(unseen)
        return unseen

    def _new_order(self, order: DataRecord) -> bool:
        """Only the whole content tells an order's pushes apart, and without a clock an earlier one may return."""
        assert isinstance(order, Order)
        whole = _whole(order)
        if order.ts is not None:
            return self._ids.add(whole)
        self._ids.add(whole)
        known = self._orders.pop(order.id, None)
        self._orders[order.id] = whole
        if len(self._orders) > _IDS:
            del self._orders[next(iter(self._orders))]
        return known != whole


def before(record: DataRecord, last: DataRecord | None) -> bool:
    """Whether trades are numbered, and `record` is the earlier of the two."""
    if not isinstance(record, Trade) or not isinstance(last, Trade):
        return False
    if not (record.id.isdecimal() and last.id.isdecimal() and max(len(record.id), len(last.id)) <= _DIGITS):
        return False
    # Ids that are lower although the trade is later are numbered anew.
    return 0 <= int(last.id) - int(record.id) < _ANEW and (record.ts or 0) <= (last.ts or 0)


def _behind(record: DataRecord, last: DataRecord | None) -> bool:
    """Whether `record` is the same stand of the same bar as `last`, or an earlier one."""
    if not isinstance(record, Candle) or not isinstance(last, Candle):
        return False
    if content(record) == content(last):
        return True
    try:
        return float(record.volume or 0) < float(last.volume or 0)
    except ValueError:
        return False


def shows(records: Records, last: DataRecord | None, first: bool) -> bool:
    """Whether `records` show but the state that `last` shows. `first`: they came right after a subscription."""
    record = records[-1]
    if opaque(records):
        return first
    if last is None or type(record) is not type(last):
        return False
    if isinstance(record, Book) and isinstance(last, Book):
        return (record.bids, record.asks) == (last.bids, last.asks)  # numbered by changes beyond these levels, too
    if isinstance(record, Candle) and isinstance(last, Candle) and record.ts != last.ts:
        return _untraded(record, last)
    return content(replace(record, ts=last.ts)) == content(last)


def opaque(records: Records) -> bool:
    """Whether their content does not tell what is new: with a time inside, or repeated every few seconds."""
    return bool(records) and isinstance(records[-1], Balance | Position | Native)


def unfinished(records: Records) -> bool:
    """Whether what they show goes on with the next message."""
    return bool(records) and isinstance(last := records[-1], Balance | Position) and last.last_page is False


def _comparable(record: DataRecord, last: DataRecord | None) -> bool:
    """Whether times tell which is later: those of several instruments may come in any order."""
    return last is not None and last.ts is not None and not (isinstance(record, Native) and record.inst != last.inst)


def _untraded(bar: Candle, last: Candle) -> bool:
    """Whether nothing was traded in `bar`, nor since `last`, which was over: such bars begin without a push."""
    if last.closed is False or bar.volume is None or bar.volume.strip("0.") or last.close is None:
        return False
    return bar.open == bar.high == bar.low == bar.close == last.close


def renumbered(book: Book, last: Book) -> bool:
    """Whether a `book` of another connection is later than `last` though its number is lower: numbers began anew."""
    if book.seq is None or last.seq is None or book.ts is None or last.ts is None:
        return False
    return book.seq < last.seq and book.ts > last.ts + SKEW_MS


def _id(record: DataRecord) -> tuple[Any, ...] | str:
    if type(record) is Trade:
        return record.id
    assert isinstance(record, Fill)
    return (record.order_id, record.id, record.side)


def _whole(record: DataRecord) -> int:
    return hash(orjson.dumps(content(record)))


def _same(some: Records, others: Records) -> bool:
    return len(some) == len(others) and all(content(a) == content(b) for a, b in zip(some, others, strict=True))


Mark = tuple[int | None, int | None]
"""Where a book without numbers stands: its time, and its checksum if it has one."""


def mark(book: Book) -> Mark:
    return book.ts, book.checksum


@dataclass(slots=True)
class _Window:
    """The last `size` things seen."""

    size: int
    _order: deque[Any] = field(default_factory=deque)
    _seen: set[Any] = field(default_factory=set)

    def __contains__(self, thing: Any) -> bool:
        return thing in self._seen

    def add(self, thing: Any) -> bool:
        """Remember `thing`; return whether it was new."""
        if thing in self._seen:
            return False
        self._seen.add(thing)
        self._order.append(thing)
        if len(self._order) > self.size:
            self._seen.discard(self._order.popleft())
        return True
