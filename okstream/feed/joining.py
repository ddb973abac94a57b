"""
How delivery goes on where another connection takes over: what of it is delivered already, and what differs.

Rows of a book are absolute, so the changes from before to beyond the place that was reached are exact.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import orjson

from ..book import Levels
from ..channels import Subscription
from ..dialects import Traits
from ..records import Book, Candle
from ..statements import Statements
from .continuity import RECORD_WEIGHT, Continuity, Delivery
from .kept import Sides, difference, keep, put
from .merging import SKEW_MS, mark, opaque, renumbered, shows
from .source import Message, Source, passed

_BEHIND_NS = 1_000_000_000
"""How far one connection may be behind another with what both bring."""

_ROW_BYTES = 40
"""A level, as the exchange writes it."""


class Joining(Continuity):
    """One subscription's records from several connections: `sources`, of which the `leader` is followed."""

    def __init__(self, sub: Subscription, venue: str, traits: Traits, statements: Statements, keeps: bool) -> None:
        super().__init__(sub, venue, traits, statements, keeps)
        self.sources: list[Source] = []
        self.leader: Source | None = None
        self._held: tuple[bytes, bytes] | None = None

    @property
    def verified(self) -> Levels | None:
        return self.leader.delivered if self.leader is not None else None

    @property
    def bars(self) -> bool:
        """Whether it brings candles."""
        return isinstance(self.last, Candle)

    def hold(self, source: Source) -> None:
        """Keep the levels that were delivered, where only `source`, which leads no more, has them."""
        if source is self.leader and not source.joining:
            levels = source.chain.levels if source.chain is not None and len(self.sources) > 1 else None
            self._held = levels.sides() if levels is not None else None

    def _step_back(self, leader: Source) -> None:
        """What led has brought nothing that was not delivered, unless it had not joined yet."""
        leader.tail.clear()
        if leader.joining:
            leader.joining = False
            return
        if leader.flowing:
            self.hold(leader)
        leader.passed = mark(self.last) if isinstance(self.last, Book) else None
        if self.keeps and leader.flowing:
            leader.kept = self._kept.copy() if leader.levels is None else keep()

    def trim(self, source: Source) -> None:
        """Drop of what `source` brought beside the leader all that is delivered."""
        tail = source.tail
        while tail and self._covered(source, tail[0]):
            source.passed = passed(tail.popleft())

    def _beyond(self, source: Source) -> Message | None:
        """Return the first that `source` brought which is not just what the leader has, in words of its own."""
        tail, leader = source.tail, self.leader
        if leader is None or not opaque(tail[0].records):
            return tail[0]
        return next((message for message in tail if message.recv > leader.heard + _BEHIND_NS), None)

    def _outdone(self, source: Source, recv: int, seconds: float) -> bool:
        """Whether `source` was where the leader is not for longer than `seconds`, as far as its tail goes."""
        since = None
        until = [*[message.recv for message in source.tail], recv][1:]
        for message, same, end in zip(source.tail, self._same(source), until, strict=True):
            since = None if same else since or message.recv
            if since is not None and end - since > seconds * 1e9:
                return True
        return False

    def _same(self, source: Source) -> Iterator[bool]:
        """Say of each message that `source` brought beside the leader if it shows what was delivered last."""
        if not self.traits.incremental:
            same = True
            for message in source.tail:
                if message.records:
                    same = shows(message.records, self.last, message.first and source.opening(message.recv))
                yield same
            return
        delivered, levels = self._kept.levels() if self.keeps else None, Levels()
        before = delivered.sides() if delivered is not None else self._held
        levels.replace(*before or (b"[]", b"[]"))
        for message in source.tail:
            try:
                for book in message.records:
                    if isinstance(book, Book):
                        put(levels, book)
            except ValueError:
                before = None
            yield before is not None and levels.sides() == before

    def _covered(self, source: Source, message: Message) -> bool:
        """Whether what another source brought is delivered already."""
        last = self.last
        record = message.records[-1] if message.records else None
        if isinstance(record, Book) and isinstance(last, Book) and self.traits.incremental:
            if not self.traits.sequenced:
                earlier = (record.ts or 0) - (last.ts or 0) < (record.checksum is None)
                return earlier or mark(record) == mark(last)
            if record.seq is not None and last.seq is not None:
                earlier = (record.ts or 0) < (last.ts or 0)
                passed_by = (message.epoch, record.seq) <= (self.epoch, last.seq)
                return earlier or (passed_by and not renumbered(record, last))
        leader = self.leader if self.leader is not source else None
        overtaken = None if leader is None else message.recv + _BEHIND_NS < leader.heard
        covered, source.cursor = self._seen.covers(message.records, last, source.cursor, overtaken)
        return covered

    def _level(self, source: Source) -> bool:
        """Whether an unnumbered book of `source` was seen to be where the delivered one is."""
        last = self.last
        if not isinstance(last, Book) or not isinstance(source.latest, Book):
            return False
        if self.traits.sequenced and source.chain is not None:
            return source.latest.seq == last.seq and source.chain.epoch == self.epoch
        return last.checksum is not None and source.passed == mark(last)

    def _lost_touch(self, message: Message) -> bool:
        """Whether a book is later than what was delivered, though its number says the contrary."""
        book, last = message.records[-1] if message.records else None, self.last
        if not isinstance(book, Book) or not isinstance(last, Book) or not self.traits.sequenced:
            return False
        return (book.ts or 0) > (last.ts or 0) + SKEW_MS

    def _behind(self, source: Source) -> bool:
        last = self.last
        return source.passed is not None and last is not None and (source.passed[0] or 0) < (last.ts or 0)

    def _join(self, source: Source, message: Message, reason: str) -> list[Delivery] | None:
        """
        Go on with `source` where another one led: None where `message` follows, else what is delivered instead.

        Rows of a book are absolute, so a change from before to beyond the place that was reached is exact.
        """
        last = self.last
        if isinstance(last, Candle):
            # One message may hold the end of a bar that is over, and the next bar.
            message.records = [record for record in message.records if (record.ts or 0) >= (last.ts or 0)]
        if self._covered(source, message):
            source.passed = passed(message)
            source.joining = not (source.chain is not None and self._level(source))
            if source.joining and self._lost_touch(message):
                source.broken = (reason, {"why": "its numbers cannot be compared with those of the other connection"})
                return []
            return self._repeated(message) or self._text(message)
        source.joining = False
        first = message.records[0]
        if source.chain is None or not isinstance(first, Book) or not isinstance(last, Book):
            return None
        if self._level(source) or (self.traits.sequenced and not self._ahead(message)):
            self.doubtful = False
            return None
        if not self.traits.sequenced:
            return self._rejoined(source, reason, message.recv, [message])
        return self._differing(source, [message])

    def _ahead(self, message: Message) -> bool:
        """Whether a numbered book is beyond what was delivered last, and does not just follow on it."""
        first, last = message.records[0], self.last
        if not isinstance(first, Book) or not isinstance(last, Book) or not self.traits.sequenced:
            return False
        return first.prev != last.seq or first.action == "snapshot"

    def _differing(self, source: Source, messages: list[Message]) -> list[Delivery]:
        """
        Deliver in place of `messages`, the last that `source` brought, what changes the delivered book into its own;
        all of its own where the delivered one is not kept.

        Its changes alone would nearly do, for their rows are absolute. But at the far end of the window of levels what
        came in and left again between the two places is named by neither.
        """
        source.joining = False
        doubtful, self.doubtful = self.doubtful, False
        before = self._kept.levels() if self.keeps else None
        last, latest, after = self.last, source.latest, source.levels
        if after is None or not (isinstance(last, Book) and isinstance(latest, Book)):
            source.broken = ("sequence", None)
            return []
        bids, asks = after.top()
        if doubtful or before is None:
            change = replace(latest, action="snapshot", bids=bids, asks=asks, prev=-1)
        else:
            bids, asks = difference(before.top(), (bids, asks))
            change = replace(latest, action="update", bids=bids, asks=asks, prev=last.seq)
        source.kept = None
        newest = messages[-1]
        opened = self._interrupted("stale", newest.recv) if doubtful else []
        instead = Message([change], newest.recv, None, max(newest.weight, _weight(change)), epoch=newest.epoch)
        return self._texted(self._accept(instead, opened), messages)

    def _texted(self, deliveries: list[Delivery], messages: Iterable[Message]) -> list[Delivery]:
        """Return `deliveries`, made in place of `messages`, with their texts behind all that is said before them."""
        texts = [delivery for message in messages for delivery in self._text(message)]
        if texts and deliveries:
            first, last = texts.pop(0), deliveries[-1]
            last.text, last.weight = first.text, max(first.weight, last.weight)
        return deliveries + texts

    def _rejoined(self, source: Source, reason: str, recv: int, messages: Iterable[Message]) -> list[Delivery]:
        """
        Go on with the book of `source`, which is later than what was delivered: what differs, or all of it.

        In place of `messages`, the last that it brought.
        """
        source.joining = False
        latest, levels = source.latest, source.levels
        if not isinstance(latest, Book) or levels is None:
            source.broken = (reason, None)
            return []
        self._seen.forget_recent()
        bids, asks = levels.top()
        held, self._held = _rows(self._held), None
        doubtful, self.doubtful = self.doubtful, False
        if held is not None and self.state == "live" and self.gap is None and not doubtful:
            bids, asks = difference(held, (bids, asks))
            change, opened = replace(latest, action="update", bids=bids, asks=asks), []
        else:
            change = replace(latest, action="snapshot", bids=bids, asks=asks)
            opened = self._interrupted("stale" if doubtful else reason, recv)
        deliveries = self._deliver([change], recv, opened)
        deliveries[-1].weight = _weight(change)
        return self._texted(deliveries, messages)

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


def _rows(sides: tuple[bytes, bytes] | None) -> Sides | None:
    return None if sides is None else (orjson.loads(sides[0]), orjson.loads(sides[1]))


def _weight(book: Book) -> int:
    """Return what `book` holds of memory, as no frame brought it."""
    return RECORD_WEIGHT * _ROW_BYTES * (1 + len(book.bids) + len(book.asks))
