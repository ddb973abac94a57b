"""
The continuity of one subscription, without I/O.

A feed outlives every connection that serves it. It knows what was delivered last, drops what comes twice, and
states what may be missing: a gap opens the moment loss is possible and closes directly before delivery goes on.
One or two connections bring it (see source.py); one of them leads, and what is lost on one is a gap only if the
other does not bring it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from .book import Levels
from .channels import Subscription
from .dialects import Decoder, Dialect, Traits
from .identities import identity
from .merging import Records, Seen, mark
from .records import AnyRecord, Book, DataRecord, Fill, Gap, Statement, Status, Trade
from .source import Message, Source, passed

_STATEMENT_WEIGHT = 600
RECORD_WEIGHT = 3
"""Bytes of memory that records take for each byte of the frame they came in, as measured roughly."""

_INT64 = 2**63
_TAIL = 4096


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
    is not decoded and states only what the link loses. `keeps`: whether somebody may want a book's levels.
    `doubtful`: the connection that led may have been mute. `stale_times`, `mute_times`: how often that was so lately.
    """

    def __init__(
        self,
        sub: Subscription,
        venue: str,
        dialect: Dialect,
        statements: Statements,
        *,
        parsed: bool = True,
        keeps: bool = False,
    ) -> None:
        self.sub = sub
        self.venue = venue
        self.traits: Traits = dialect.traits(sub)
        self.parsed = parsed
        self.state = "connecting"
        self.since = 0
        self.gap: Gap | None = None
        self.last: DataRecord | None = None
        self.epoch = 0
        self.books = 0
        self.sources: list[Source] = []
        self.leader: Source | None = None
        self._dialect = dialect
        self._statements = statements
        self._seen = Seen()
        self.expected = False
        self.doubtful = False
        self.stale_times = 0
        self.mute_times = 0
        self._keeps = keeps and parsed and self.traits.sequenced
        self._levels: Levels | None = None

    # -- the connections that bring it

    def source(self) -> Source:
        """Return the part of one more connection."""
        source = Source(self)
        self.sources.append(source)
        return source

    def decoder(self) -> Decoder:
        return self._dialect.decoder(self.sub, self.venue)

    def leave(self, source: Source, reason: str, recv: int, state: str) -> list[Delivery]:
        """The connection of `source` is gone."""
        deliveries = source.lose(reason, recv, state)
        self.sources.remove(source)
        return deliveries

    def flows(self, source: Source, recv: int) -> list[Delivery]:
        """From now on nothing is missing of what `source` will bring."""
        if self.leader is not None and self.leader is not source:
            return []
        self.leader = source
        self.expected = True
        statements = self._resume(None, recv) if self.state != "live" or self.gap is not None else []
        return [Delivery(self, statements)] if statements else []

    def lead(self, source: Source, recv: int, reason: str) -> list[Delivery]:
        """Follow `source` from now on; deliver what it brought beyond the one that led. `reason`: of that change."""
        if self.leader is not None:
            self.leader.tail.clear()
        self.leader = source
        self.trim(source)
        source.joining = self.last is not None and (source.chain is None or self.state == "live")
        waiting, source.tail = source.tail, deque()
        if source.joining and source.chain is not None and not self.traits.sequenced:
            if not self._level(source) and (waiting or not self._behind(source)):
                return self._rejoined(source, reason, recv)
        deliveries: list[Delivery] = []
        for message in waiting:
            if source.broken is None:
                deliveries += self.take(source, message, reason)
        if source.broken is not None:
            deliveries += source.lose(source.broken[0], recv, "void", source.broken[1])
        return deliveries

    def trim(self, source: Source) -> None:
        """Drop of what `source` brought beside the leader all that is delivered."""
        tail = source.tail
        while tail and self._covered(tail[0]):
            source.passed = passed(tail.popleft())

    def impatient(self, source: Source, recv: int) -> list[Delivery]:
        """Follow `source` if it is ahead of the leader for too long."""
        if self.leader is source or not source.tail:
            return []
        self.trim(source)
        tail, pace = source.tail, self.traits.pace
        patience = 1.0 if pace is None else pace.patience
        if tail and (recv - tail[0].recv > patience * 1e9 or len(tail) > _TAIL):
            return self.lead(source, recv, "stale")
        return []

    def lose(
        self, source: Source, reason: str, recv: int, state: str | None, detail: dict[str, Any] | None = None
    ) -> list[Delivery]:
        """
        Something of what `source` brings may be lost: a gap, unless another brings it.

        See Source.lose.
        """
        if self.state == "refused" or (self.leader is not None and self.leader is not source):
            return []
        for other in self.sources:
            if other is not source and other.covers(recv):
                return self.lead(other, recv, reason)
        if state is not None:
            self.leader = None
        statements = self._interrupted(reason, recv, state, detail)
        if state is None and statements and not self.traits.first_push:
            # Nothing comes until something happens, so nothing is missing from here on.
            statements += self._resume(None, recv)
        return [Delivery(self, statements)] if statements else []

    def refuse(self, source: Source, code: str | None, message: str, recv: int) -> list[Delivery]:
        """The exchange does not serve this subscription, or no longer; at least not to `source`."""
        source.forget()
        if any(other.flowing for other in self.sources) or self.state == "refused":
            return []
        self.leader = None
        statements = self._interrupted("refused", recv, None)
        return [Delivery(self, [*statements, self.status("refused", recv, {"code": code, "message": message})])]

    # -- what they bring

    def take(self, source: Source, message: Message, reason: str = "disconnected") -> list[Delivery]:
        """Take one message of `source`; return what is to be delivered. `reason`: of a gap, if it does not join."""
        if source is not self.leader:
            if self.leader is not None:
                message.text = message.text or None
                source.tail.append(message)
                return self.impatient(source, message.recv)
            self.leader = source
        if self.state == "refused":
            return []
        if source.joining:
            instead = self._join(source, message, reason)
            if instead is not None:
                return instead
        elif len(self.sources) > 1 and (other := self._filling(source, message)) is not None:
            deliveries = self.lead(other, message.recv, "sequence")
            source.tail.append(message)
            return deliveries
        return self._accept(message)

    def take_raw(self, source: Source, recv: int, text: bytes, weight: int) -> list[Delivery]:
        """Take one message that nobody wants parsed."""
        if source is not self.leader:
            if self.leader is not None:
                return []
            self.leader = source
        self.expected = True
        statements = self._resume(None, recv) if self.state != "live" or self.gap is not None else ()
        return [Delivery(self, statements, (), text, weight)]

    def passing(self, source: Source, text: bytes | None, weight: int) -> list[Delivery]:
        """Return what raw lanes get of a message without a record."""
        leads = self.leader is None or self.leader is source
        return [Delivery(self, (), (), text, weight)] if text is not None and leads else []

    def status(self, state: str, recv: int, detail: Any = None) -> Status:
        """Enter `state` and return the record that says so."""
        self.state, self.since = state, recv
        sub = self.sub
        return Status(self.venue, sub.channel, sub.inst, sub.account, None, recv, state, detail)

    def overflow(self, after: DataRecord | None, until: DataRecord | None, recv: int) -> list[Statement]:
        """Return the two statements that say what a full lane dropped of this feed, between two records."""
        gap = self._new_gap("overflow", recv, after)
        return [gap, _closed(gap, until, recv, None)]

    def repeated(self, times: int) -> None:
        """Count what came twice."""
        self._seen.repeated += times

    # -- what it has come to

    @property
    def duplicates(self) -> int:
        """Records that came twice."""
        return self._seen.repeated

    @property
    def counted(self) -> bool:
        """Whether trades say how many they stand for, so that the next one shows what is missing."""
        last = self.last
        return self.traits.chained and self.parsed and isinstance(last, Trade) and last.count is not None

    @property
    def levels(self) -> Levels | None:
        """The book as it was delivered last; None where it is void, or not kept."""
        if self.state != "live" or self.gap is not None or not self.traits.incremental or self.leader is None:
            return None
        if self.traits.sequenced:
            return self._levels
        return self.leader.chain.levels if self.leader.chain is not None else None

    def snapshot(self, recv: int, depth: int | None = None) -> Book | None:
        """Return the book as it was delivered last, as one record; None where it is void, or not kept."""
        levels, last = self.levels, self.last
        if levels is None or not isinstance(last, Book):
            return None
        bids, asks = levels.top(depth)
        prev = None if last.seq is None else -1
        return Book(last.venue, last.channel, last.inst, last.ts, recv, "snapshot", bids, asks, last.seq, prev,
                    last.checksum)  # fmt: skip

    # -- inside

    def _accept(self, message: Message, opened: Sequence[Statement] = ()) -> list[Delivery]:
        decoded, recv = message.records, message.recv
        if self.state != "live" and self.traits.incremental:
            self._seen.forget_recent()
        records = self._seen.unseen(decoded)
        if not records:
            return self._repeated(message) or self._text(message)
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
        return [Delivery(self, (), (), message.text, message.weight)] if message.text is not None else []

    def _keep(self, records: Records) -> None:
        """Bring the levels up to what is delivered."""
        self.books += 1
        if not self._keeps:
            return
        for book in records:
            if not isinstance(book, Book):
                return
            try:
                if book.action == "snapshot":
                    self._levels = Levels()
                    self._levels.replace(book.bids, book.asks)
                elif self._levels is not None:
                    self._levels.apply(book.bids, book.asks)
            except ValueError:
                self._levels = None

    def _covered(self, message: Message) -> bool:
        """Whether what another source brought is delivered already."""
        last = self.last
        record = message.records[-1] if message.records else None
        if isinstance(record, Book) and isinstance(last, Book) and self.traits.incremental:
            if not self.traits.sequenced:
                here = mark(record)
                return here is not None and (here == mark(last) or (record.ts or 0) < (last.ts or 0))
            if record.seq is not None and last.seq is not None:
                return (message.epoch, record.seq) <= (self.epoch, last.seq)
        return self._seen.covers(message.records, last)

    def _level(self, source: Source) -> bool:
        """Whether an unnumbered book of `source` was seen to be where the delivered one is."""
        last = self.last
        return isinstance(last, Book) and source.passed is not None and source.passed == mark(last)

    def _behind(self, source: Source) -> bool:
        last = self.last
        return source.passed is not None and last is not None and (source.passed[0] or 0) < (last.ts or 0)

    def _join(self, source: Source, message: Message, reason: str) -> list[Delivery] | None:
        """
        Go on with `source` where another one led: None where `message` follows, else what is delivered instead.

        Rows of a book are absolute, so a change from before to beyond the place that was reached is exact.
        """
        if self._covered(message):
            source.passed = passed(message)
            source.joining = not (source.chain is not None and self._level(source))
            return []
        source.joining = False
        first, last = message.records[0], self.last
        doubtful, self.doubtful = self.doubtful, False
        if source.chain is None or not isinstance(first, Book) or not isinstance(last, Book):
            # What one connection brings at once, and the other had not brought while it seemed mute, was lost there.
            return self._accept(message, self._interrupted("stale", message.recv)) if doubtful else None
        if not self.traits.sequenced:
            return None if self._level(source) else self._rejoined(source, reason, message.recv)
        if first.action == "snapshot":
            return self._accept(message, self._interrupted(reason, message.recv))
        if first.prev == last.seq:
            return None
        if first.prev is not None and last.seq is not None and message.epoch == self.epoch and first.prev < last.seq:
            message.records = [replace(first, prev=last.seq), *message.records[1:]]
            return None
        source.broken = (reason, {"expected": last.seq, "prev": first.prev, "seq": first.seq})
        return []

    def _rejoined(self, source: Source, reason: str, recv: int) -> list[Delivery]:
        """Go on with the whole book of `source`, which cannot be joined to what was delivered."""
        source.joining = False
        latest, levels = source.latest, source.chain.levels if source.chain is not None else None
        if latest is None or levels is None:
            source.broken = (reason, None)
            return []
        bids, asks = levels.top()
        whole = replace(latest, action="snapshot", bids=bids, asks=asks)
        opened = self._interrupted(reason, recv)
        self._keep([whole])
        return self._deliver([whole], recv, opened)

    def _filling(self, source: Source, message: Message) -> Source | None:
        """Return another source that may bring the trades that are missing before `message`."""
        if not self.traits.chained or self.state != "live" or self.gap is not None or not message.records:
            return None
        skipped = self._skipped(message.records[0])
        if skipped is None or skipped <= 0:
            return None
        for other in self.sources:
            if other is not source and other.covers(message.recv):
                self.trim(other)
                if not other.tail or not self._skipped(other.tail[0].records[0]):
                    return other
        return None

    def _interrupted(
        self, reason: str, recv: int, state: str | None = None, detail: dict[str, Any] | None = None
    ) -> list[Statement]:
        """Open a gap, unless one is open or nothing was expected yet; enter `state`, None: the present one."""
        statements: list[Statement] = []
        expected = self.expected or self.state == "live" or self.last is not None
        if self.gap is None and expected:
            self.gap = self._new_gap(reason, recv, self.last)
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
        return [Delivery(self, said, (), message.text, message.weight)] if said else []

    def _deliver(self, records: Records, recv: int, opened: Sequence[Statement] = ()) -> list[Delivery]:
        """The slow way: statements may stand before any of the records."""
        deliveries: list[Delivery] = []
        run: list[DataRecord] = []
        for record in records:
            skipped = self._skipped(record) if self.traits.chained else None
            lost = skipped if skipped is not None and 0 <= skipped < _INT64 else None
            statements: list[Statement] = [] if deliveries else list(opened)
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
