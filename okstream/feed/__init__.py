"""
The continuity of one subscription, without I/O.

A feed outlives every connection that serves it. It knows what was delivered last, drops what comes twice, and
states what may be missing: a gap opens the moment loss is possible and closes directly before delivery goes on.
One or two connections bring it (see source.py); one of them leads, and what is lost on one is a gap only if the
other does not bring it.
"""

from collections import deque
from dataclasses import replace
from typing import Any

from ..book import BookView, Levels
from ..channels import Subscription
from ..dialects import Decoder, Dialect
from ..errors import BookVoidError
from ..freshness import skew
from ..records import Book, Candle, Statement
from ..statements import Statements
from .continuity import RECORD_WEIGHT, Continuity, Delivery
from .kept import Sides, difference
from .merging import SKEW_MS, mark, renumbered, shows
from .source import Message, Source, passed

__all__ = ["RECORD_WEIGHT", "Delivery", "Feed"]

_TAIL = 4096


class Feed(Continuity):
    """
    One subscription of one venue, from subscribe to unsubscribe, and the connections that bring it.

    A feed for raw lanes alone (`parsed` false) is not decoded and states only what the link loses. `keeps`: whether
    somebody may want a book's levels. `doubtful`: the connection that led may have been mute. `stale_times` and
    `mute_times`: how often that was so lately; no connection is replaced for it before `quiet_until` (ns).
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
        traits = dialect.traits(sub)
        super().__init__(sub, venue, traits, statements, keeps and parsed and traits.sequenced)
        self.parsed = parsed
        self.sources: list[Source] = []
        self.leader: Source | None = None
        self.stale_times = 0
        self.quiet_until = 0
        self.mute_times = 0
        self._shared = False
        self._held: Sides | None = None
        self._dialect = dialect

    @property
    def verified(self) -> Levels | None:
        return self.leader.delivered if self.leader is not None else None

    def view(self, now: int) -> BookView:
        """
        Return the book as it was delivered last, at the time `now` (ns).

        Raises:
            BookVoidError: there is none.
        """
        levels, last = self.levels, self.last
        if levels is None or not isinstance(last, Book):
            between = "between two connections" if self.state == "live" else self.state
            known = "not here yet" if last is None else between
            raise BookVoidError(f"the book of {self.sub.inst} is {known}")
        heard = self.leader.heard if self.leader is not None else last.recv
        return BookView(levels, last.inst or "", last.ts, last.recv, last.seq, max(0.0, (now - heard) / 1e9))

    def keep(self) -> None:
        """Have its levels kept, from its next snapshot on if they are not yet."""
        self.keeping = self.parsed and self.traits.sequenced

    # -- the connections that bring it

    def source(self) -> Source:
        """Return the part of one more connection."""
        self.keep_apart()
        source = Source(self)
        self.sources.append(source)
        self._shared = self._shared or len(self.sources) > 1
        return source

    def decoder(self) -> Decoder:
        return self._dialect.decoder(self.sub, self.venue)

    def leave(self, source: Source, reason: str, recv: int, state: str) -> list[Delivery]:
        """The connection of `source` is gone."""
        deliveries = source.lose(reason, recv, state)
        self.sources.remove(source)
        if all(other.refusal for other in self.sources):
            for other in self.sources:
                other.again = True
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
            self._step_back(self.leader)
        self.leader = source
        self.trim(source)
        source.joining = self.last is not None and (source.chain is None or self.state == "live")
        waiting, source.tail = source.tail, deque()
        unnumbered = source.joining and source.chain is not None and not self.traits.sequenced
        if unnumbered and not self._level(source) and (waiting or not self._behind(source)):
            return self._rejoined(source, reason, recv)
        if source.joining and waiting and self.keeps and self._ahead(waiting[0]):
            return self._differing(source, list(waiting))
        deliveries: list[Delivery] = []
        for message in waiting:
            if source.broken is None:
                deliveries += self.take(source, message, reason)
        if source.broken is not None:
            deliveries += source.lose(source.broken[0], recv, "void", source.broken[1])
        return deliveries

    def hold(self, source: Source) -> None:
        """Keep the levels that were delivered, where only `source`, which leads no more, has them."""
        if source is self.leader and not source.joining:
            levels = source.chain.levels if source.chain is not None and len(self.sources) > 1 else None
            self._held = levels.top() if levels is not None else None

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
            leader.kept = self._kept.copy()

    def trim(self, source: Source) -> None:
        """Drop of what `source` brought beside the leader all that is delivered."""
        tail = source.tail
        while tail and self._covered(source, tail[0]):
            source.passed = passed(tail.popleft())

    def impatient(self, source: Source, recv: int) -> list[Delivery]:
        """Follow `source` if it is ahead of the leader for too long."""
        if self.leader is source or not source.tail:
            return []
        self.trim(source)
        tail, patience = source.tail, self.traits.pace.patience if self.traits.pace else 1.0
        if tail and (recv - tail[0].recv > patience * 1e9 or len(tail) > _TAIL):
            if self.leader is not None and not source.was_there(self.leader.heard):
                self.doubtful |= self._outdone(source, recv)  # what a mute leader missed before nobody saw
            return self.lead(source, recv, "stale")
        return []

    def _outdone(self, source: Source, recv: int) -> bool:
        """Whether `source` has been where the leader is not for longer than two connections that live are apart."""
        self.trim(source)
        apart = skew(self.traits.pace, isinstance(self.last, Candle)) * 1e9
        there = [message for message in source.tail if recv - message.recv > apart]
        if self.traits.incremental:
            return bool(there)
        # Where the first or the last of it is what the leader has, it may be what changed and changed back.
        return bool(there) and not any(shows(one.records, self.last, one.first) for one in (there[-1], source.tail[-1]))

    def lose(
        self, source: Source, reason: str, recv: int, state: str | None, detail: dict[str, Any] | None = None
    ) -> list[Delivery]:
        """
        Something of what `source` brings may be lost: a gap, unless another brings it.

        See Source.lose.
        """
        if self.state == "refused" or (self.leader is not None and self.leader is not source):
            return []
        others = [other for other in self.sources if other is not source and other.covers(recv)]
        if others:
            # Where each began later than a silence did, nobody saw what came first in it.
            witnesses = [other for other in others if other.was_there(source.heard)]
            other = (witnesses or others)[0]
            self.doubtful |= not witnesses and (reason == "stale" or self._outdone(other, recv))
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
        source.refusal = (code, message)
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
            source.joining = self._shared and self.last is not None and source.chain is None
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
        source.kept = None
        return self._accept(message, self._doubted(message.recv) if self.doubtful else ())

    def _doubted(self, recv: int) -> list[Statement]:
        """
        Say that something may be missing of what comes now: a connection seemed mute while it was to bring it.

        Trades and books tell by themselves.
        """
        self.doubtful = False
        told = self.counted or self.traits.incremental or self.gap is not None
        return [] if told else self._interrupted("stale", recv)

    def take_raw(self, source: Source, recv: int, text: bytes, weight: int) -> list[Delivery]:
        """Take one message that nobody wants parsed."""
        if source is not self.leader:
            if self.leader is not None:
                return []
            self.leader = source
        self.expected = True
        statements = self._resume(None, recv) if self.state != "live" or self.gap is not None else ()
        return [Delivery(self, statements, (), text, weight, 0, recv)]

    def passing(self, source: Source, text: bytes | None, weight: int) -> list[Delivery]:
        """Return what raw lanes get of a message without a record."""
        leads = self.leader is None or self.leader is source
        return [Delivery(self, (), (), text, weight)] if text is not None and leads else []

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
        covered, source.cursor = self._seen.covers(message.records, last, source.cursor)
        return covered

    def _level(self, source: Source) -> bool:
        """Whether an unnumbered book of `source` was seen to be where the delivered one is."""
        last = self.last
        if not isinstance(last, Book) or source.latest is None:
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
            return self._rejoined(source, reason, message.recv)
        if self.keeps:
            return self._differing(source, [message])
        if first.action == "snapshot":
            return self._accept(message, self._interrupted(reason, message.recv))
        if first.prev is not None and last.seq is not None and message.epoch == self.epoch and first.prev < last.seq:
            message.records = [replace(first, prev=last.seq), *message.records[1:]]
            return None
        source.broken = (reason, {"expected": last.seq, "prev": first.prev, "seq": first.seq})
        return []

    def _ahead(self, message: Message) -> bool:
        """Whether a numbered book is beyond what was delivered last, and does not just follow on it."""
        first, last = message.records[0], self.last
        if not isinstance(first, Book) or not isinstance(last, Book) or not self.traits.sequenced:
            return False
        return first.prev != last.seq or first.action == "snapshot"

    def _differing(self, source: Source, messages: list[Message]) -> list[Delivery]:
        """
        Deliver in place of `messages`, the last that `source` brought, what changes the delivered book into its own.

        Its changes alone would nearly do, for their rows are absolute. But at the far end of the window of levels what
        came in and left again between the two places is named by neither.
        """
        source.joining = False
        doubtful, self.doubtful = self.doubtful, False
        last, latest, before = self.last, source.latest, self._kept.levels()
        after = source.kept.levels() if source.kept is not None else None
        if before is None or after is None or latest is None or not isinstance(last, Book):
            source.broken = ("sequence", None)
            return []
        bids, asks = after.top()
        if doubtful:
            change = replace(latest, action="snapshot", bids=bids, asks=asks, prev=-1)
        else:
            bids, asks = difference(before.top(), (bids, asks))
            change = replace(latest, action="update", bids=bids, asks=asks, prev=last.seq)
        source.kept = None
        whole = messages.pop()
        texts = [delivery for message in messages for delivery in self._text(message)]
        opened = self._interrupted("stale", whole.recv) if doubtful else []
        return texts + self._accept(Message([change], whole.recv, whole.text, whole.weight, epoch=whole.epoch), opened)

    def _rejoined(self, source: Source, reason: str, recv: int) -> list[Delivery]:
        """
        Go on with the book of `source`, which is later than what was delivered: what differs, or all of it.
        """
        source.joining = False
        latest, levels = source.latest, source.chain.levels if source.chain is not None else None
        if latest is None or levels is None:
            source.broken = (reason, None)
            return []
        self._seen.forget_recent()
        bids, asks = levels.top()
        held, self._held = self._held, None
        doubtful, self.doubtful = self.doubtful, False
        if held is not None and self.state == "live" and self.gap is None and not doubtful:
            bids, asks = difference(held, (bids, asks))
            return self._deliver([replace(latest, action="update", bids=bids, asks=asks)], recv)
        opened = self._interrupted("stale" if doubtful else reason, recv)
        return self._deliver([replace(latest, action="snapshot", bids=bids, asks=asks)], recv, opened)

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
