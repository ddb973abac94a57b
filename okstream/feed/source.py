"""
What one connection brings of one subscription.

A source reads and verifies; its feed decides what of it is delivered. It lives as long as its connection.
"""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..book import Levels
from ..dialects import Decoder
from ..records import Book, DataRecord
from .chain import BROKEN, REPEATED, RIGHT, Chain
from .kept import Kept, keep
from .merging import Mark, Records, mark, opaque, renumbered, unfinished

if TYPE_CHECKING:
    from . import Delivery, Feed

OVERDUE = 3
_TOGETHER_NS = 2_000_000_000
_SHAKEN_NS = 5_000_000_000
_OPENING_NS = 5_000_000_000
_SETTLED_NS = 2_000_000_000
"""How long after an acknowledgement what happened before it may still be on its way over another connection."""


@dataclass(slots=True)
class Message:
    """
    One message of a subscription: its records, when it came (ns), its text for raw lanes, and its weight in bytes.

    `first`: it is the first after a subscribe. `epoch`: see Chain.
    """

    records: Records
    recv: int
    text: bytes | None = None
    weight: int = 0
    first: bool = False
    epoch: int = 0


@dataclass(slots=True)
class Pulse:
    """One connection's: when anything was heard of it, whatever it was (ns)."""

    alive: int = 0


class Source:
    """
    One connection's part of `feed`, and that connection's `pulse`.

    `flowing`: its data goes on without a hole. `broken`: its book is void and has to be asked for anew: why (a reason
    of gap, and details), until somebody does. `tail` is what it brought before the source that leads did.
    `latest` is the last record it brought, delivered or not; `openings` of its messages came right after a subscribe.
    It was refused here for `refusal`; `again`: nobody else carries it now, so that it is asked for once more. Where
    only the order tells, `cursor` is how far what was delivered has been seen here. `kept` is what a numbered book has
    come to here, where another connection brings it, too.
    """

    def __init__(self, feed: "Feed", pulse: Pulse) -> None:
        self.feed = feed
        self.pulse = pulse
        self.key = feed.traits.key
        self.chain = Chain(feed.traits) if feed.traits.incremental and feed.parsed else None
        self.kept: Kept | None = None
        self.again = False
        self.cursor: int | None = None
        self.refusal: tuple[str | None, str] | None = None
        self.flowing = False
        self.joining = False
        self.broken: tuple[str, dict[str, Any] | None] | None = None
        self.tail: deque[Message] = deque()
        self.passed: Mark | None = None
        self.heard = 0
        self.messages = 0
        self.openings = 0
        self.latest: DataRecord | None = None
        self._decode: Decoder | None = None
        self._first = False
        self._acknowledged: int | None = None
        self._shaken = -_SHAKEN_NS
        self._doubted: int | None = None

    @property
    def overdue(self) -> bool:
        """Whether changes of this book keep coming, but the snapshot that they apply to does not."""
        return self.chain is not None and self.chain.awaited >= OVERDUE

    @property
    def acknowledged(self) -> bool:
        return self._acknowledged is not None

    @property
    def delivered(self) -> Levels | None:
        """The levels that its book was verified with, where they are what was delivered while it led."""
        chain, feed = self.chain, self.feed
        if chain is None or chain.levels is None or self.joining:
            return None
        return chain.levels if not feed.traits.sequenced or (feed.keeps and len(feed.sources) == 1) else None

    @property
    def levels(self) -> Levels | None:
        """What its book has come to, as far as that is known."""
        if self.chain is not None and self.chain.levels is not None:
            return self.chain.levels
        return self.kept.levels() if self.kept is not None else None

    @property
    def speaks(self) -> bool:
        """Whether it brings more than what is there right after a subscription, or what no other has brought."""
        return self.messages > self.openings or any(not opaque(message.records) for message in self.tail)

    def opening(self, recv: int) -> bool:
        """Whether what comes first at `recv` is there because of the subscription, and not because it happens then."""
        return self._acknowledged is None or recv <= self._acknowledged + _OPENING_NS

    def settled(self, now: int) -> bool:
        """Whether it can stand in for another connection."""
        if not self.feed.parsed:
            return self.flowing or self.feed.state == "refused"
        return self.feed.state == "refused" or self.refusal is not None or self.covers(now)

    def reset(self, wall: int) -> None:
        """The wall clock was set to `wall`, or we stood still: nothing of before can be compared with it."""
        self.heard = wall
        self.feed.quiet_until = min(self.feed.quiet_until, wall)
        self.feed.suspected = 0
        self._shaken = min(self._shaken, wall - _SHAKEN_NS)
        if self._acknowledged is not None:
            self._acknowledged = min(self._acknowledged, wall - _SETTLED_NS)
        for message in self.tail:
            message.recv = wall

    @property
    def doubted(self) -> bool:
        """Whether it was doubted, and has brought nothing since."""
        return self._doubted == self.messages

    def doubt(self) -> None:
        """What this connection brought may not be all that there was."""
        self._doubted = self.messages
        if self.feed.leader is self:
            self.feed.doubtful = True

    def unanswered(self) -> None:
        """Its connection ended with a ping unanswered: it may have been dead since it was heard last."""
        alive = self.pulse.alive
        self.feed.suspected = max(self.feed.suspected, alive + _TOGETHER_NS)
        others = [other for other in self.feed.sources if other is not self and other.flowing]
        if others and not any(other.was_there(alive) and not other.suspect for other in others):
            self.doubt()

    @property
    def proves(self) -> bool:
        """Whether the next record will tell by itself if something was lost before it."""
        if self.chain is not None and self.feed.traits.sequenced:
            return not self.chain.void
        return self.feed.leader is self and self.feed.counted

    @property
    def suspect(self) -> bool:
        """Whether its connection may have died when another did."""
        return self.pulse.alive < self.feed.suspected

    def was_there(self, recv: int) -> bool:
        """Whether it was subscribed at `recv` already, and nothing of it was lost since."""
        return self._acknowledged is not None and max(self._shaken, self._acknowledged) <= recv

    def covers(self, recv: int) -> bool:
        """Whether nothing is lost that this source did not bring, or will bring."""
        if not self.feed.parsed or recv < self._shaken + _SHAKEN_NS:
            return False
        if self._acknowledged is not None and self.feed.eventful:
            return self.flowing and recv >= self._acknowledged + _SETTLED_NS
        if self.flowing or self.chain is not None or self._acknowledged is None:
            return self.flowing
        # It has shown nothing since it was acknowledged; but nothing has been delivered since, either.
        last = self.feed.last
        return last is not None and last.recv < self._acknowledged

    def ask(self) -> None:
        """A subscribe request goes out: what comes next begins anew, unless it flows already and the reply was lost."""
        if self.refusal is not None:
            self.refusal = None
            if self.feed.state == "refused":
                self.feed.state = "disconnected"
        if self._decode is None or not self.flowing:
            self._decode = self.feed.decoder()
            self.kept = None
            self._first = True
            if self.chain is not None:
                self.chain.restart()

    def acknowledge(self, recv: int) -> "list[Delivery]":
        """The exchange accepted the subscription."""
        if self.feed.state == "refused":
            return []
        self._acknowledged = recv
        self.feed.expected = True
        self.feed.refusal_said = False
        if not self.flowing:
            self.heard = max(self.heard, recv)  # what is asked for anew is given time to come
        if self.feed.traits.first_push or self.flowing:
            return []
        # Nothing is pushed until something happens, so nothing is missing from here on.
        self.flowing = True
        return self.feed.flows(self, recv)

    def push(self, payload: Any, recv: int, text: bytes | None = None, weight: int = 0) -> "list[Delivery]":
        """
        Take one message's payload; return what it brings, in order.

        What comes before it was asked for belongs to another feed, or to a subscription that is about to end: changes
        after it would be cut off silently.

        Raises:
            DecodeError: the payload is not what the dialect describes.
        """
        if self._decode is None:
            return []
        records = self._decode(payload, recv)
        first = self._first
        self._first = first and unfinished(records)
        self.openings += first and (self.opening(recv) or not opaque(records))
        if self._acknowledged is None:
            self._acknowledged = recv  # the acknowledgement was lost
        self.heard = recv
        self.messages += 1
        epoch = 0
        chain = self.chain
        if chain is not None:
            records = self._verified(chain, records)
            if not records:
                return self.feed.passing(self, text, weight)
            epoch = chain.epoch
            if self.kept is not None and chain.levels is None:
                self.kept.take(records)
            elif self.kept is not None:
                self.kept.drop()  # it is not held twice
        elif records:
            self.latest = records[-1]
            if first and self.feed.traits.cached:
                for record in records:
                    record.origin = "cached"
        self.flowing = self.broken is None
        feed = self.feed
        if feed.leader is self and len(records) == 1 and len(feed.sources) == 1 and not self.joining:
            deliveries = feed.follow(records, text, weight, epoch)
            if deliveries is not None:
                return deliveries
        return feed.take(self, Message(records, recv, text, weight, first, epoch))

    def push_raw(self, recv: int, text: bytes, weight: int) -> "list[Delivery]":
        """Take one message that nobody wants parsed."""
        feed = self.feed
        if self._decode is None or feed.state == "refused":
            return []
        self.heard = recv
        self.messages += 1
        self.openings += self._first
        self._first = False
        self.flowing = True
        return feed.take_raw(self, recv, text, weight)

    def lose(
        self, reason: str, recv: int, state: str | None = None, detail: dict[str, Any] | None = None
    ) -> "list[Delivery]":
        """
        Something of what this connection brings may have been lost.

        `state` is what this makes of the subscription, and nothing counts until it is asked for again; None where
        delivery goes on behind a lost message.
        """
        self._shaken = recv
        self.feed.hold(self)
        if state is not None:
            self.forget()
        self.tail.clear()
        return self.feed.lose(self, reason, recv, state, detail)

    def forget(self) -> None:
        """Nothing counts until it is asked for again."""
        self.tail.clear()
        self.passed = None
        self.flowing = False
        self._decode = None
        self._acknowledged = None
        self._shaken = -_SHAKEN_NS
        if self.chain is not None:
            self.chain.restart()

    def _verified(self, chain: Chain, records: Records) -> Records:
        """Return what may be delivered; sets `broken` where the book is void from there on."""
        if not records and chain.void:
            chain.awaited += 1
        right: Records = []
        for record in records:
            if type(record) is not Book:
                chain.void = False  # without a normalised form it is its consumer's business
            else:
                if record.action == "snapshot":
                    if self.feed.leader is not self:
                        chain.epoch = self._epoch(record)
                        if self.kept is None and self.feed.leader is not None and self.feed.traits.sequenced:
                            self.kept = keep()
                    self.feed.keep_apart()  # it may come again, and is not delivered then
                verdict = chain.check(record)
                if verdict is BROKEN:
                    self.broken = (chain.reason, chain.detail)
                    break
                if verdict is not RIGHT:
                    self.feed.repeated(verdict is REPEATED)
                    continue
                self.latest = record
            right.append(record)
        return right

    def _epoch(self, snapshot: Book) -> int:
        """Return which numbering a snapshot is of that came beside another connection's book."""
        last, epoch = self.feed.last, self.feed.epoch
        if not isinstance(last, Book):
            return epoch
        return epoch + renumbered(snapshot, last) - renumbered(last, snapshot)


def passed(message: Message) -> Mark | None:
    """Return the mark of the last book in `message`."""
    last = message.records[-1] if message.records else None
    return mark(last) if isinstance(last, Book) else None
