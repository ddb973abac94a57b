"""
The continuity of one subscription, without I/O.

A feed outlives every connection that serves it. It knows what was delivered last, drops what comes twice, and
states what may be missing: a gap opens the moment loss is possible and closes directly before delivery goes on.
Books pass through unverified: their sequence and checksum are not looked at yet. But a book that has no snapshot
yet, or is known to have lost a change, holds its changes back until its next snapshot.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import orjson

from .channels import Subscription
from .dialects import Decoder, Dialect, Traits
from .identities import content, identity
from .records import AnyRecord, Book, DataRecord, Fill, Gap, Order, Statement, Status, Trade

_IDS = 256
_STATEMENT_WEIGHT = 600
RECORD_WEIGHT = 3
"""Bytes of memory that records take for each byte of the frame they came in, as measured roughly."""

_RECENT = 4
_INT64 = 2**63
_WITHHELD = 3
_IDENTIFIED = frozenset({Trade, Fill})


class Statements:
    """Numbers the gaps of one process: `instance` tells it from every other."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self._numbers = count(1)

    def next_gap(self) -> str:
        return f"{self.instance}-{next(self._numbers)}"


@dataclass(slots=True)
class Delivery:
    """
    What one input brings to the lanes: statements first, then the records, then the next delivery.

    Args:
        feed: whose it is; None for statements about a link or the stream.
        statements: gaps and statuses.
        records: data.
        text: the exchange's own text of the message, for raw lanes; None where it brought none.
        weight: what it is taken to hold of memory, in bytes: records three times their share of the frame.
    """

    feed: "Feed | None"
    statements: Sequence[Statement] = ()
    records: Sequence[DataRecord] = ()
    text: bytes | None = None
    weight: int = _STATEMENT_WEIGHT


class Feed:
    """
    One subscription of one venue, from subscribe to unsubscribe.

    `state` is one of the status words; `since` the time it began (ns). A feed for raw lanes alone (`parsed` false)
    is not decoded and states only what the link loses.
    """

    def __init__(
        self, sub: Subscription, venue: str, dialect: Dialect, statements: Statements, *, parsed: bool = True
    ) -> None:
        self.sub = sub
        self.venue = venue
        self.traits: Traits = dialect.traits(sub)
        self.parsed = parsed
        self.state = "connecting"
        self.since = 0
        self.gap: Gap | None = None
        self.last: DataRecord | None = None
        self.duplicates = 0
        self._dialect = dialect
        self._statements = statements
        self._decode: Decoder | None = None
        self._first = False
        self._acknowledged = False
        self._void = self.traits.incremental and parsed
        self._withheld = 0
        self._ids: _Window = _Window(_IDS)
        self._orders: dict[str, bytes] = {}
        self._recent: deque[list[DataRecord]] = deque(maxlen=_RECENT)
        self._latest = -1

    @property
    def overdue(self) -> bool:
        """Whether changes of this book keep coming, but the snapshot that they apply to does not."""
        return self._withheld >= _WITHHELD

    @property
    def asked_for(self) -> bool:
        """Whether what comes may be what was asked for last."""
        return self._decode is not None and self.state != "refused"

    @property
    def proves(self) -> bool:
        """Whether the next record will tell by itself if something was lost before it."""
        last = self.last
        return self.traits.chained and self.parsed and isinstance(last, Trade) and last.count is not None

    def asked(self) -> None:
        """A subscribe request goes out: what comes next begins anew, unless it flows already and the reply was lost."""
        if self._decode is None or self.state != "live":
            self._decode = self._dialect.decoder(self.sub, self.venue)
            self._first = True
            self._withheld = 0

    def acknowledged(self, recv: int) -> list[Statement]:
        """The exchange accepted the subscription."""
        if self.state == "refused":
            return []
        self._acknowledged = True
        if self.traits.first_push or self.state == "live":
            return []
        # Nothing is pushed until something happens, so nothing is missing from here on.
        return self._resume(None, recv)

    def push(self, payload: Any, recv: int) -> list[Delivery]:
        """
        Take one message's payload; return what it brings, in order.

        What comes before it was asked for belongs to another feed, or to a subscription that is about to end: changes
        after it would be cut off silently.

        Raises:
            DecodeError: the payload is not what the dialect describes.
        """
        if self._decode is None:
            return []
        decoded = self._decode(payload, recv)
        first, self._first = self._first, False
        if self._void:
            if not _snapshot(decoded):
                self._withheld += 1
                return []
            self._void = False
            self._withheld = 0
            self._recent.clear()
            self._latest = -1
        records = self._unseen(decoded)
        if self.state == "refused":
            return []
        if not records:
            return self._repeated(decoded, first, recv)
        if first and self.traits.cached:
            for record in records:
                record.origin = "cached"
        broken = self.traits.chained and (len(records) > 1 or self._skipped(records[0]))
        if broken or self.state != "live" or self.gap is not None:
            return self._deliver(records, recv)
        self.last = records[-1]
        return [Delivery(self, (), records)]

    def pushed_raw(self, recv: int, text: bytes) -> list[Delivery]:
        """Take one message that nobody wants parsed."""
        if not self.asked_for:
            return []
        self._acknowledged = True
        statements = self._resume(None, recv) if self.state != "live" or self.gap is not None else ()
        return [Delivery(self, statements, (), text, RECORD_WEIGHT * len(text))]

    def interrupted(self, reason: str, recv: int, state: str | None = None) -> list[Statement]:
        """
        Something may have been lost: open a gap, unless one is open or nothing was expected yet.

        `state` is the new state, and nothing counts until it is asked for again; None keeps the present one.
        """
        statements: list[Statement] = []
        expected = self._acknowledged or self.state == "live" or self.last is not None
        if self.gap is None and expected and self.state != "refused":
            self.gap = self._new_gap(reason, recv, self.last)
            statements.append(self.gap)
        self._void = self.traits.incremental and self.parsed
        if state is not None:
            self._acknowledged = False
            self._decode = None
            self._withheld = 0
            if state != self.state:
                statements.append(self.status(state, recv))
        return statements

    def skipped(self, reason: str, recv: int) -> list[Statement]:
        """
        One message was lost and delivery goes on: the gap ends with the next record.

        Where nothing comes until something happens it ends here, for nothing is missing from here on.
        """
        statements = self.interrupted(reason, recv)
        return statements + self._resume(None, recv) if statements and not self.traits.first_push else statements

    def refused(self, code: str | None, message: str, recv: int) -> list[Statement]:
        """The exchange does not serve this subscription, or no longer."""
        statements = self.interrupted("refused", recv)
        self._acknowledged = False
        return [*statements, self.status("refused", recv, {"code": code, "message": message})]

    def status(self, state: str, recv: int, detail: Any = None) -> Status:
        """Enter `state` and return the record that says so."""
        self.state, self.since = state, recv
        sub = self.sub
        return Status(self.venue, sub.channel, sub.inst, sub.account, None, recv, state, detail)

    def overflow(self, after: DataRecord | None, until: DataRecord | None, recv: int) -> list[Statement]:
        """Return the two statements that say what a full lane dropped of this feed, between two records."""
        gap = self._new_gap("overflow", recv, after)
        return [gap, _closed(gap, until, recv, None)]

    def _unseen(self, records: list[DataRecord]) -> list[DataRecord]:
        if not records:
            return records
        if type(records[0]) in _IDENTIFIED:
            return self._counted(records, [record for record in records if self._ids.add(_id(record))])
        if type(records[0]) is Order:
            return self._counted(records, [record for record in records if self._new_order(record)])
        ts = records[-1].ts
        if ts is None or ts <= self._latest:
            # A clock that stands still or goes back, or none: only the content tells a repetition. Without a
            # clock an earlier content may return, so only the last one counts.
            known = self._recent if ts is not None else list(self._recent)[-1:]
            if any(_same(records, others) for others in known):
                self.duplicates += len(records)
                return []
        else:
            self._latest = ts
        self._recent.append(records)
        return records

    def _counted(self, records: list[DataRecord], unseen: list[DataRecord]) -> list[DataRecord]:
        self.duplicates += len(records) - len(unseen)
        return unseen

    def _new_order(self, order: DataRecord) -> bool:
        """Only the whole content tells an order's pushes apart, and without a clock an earlier one may return."""
        assert isinstance(order, Order)
        whole = orjson.dumps(content(order))
        if order.ts is not None:
            return self._ids.add(whole)
        known = self._orders.pop(order.id, None)
        self._orders[order.id] = whole
        if len(self._orders) > _IDS:
            del self._orders[next(iter(self._orders))]
        return known != whole

    def _repeated(self, decoded: list[DataRecord], first: bool, recv: int) -> list[Delivery]:
        """
        Nothing new came. A first push that is empty or what was delivered last proves that delivery goes on; a
        repetition later proves nothing.
        """
        if self.state == "live" and self.gap is None:
            return []
        last = self.last
        if not decoded:
            return [] if self.traits.chained else [Delivery(self, self._resume(None, recv))]
        if not first or last is None or identity(decoded[-1]) != identity(last):
            return []
        return [Delivery(self, self._resume(last, recv, lost=None if last.ts is None else 0))]

    def _deliver(self, records: list[DataRecord], recv: int) -> list[Delivery]:
        """The slow way: statements may stand before any of the records."""
        deliveries: list[Delivery] = []
        run: list[DataRecord] = []
        for record in records:
            skipped = self._skipped(record) if self.traits.chained else None
            lost = skipped if skipped is not None and 0 <= skipped < _INT64 else None
            statements: list[Statement] = []
            if skipped and self.state == "live" and self.gap is None:
                self.gap = self._new_gap("sequence", recv, self.last)
                statements.append(self.gap)
            if self.state != "live" or self.gap is not None:
                statements += self._resume(record, recv, lost)
            self.last = record
            if statements or not deliveries:
                run = []
                deliveries.append(Delivery(self, statements, run))
            run.append(record)
        return deliveries

    def _skipped(self, record: DataRecord) -> int | None:
        """How many trades are missing before `record`; negative where the ids went back, None where untold."""
        last = self.last
        if not isinstance(record, Trade) or not isinstance(last, Trade) or record.count is None:
            return None
        try:
            return int(record.id) - record.count - int(last.id)
        except ValueError:
            return None

    def _resume(self, until: DataRecord | None, recv: int, lost: int | None = None) -> list[Statement]:
        statements: list[Statement] = []
        if self.gap is not None:
            statements.append(_closed(self.gap, until, recv, lost))
            self.gap = None
        if self.state != "live":
            statements.append(self.status("live", recv))
        return statements

    def _new_gap(self, reason: str, recv: int, after: DataRecord | None) -> Gap:
        sub = self.sub
        return Gap(
            self.venue, sub.channel, sub.inst, sub.account, None, recv, self._statements.next_gap(), "open", reason,
            position(after), after.ts if after else None, None, None, None,
        )  # fmt: skip


def _closed(gap: Gap, until: DataRecord | None, recv: int, lost: int | None) -> Gap:
    return Gap(
        gap.venue, gap.channel, gap.inst, gap.account, None, recv, gap.gap, "closed", gap.reason,
        gap.after, gap.after_ts, position(until), until.ts if until else None, lost,
    )  # fmt: skip


def position(record: AnyRecord | None) -> str | int | None:
    """Return where `record` stands in its subscription: a trade id or book sequence, None where it has neither."""
    if isinstance(record, Trade | Fill):
        return record.id
    return record.seq if isinstance(record, Book) else None


def _id(record: DataRecord) -> tuple[Any, ...] | str:
    if isinstance(record, Trade):
        return record.id
    assert isinstance(record, Fill)
    return (record.order_id, record.id, record.side)


def _same(some: list[DataRecord], others: list[DataRecord]) -> bool:
    return len(some) == len(others) and all(content(a) == content(b) for a, b in zip(some, others, strict=True))


def _snapshot(records: list[DataRecord]) -> bool:
    """Whether changes can follow `records`; a book without a normalised form is its consumer's business."""
    return bool(records) and not (isinstance(records[0], Book) and records[0].action == "update")


@dataclass(slots=True)
class _Window:
    """The last `size` things seen."""

    size: int
    _order: deque[Any] = field(default_factory=deque)
    _seen: set[Any] = field(default_factory=set)

    def add(self, thing: Any) -> bool:
        """Remember `thing`; return whether it was new."""
        if thing in self._seen:
            return False
        self._seen.add(thing)
        self._order.append(thing)
        if len(self._order) > self.size:
            self._seen.discard(self._order.popleft())
        return True
