"""
The continuity of one subscription, without I/O.

A feed outlives every connection that serves it. It knows what was delivered last, drops what comes twice, and
states what may be missing: a gap opens the moment loss is possible and closes directly before delivery goes on.
One or two connections bring it (see source.py); one of them leads, and what is lost on one is a gap only if the
other does not bring it.
"""

from collections import deque
from typing import Any

from ..book import BookView
from ..channels import Subscription
from ..dialects import Decoder, Dialect
from ..errors import BookVoidError
from ..freshness import patience, skew
from ..records import Book, Statement
from ..statements import Statements
from .continuity import RECORD_WEIGHT, Delivery
from .joining import Joining
from .source import Message, Pulse, Source

__all__ = ["RECORD_WEIGHT", "Delivery", "Feed"]

_TAIL = 4096
_SILENT = 10.0
_SAME = 256
"""Messages that a source may bring beside a leader that is silent but lives: they show what that has, and no more."""


class Feed(Joining):
    """
    One subscription of one venue, from subscribe to unsubscribe, and the connections that bring it.

    A feed for raw lanes alone (`parsed` false) is not decoded and states only what the link loses. `keeps`: whether
    somebody may want a book's levels. `doubtful`: the connection that led may have been mute. What was not heard since
    `suspected` (ns) may be dead, as another connection is. `stale_times` and `mute_times`: how often one was silent
    lately; none is replaced for it before `quiet_until` (ns).
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
        self.stale_times = 0
        self.quiet_until = 0
        self.mute_times = 0
        self._shared = False
        self.suspected = 0
        self._dialect = dialect

    def view(self, now: int) -> BookView:
        """
        Return the book as it was delivered last, at the time `now` (ns).

        Raises:
            BookVoidError: there is none.
        """
        levels, last = self.levels, self.last
        if levels is None or not isinstance(last, Book):
            known = "not here yet" if last is None else self.state
            if self.state == "live":
                known = "between two connections" if len(self.sources) > 1 else "not known until its next snapshot"
            raise BookVoidError(f"the book of {self.sub.inst} is {known}")
        heard = self.leader.heard if self.leader is not None else last.recv
        return BookView(levels, last.inst or "", last.ts, last.recv, last.seq, max(0.0, (now - heard) / 1e9))

    def keep(self) -> None:
        """Have its levels kept, from its next snapshot on if they are not yet."""
        self.keeping = self.parsed and self.traits.sequenced

    # -- the connections that bring it

    def source(self, pulse: Pulse | None = None) -> Source:
        """Return the part of one more connection; its `pulse` is shared by all that it carries."""
        self.keep_apart()
        source = Source(self, pulse or Pulse())
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
        self.trim(source)
        if self.leader is not None:
            self._step_back(self.leader)
        self.leader = source
        source.joining = self.last is not None and (source.chain is None or self.state == "live")
        waiting, source.tail = source.tail, deque()
        unnumbered = source.joining and source.chain is not None and not self.traits.sequenced
        deliveries: list[Delivery] = []
        if unnumbered and not self._level(source) and (waiting or not self._behind(source)):
            deliveries = self._rejoined(source, reason, recv, waiting)
        elif source.joining and waiting and self._ahead(waiting[0]):
            deliveries = self._differing(source, list(waiting))
        else:
            for message in waiting:
                if source.broken is None:
                    deliveries += self.take(source, message, reason)
        if source.broken is not None:
            deliveries += source.lose(source.broken[0], recv, "void", source.broken[1])
        return deliveries

    def impatient(self, source: Source, recv: int) -> list[Delivery]:
        """Follow `source` if it is ahead of the leader for too long."""
        if self.leader is source or not source.tail:
            return []
        self.trim(source)
        tail, long = source.tail, patience(self.traits.pace, self.bars)
        first = self._beyond(source) if tail else None
        if len(tail) <= _TAIL and (first is None or recv - first.recv <= long * 1e9):
            return []
        if self.leader is not None and not source.was_there(self.leader.heard):
            self.hold(self.leader)
            mute = len(tail) > _SAME or self._outdone(source, recv, long)
            if not mute:
                return []  # what the leader has, it need not bring again
            self.doubtful = True  # what it missed before nobody saw
        return self.lead(source, recv, "stale")

    def ahead(self, source: Source, recv: int) -> bool:
        """Whether `source` shows what a leader long silent does not, which may be only behind. Changes nothing."""
        leader = self.leader
        if leader is None or leader is source or not source.tail or source.was_there(leader.heard):
            return False
        return self._was_silent(leader, recv) and self._outdone(source, max(recv, source.tail[-1].recv + 1), 0.0)

    def _was_silent(self, source: Source, recv: int) -> bool:
        pace = self.traits.pace
        return pace is not None and recv - source.heard > 1e9 * max(_SILENT, 5 * pace.every)

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
            witnesses = [other for other in others if other.was_there(source.heard) and not other.doubted]
            other = (witnesses or others)[0]
            # One long silent may have been mute while that happened which the other shows.
            long = 0.0 if self._was_silent(source, recv) else skew(self.traits.pace, self.bars)
            mute = reason == "stale" or source.suspect or source.doubted
            self.trim(other)
            self.doubtful |= not witnesses and (mute or self._outdone(other, recv, long))
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
        others = any(other.refusal is None for other in self.sources if other is not source)
        leads = self.leader is source and self.state != "refused"
        deliveries = source.lose("refused", recv, "disconnected") if leads and others else []
        source.forget()
        source.refusal = (code, message)
        if others or self.state == "refused":
            return deliveries
        self.leader = None
        statements = self._interrupted("refused", recv, None)
        status = self.status("refused", recv, {"code": code, "message": message})
        if not self.refusal_said:
            self.refusal_said = True
            statements.append(status)
        return [Delivery(self, statements)] if statements else []

    # -- what they bring

    def take(self, source: Source, message: Message, reason: str = "disconnected") -> list[Delivery]:
        """Take one message of `source`; return what is to be delivered. `reason`: of a gap, if it does not join."""
        if source is not self.leader:
            if self.leader is not None:
                message.text = message.text or None
                source.tail.append(message)
                return self.impatient(source, message.recv)
            if source.tail:  # it was beside one that is lost, and could not stand in for that at once
                source.tail.append(message)
                return self.lead(source, message.recv, reason)
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
        return [Delivery(self, (), (), text, weight, recv=source.heard)] if text is not None and leads else []
