"""
One subscription's records as one sequence: what comes twice, what is missing, and what is said of it.

A gap opens the moment loss is possible and closes directly before delivery goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..book import Levels
from ..channels import Subscription
from ..dialects import Traits
from ..entries import RAW, Entry, Head
from ..identities import identity
from ..records import Book, DataRecord, Fill, Gap, Instrument, Liquidation, Order, Statement, Status, Trade
from ..statements import Statements, closed
from .kept import keep
from .merging import Records, Seen, before
from .source import Message

_STATEMENT_WEIGHT = 600
RECORD_WEIGHT = 3
"""Bytes of memory that records take for each byte of the frame they came in, as measured roughly."""

_INT64 = 2**63
_EVENTS = (Trade, Fill, Order, Liquidation, Instrument)


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
        number: of arrival, given by the first lane.
        recv: when it came, ns, where it has no record to tell.
        entries: its records as lines, made by the first lane that wants them.
    """

    feed: "Continuity | None"
    statements: Sequence[Statement] = ()
    records: Sequence[DataRecord] = ()
    text: bytes | None = None
    weight: int = _STATEMENT_WEIGHT
    number: int = 0
    recv: int = 0
    entries: list[Entry] | None = None


class Continuity:
    """
    What has been delivered of `sub`, and what is missing.

    `state` is one of the status words; `since` the time it began (ns). `expected`: the exchange serves it, so that
    something may be lost. `refusal_said`: it is refused, and that was said. `books` counts the messages of a book that
    were delivered; it is kept if it `keeps`, and from its next snapshot on if it is `keeping`.
    """

    def __init__(self, sub: Subscription, venue: str, traits: Traits, statements: Statements, keeps: bool) -> None:
        self.sub = sub
        self.venue = venue
        self.traits = traits
        self.state = "connecting"
        self.since = 0
        self.gap: Gap | None = None
        self.last: DataRecord | None = None
        self.expected = False
        self.refusal_said = False
        self.doubtful = False
        self.epoch = 0
        self.books = 0
        self._statements = statements
        self._seen = Seen(traits.stamp)
        self.head = Head("", RAW, venue, sub.channel, sub.inst, sub.account, None, 0)
        self.keeps = self.keeping = keeps
        self._kept = keep()

    @property
    def duplicates(self) -> int:
        """Records that came twice."""
        return self._seen.repeated

    @property
    def served(self) -> bool:
        """Whether the exchange ever served it."""
        return self.expected or self.last is not None

    @property
    def counted(self) -> bool:
        """Whether trades say how many they stand for, so that the next one shows what is missing."""
        last = self.last
        return self.traits.chained and isinstance(last, Trade) and last.count is not None

    @property
    def eventful(self) -> bool:
        """Whether each record is something that happened, and none tells what is missing before it."""
        return not self.traits.first_push or (isinstance(self.last, _EVENTS) and not self.counted)

    @property
    def levels(self) -> Levels | None:
        """The book as it was delivered last; None where it is void, or not kept."""
        whole = self.state == "live" and self.gap is None and self.traits.incremental
        return (self._kept.levels() or self.verified) if whole else None

    @property
    def verified(self) -> Levels | None:
        """The levels that a book was verified with, where they are what was delivered: then they are not kept twice."""
        return None

    def keep_apart(self) -> None:
        """From here on, what was delivered may not be what it was verified with."""
        verified = self.verified
        if self.keeps and verified is not None and self.last is not None and not self._kept.known:
            self._kept.begin(verified)

    def snapshot(self, recv: int, depth: int | None = None) -> Book | None:
        """Return the book as it was delivered last, as one record; None where it is void, or not kept."""
        levels, last = self.levels, self.last
        if levels is None or not isinstance(last, Book):
            return None
        bids, asks = levels.top(depth)
        prev = None if last.seq is None else -1
        return Book(last.venue, last.channel, last.inst, last.ts, recv, "snapshot", bids, asks, last.seq, prev,
                    last.checksum if depth is None else None)  # fmt: skip

    def status(self, state: str, recv: int, detail: Any = None) -> Status:
        """Enter `state` and return the record that says so."""
        self.state, self.since = state, recv
        sub = self.sub
        return Status(self.venue, sub.channel, sub.inst, sub.account, None, recv, state, detail)

    def overflow(self, after: DataRecord | None, until: DataRecord | None, recv: int) -> list[Statement]:
        """Return the two statements that say what a full lane dropped of this feed, between two records."""
        gap = self._statements.gap(self.venue, self.sub, "overflow", recv, after)
        return [gap, closed(gap, until, recv, None)]

    def repeated(self, times: int) -> None:
        """Count what came twice."""
        self._seen.repeated += times

    def follow(self, records: Records, text: bytes | None, weight: int, epoch: int) -> list[Delivery] | None:
        """The short way of one record that follows on the last; None where there is more to it."""
        if self.state != "live" or self.gap is not None or self.doubtful:
            return None
        (record,) = records
        traits = self.traits
        if traits.sequenced:
            # A change of a numbered book is known not to come twice; a keep-alive or a snapshot is not.
            if type(record) is not Book or record.seq == record.prev or record.action == "snapshot":
                return None
        elif traits.chained and self._skipped(record):
            return None
        elif not self._seen.unseen(records):
            return [] if text is None else [Delivery(self, (), (), text, weight, recv=record.recv)]
        self.epoch = epoch
        if traits.incremental:
            self._keep(records)
        self.last = record
        return [Delivery(self, (), records, text, weight)]

    def _accept(self, message: Message, opened: Sequence[Statement] = ()) -> list[Delivery]:
        decoded, recv = message.records, message.recv
        if self.state != "live" and self.traits.incremental:
            self._seen.forget_recent()
        records = self._seen.unseen(decoded)
        if records and records[0].origin == "cached":
            # What is older than what was delivered, and was missed in a gap before, would come out of order.
            records = [record for record in records if not before(record, self.last)]
        if not records:
            said = [Delivery(self, list(opened))] if opened else []
            return said + (self._repeated(message) or self._text(message))
        self.epoch = message.epoch
        if self.traits.incremental:
            self._keep(records)
        broken = self.traits.chained and (len(records) > 1 or self._skipped(records[0]))
        if broken or self.state != "live" or self.gap is not None:
            deliveries = self._deliver(records, recv, opened)
        else:
            self.last = records[-1]
            deliveries = [Delivery(self, (), records)]
        last = deliveries[-1]
        last.text, last.weight = message.text, message.weight
        return deliveries

    def _text(self, message: Message) -> list[Delivery]:
        text, weight, recv = message.text, message.weight, message.recv
        return [Delivery(self, (), (), text, weight, recv=recv)] if text is not None else []

    def _keep(self, records: Records) -> None:
        """Remember what is delivered of a book."""
        self.books += 1
        if self.keeping is not self.keeps:
            # Levels begin with a snapshot; so does what is known of them on other connections.
            self.keeps = any(isinstance(book, Book) and book.action == "snapshot" for book in records)
        if self.keeps:
            if self.verified is None:
                self._kept.take(records)
            else:
                self._kept.drop()

    def _interrupted(
        self, reason: str, recv: int, state: str | None = None, detail: dict[str, Any] | None = None
    ) -> list[Statement]:
        """Open a gap, unless one is open or nothing was expected yet; enter `state`, None: the present one."""
        statements: list[Statement] = []
        expected = self.expected or self.state == "live" or self.last is not None
        self.doubtful = False
        if self.gap is None and expected:
            self.gap = self._statements.gap(self.venue, self.sub, reason, recv, self.last)
            statements.append(self.gap)
        if state is not None and state != self.state:
            statements.append(self.status(state, recv, detail))
        return statements

    def _repeated(self, message: Message) -> list[Delivery]:
        """
        Nothing new came. A first push that is empty or what was delivered last proves that delivery goes on; a
        repetition later proves nothing.
        """
        decoded, recv = message.records, message.recv
        if self.state == "live" and self.gap is None:
            return []
        last = self.last
        if not decoded:
            said = [] if self.traits.chained else self._resume(None, recv)
        elif not message.first or last is None or identity(decoded[-1]) != identity(last):
            said = []
        else:
            said = self._resume(last, recv, lost=None if last.ts is None else 0)
        return [Delivery(self, said, (), message.text, message.weight, recv=recv)] if said else []

    def _deliver(self, records: Records, recv: int, opened: Sequence[Statement] = ()) -> list[Delivery]:
        """The slow way: statements may stand before any of the records."""
        deliveries: list[Delivery] = []
        run: list[DataRecord] = []
        for record in records:
            skipped = self._skipped(record) if self.traits.chained else None
            lost = skipped if skipped is not None and 0 <= skipped < _INT64 else None
            statements: list[Statement] = [] if deliveries else list(opened)
            if skipped and self.state == "live" and self.gap is None:
                self.gap = self._statements.gap(self.venue, self.sub, "sequence", recv, self.last)
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
        self.refusal_said = False
        if self.gap is not None:
            statements.append(closed(self.gap, until, recv, lost))
            self.gap = None
        if self.state != "live":
            statements.append(self.status("live", recv))
        return statements
