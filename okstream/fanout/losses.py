"""
What a lane says of what it dropped.

A gap of reason `overflow` stands directly before the next that is delivered of the same subscription, or before its
status `ended`; statements are coalesced, never dropped; a book goes on from a snapshot of what it has come to.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..feed.continuity import Continuity, Delivery
from ..records import Book, DataRecord, Gap, Statement, Status

_ROW_WEIGHT = 700
"""Bytes that one level of a snapshot is taken to hold of memory."""

_ENDLESS: dict[str, Any] = {"until": None, "until_ts": None, "lost": None}


class End(Delivery):
    """Nothing more comes of its feed."""

    __slots__ = ()


class Hole(Delivery):
    """Here something of its feed was dropped, or statements were coalesced; `lossy`: data was among it."""

    __slots__ = ("lossy",)

    def __init__(self, feed: Continuity | None, number: int) -> None:
        super().__init__(feed, weight=0, number=number)
        self.lossy = False

    def take_in(self, statements: Sequence[Statement], lossy: bool) -> None:
        """Something more was dropped."""
        self.lossy = self.lossy or lossy
        if statements:
            self.statements = coalesced([*self.statements, *statements])


class Losses:
    """
    What one lane dropped, by feed, and how its consumer is told.

    Args:
        raw: whether its consumer gets the exchange's own text; then books are not renewed.
    """

    def __init__(self, wall_ns: Callable[[], int], raw: bool = False) -> None:
        self.dropped = 0
        self.last: dict[Continuity, DataRecord] = {}
        self.lost: dict[Continuity, DataRecord | None] = {}
        self.kept: dict[Continuity | None, list[Statement]] = {}
        self.unclosed: dict[Continuity, Gap] = {}
        self.renewed: dict[Continuity, int] = {}
        self.renewing: set[Continuity] = set()
        self._raw = raw
        self._wall_ns = wall_ns

    @property
    def quiet(self) -> bool:
        """Whether nothing has to be told or left out."""
        return not (self.lost or self.renewed or self.renewing or self.kept)

    def size(self, delivery: Delivery) -> int:
        """Return how many data records its consumer would get of `delivery`: of raw text each message is one."""
        return (delivery.text is not None) if self._raw else len(delivery.records)

    def drop(self, delivery: Delivery) -> None:
        """`delivery`, the oldest that waits, will not be handed out."""
        feed = delivery.feed
        if type(delivery) is End:
            if feed in self.kept:
                self.kept[feed] = self._finished(feed, self.kept[feed])
            self._keep(feed, self._ended(delivery), False)
        elif type(delivery) is Hole:
            self._keep(feed, delivery.statements, delivery.lossy)
        elif feed not in self.renewed or not self._superseded(delivery):
            count = self.size(delivery) if feed is not None else 0
            self.dropped += count
            self._keep(feed, delivery.statements, count > 0)

    def hand_out(self, delivery: Delivery, newest: int) -> Delivery | None:
        """
        Return what the consumer gets for `delivery`, None for nothing.

        `newest` is the number of the last that was put in the lane.
        """
        feed = delivery.feed
        if type(delivery) is End:
            delivery = Delivery(feed, self._ended(delivery))
        elif feed in self.renewed and self._superseded(delivery):
            return None
        elif type(delivery) is Hole:
            self._keep(feed, delivery.statements, delivery.lossy)
            delivery = Delivery(feed, self._finished(feed, self.kept.pop(feed, [])))
        elif feed in self.lost or feed in self.renewing:
            delivery = self._told(delivery, newest)
        if delivery.records and delivery.feed is not None:
            self.last[delivery.feed] = delivery.records[-1]
        return delivery

    def statements(self) -> list[Delivery]:
        """Return the statements that stand before all that waits; they are told now."""
        kept = [Delivery(feed, self._finished(feed, said)) for feed, said in self.kept.items()]
        self.kept.clear()
        return kept

    def unsaid(self) -> list[Delivery]:
        """Return the gaps of feeds of which nothing came after the loss; called once, at the end."""
        now = self._wall_ns()
        lost = [(feed, after) for feed, after in self.lost.items() if feed not in self.unclosed]
        ends = [Delivery(feed, feed.overflow(after, None, now)[:1]) for feed, after in lost]
        self.lost.clear()
        self.unclosed.clear()
        return ends

    def _keep(self, feed: Continuity | None, statements: Sequence[Statement], lossy: bool) -> None:
        kept = coalesced([*self.kept.pop(feed, ()), *statements]) if statements else self.kept.pop(feed, [])
        if feed is not None and lossy:
            for gap in [said for said in kept if isinstance(said, Gap) and said.state == "closed"]:
                kept.remove(gap)
                if feed in self.lost:
                    kept.insert(0, replace(gap, **_ENDLESS))
                else:
                    self.unclosed[feed] = gap  # it lasts until the next that is delivered
            self.lost.setdefault(feed, self.last.get(feed))
        if kept:
            self.kept[feed] = self._released(feed, kept) if feed is not None else kept

    def _released(self, feed: Continuity, statements: Sequence[Statement]) -> list[Statement]:
        """Close the gap that stayed open, without what was dropped, before `statements` open another one."""
        if feed in self.unclosed and any(isinstance(said, Gap) and said.state == "open" for said in statements):
            return [replace(self.unclosed.pop(feed), **_ENDLESS), *statements]
        return list(statements)

    def _finished(self, feed: Continuity | None, statements: list[Statement]) -> list[Statement]:
        """Return `statements` with what was dropped of `feed` said, and over, before the status that it has ended."""
        if feed is None or feed not in self.lost:
            return statements
        for at, status in enumerate(statements):
            if isinstance(status, Status) and status.state == "ended":
                said = feed.overflow(self.lost.pop(feed), None, status.recv)
                if (gap := self.unclosed.pop(feed, None)) is not None:
                    said = [replace(gap, recv=status.recv, **_ENDLESS)]
                return [*statements[:at], *said, *statements[at:]]
        return statements

    def _ended(self, end: Delivery) -> list[Statement]:
        """Return the gap that says of an ended feed what was dropped of it and never followed by anything."""
        feed = end.feed
        assert feed is not None
        self.renewed.pop(feed, None)
        self.renewing.discard(feed)
        last, unclosed = self.last.pop(feed, None), self.unclosed.pop(feed, None)
        if feed not in self.lost:
            return []
        after = self.lost.pop(feed) or last
        return feed.overflow(after, None, self._wall_ns())[:1] if unclosed is None else []

    def _told(self, delivery: Delivery, newest: int) -> Delivery:
        """
        Say what was dropped, directly before the next that is delivered of the same feed.

        After its other statements: a gap that was open is closed by then, unless its end was dropped: then it says all.
        """
        feed = delivery.feed
        assert feed is not None
        statements = self._finished(feed, self._released(feed, delivery.statements))
        first = delivery.records[0] if delivery.records and not self._raw else None
        if isinstance(first, Book) and feed.traits.incremental:
            if first.action == "update":
                delivery = self._renew(feed, delivery, newest)
            else:
                self.renewing.discard(feed)
        if feed in self.lost and self.size(delivery):
            until = delivery.records[0] if delivery.records else None
            said = feed.overflow(self.lost.pop(feed), until, self._wall_ns())
            if (gap := self.unclosed.pop(feed, None)) is not None and isinstance(closed := said[1], Gap):
                said = [replace(gap, recv=closed.recv, until=closed.until, until_ts=closed.until_ts, lost=None)]
            statements += said
        return replace(delivery, statements=statements)

    def _renew(self, feed: Continuity, delivery: Delivery, newest: int) -> Delivery:
        """
        Put the present book in place of changes to a book of which something was dropped.

        It holds all that waits here of the same feed. Where there is none, the changes are of no use to anybody.
        """
        book = feed.snapshot(self._wall_ns())
        if book is None:
            self.dropped += len(delivery.records)
            return Delivery(feed)
        self.renewing.discard(feed)
        self.renewed[feed] = newest
        return Delivery(feed, (), [book], delivery.text, _ROW_WEIGHT * (len(book.bids) + len(book.asks)))

    def _superseded(self, delivery: Delivery) -> bool:
        """Whether a book that was renewed holds what `delivery` says."""
        feed = delivery.feed
        assert feed is not None
        if delivery.number <= self.renewed[feed]:
            return True
        del self.renewed[feed]
        return False


def coalesced(statements: list[Statement]) -> list[Statement]:
    """Keep of one feed's statements what still matters: open gaps, closes of earlier ones, the last status."""
    gaps = [said for said in statements if isinstance(said, Gap)]
    both = {gap.gap for gap in gaps if gap.state == "open"} & {gap.gap for gap in gaps if gap.state == "closed"}
    # Those about no feed are of several venues and accounts; the first of a stream is its head.
    statuses = {
        (said.venue, said.account, said.channel, said.inst, said.state == "started"): said
        for said in statements
        if isinstance(said, Status)
    }
    return [*(gap for gap in gaps if gap.gap not in both), *statuses.values()]
