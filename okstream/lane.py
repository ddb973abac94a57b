"""
One consumer's bounded buffer.

A full lane drops its oldest data and says so: the consumer meets an `overflow` gap in place of what is missing, and a
book goes on from a snapshot of what it has come to. Statements are never dropped. The reader never waits for a lane.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from .continuity import Continuity, Delivery
from .records import Book, DataRecord, Gap, Statement, Status

LANE_BYTES = 64 * 1024 * 1024
"""Default bound of a lane."""

BATCH = 1000
_MANY = 64
"""Deliveries that are made into lines at once: encoded while they are in the processor's caches, then freed."""

_SHARE = 8  # what is taken at once is at most an eighth of a lane's bound
_ENDLESS: dict[str, Any] = {"until": None, "until_ts": None, "lost": None}
_numbers = count(1)


class _End(Delivery):
    """Nothing more comes of its feed."""

    __slots__ = ()


class Lane:
    """
    One consumer's buffer.

    `held` is what its consumer has taken and holds still, in bytes, set by the consumer; it is within the bound.

    Args:
        limit: its bound in bytes, as estimated.
        wall_ns: the wall clock, for the statements a lane makes itself.
    """

    def __init__(self, limit: int = LANE_BYTES, *, wall_ns: Callable[[], int]) -> None:
        self.dropped = 0
        self.ready = asyncio.Event()
        self.on_many: Callable[[], None] | None = None
        self.held = 0
        self.share = limit // _SHARE
        self._limit = limit
        self._wall_ns = wall_ns
        self._queue: deque[Delivery] = deque()
        self._weight = 0
        self._last: dict[Continuity, DataRecord] = {}
        self._lost: dict[Continuity, DataRecord | None] = {}
        self._kept: dict[Continuity | None, list[Statement]] = {}
        self._unclosed: dict[Continuity, Gap] = {}
        self._renewed: dict[Continuity, int] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._kept)

    @property
    def weight(self) -> int:
        """What the queue holds, in bytes as estimated."""
        return self._weight

    @property
    def waiting(self) -> int:
        """Data records that nobody has taken yet."""
        return sum(len(delivery.records) or (delivery.text is not None) for delivery in self._queue)

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Append; drop the oldest data if the bound is exceeded."""
        for delivery in deliveries:
            if not delivery.number:
                delivery.number = next(_numbers)
            self._number = delivery.number
            self._queue.append(delivery)
            self._weight += delivery.weight
        while self._weight + self.held > self._limit and self._queue:
            self._drop(self._queue.popleft())
        self.ready.set()
        if self.on_many is not None and len(self._queue) >= _MANY:
            self.on_many()

    def take(self, most: int = BATCH, within: int | None = None) -> list[Delivery]:
        """Remove and return what waits, in order: at most `most` deliveries of the queue, or `within` bytes and one."""
        self.ready.clear()
        taken = [Delivery(feed, said) for feed, said in self._kept.items()]
        self._kept.clear()
        queue = self._queue
        floor = -1 if within is None else self._weight - within
        while queue and most and self._weight >= floor:
            most -= 1
            delivery = queue.popleft()
            self._weight -= delivery.weight
            if type(delivery) is _End:
                delivery = Delivery(delivery.feed, self._ended(delivery))
            elif delivery.feed in self._renewed and self._superseded(delivery):
                continue
            elif delivery.feed in self._lost:
                delivery = self._told(delivery)
            taken.append(delivery)
            if delivery.records and delivery.feed is not None:
                self._last[delivery.feed] = delivery.records[-1]
        if queue:
            self.ready.set()
        return taken

    def forget(self, feed: Continuity) -> None:
        """`feed` has ended: nothing more comes of it than what waits."""
        self.put([_End(feed)])

    def _drop(self, delivery: Delivery) -> None:
        self._weight -= delivery.weight
        feed = delivery.feed
        if feed in self._renewed and type(delivery) is not _End and self._superseded(delivery):
            return
        statements = self._ended(delivery) if type(delivery) is _End else delivery.statements
        kept = _coalesced([*self._kept.pop(feed, ()), *statements]) if statements else self._kept.pop(feed, [])
        if feed is not None and (count := len(delivery.records) or (delivery.text is not None)):
            self.dropped += count
            for gap in [said for said in kept if isinstance(said, Gap) and said.state == "closed"]:
                kept.remove(gap)
                if feed in self._lost:
                    kept.insert(0, replace(gap, **_ENDLESS))
                else:
                    self._unclosed[feed] = gap  # it lasts until the next that is delivered
            self._lost.setdefault(feed, self._last.get(feed))
        if kept:
            self._kept[feed] = self._released(feed, kept) if feed is not None else kept

    def _released(self, feed: Continuity, statements: Sequence[Statement]) -> list[Statement]:
        """Close the gap that stayed open, without what was dropped, before `statements` open another one."""
        if feed in self._unclosed and any(isinstance(said, Gap) and said.state == "open" for said in statements):
            return [replace(self._unclosed.pop(feed), **_ENDLESS), *statements]
        return list(statements)

    def _ended(self, end: _End) -> list[Statement]:
        """Return the gap that says of an ended feed what was dropped of it and never followed by anything."""
        feed = end.feed
        assert feed is not None
        self._renewed.pop(feed, None)
        last, unclosed = self._last.pop(feed, None), self._unclosed.pop(feed, None)
        if feed not in self._lost:
            return []
        after = self._lost.pop(feed) or last
        return feed.overflow(after, None, self._wall_ns())[:1] if unclosed is None else []

    def _told(self, delivery: Delivery) -> Delivery:
        """
        Say what was dropped, directly before the next that is delivered of the same feed.

        After its other statements: a gap that was open is closed by then, unless its end was dropped: then it says all.
        """
        feed = delivery.feed
        assert feed is not None
        statements = self._released(feed, delivery.statements)
        if delivery.records and isinstance(delivery.records[0], Book) and delivery.records[0].action == "update":
            delivery = self._renew(feed, delivery)
        if delivery.records or delivery.text is not None:
            until = delivery.records[0] if delivery.records else None
            said = feed.overflow(self._lost.pop(feed), until, self._wall_ns())
            if (gap := self._unclosed.pop(feed, None)) is not None and isinstance(closed := said[1], Gap):
                said = [replace(gap, recv=closed.recv, until=closed.until, until_ts=closed.until_ts, lost=None)]
            statements += said
        return Delivery(feed, statements, delivery.records, delivery.text)

    def _renew(self, feed: Continuity, delivery: Delivery) -> Delivery:
        """
        Put the present book in place of changes to a book of which something was dropped.

        It holds all that waits here of the same feed. Where there is none, the changes are of no use to anybody.
        """
        book = feed.snapshot(self._wall_ns())
        if book is None:
            self.dropped += len(delivery.records)
            return Delivery(feed)
        self._renewed[feed] = self._number
        return Delivery(feed, (), [book], delivery.text)

    def _superseded(self, delivery: Delivery) -> bool:
        """Whether a book that was renewed holds what `delivery` says."""
        feed = delivery.feed
        assert feed is not None
        if delivery.number <= self._renewed[feed]:
            return True
        del self._renewed[feed]
        return False

    def unsaid(self) -> list[Delivery]:
        """Return the gaps of feeds of which nothing came after the loss; called once, at the end."""
        now = self._wall_ns()
        lost = [(feed, after) for feed, after in self._lost.items() if feed not in self._unclosed]
        ends = [Delivery(feed, feed.overflow(after, None, now)[:1]) for feed, after in lost]
        self._lost.clear()
        self._unclosed.clear()
        return ends


def _coalesced(statements: list[Statement]) -> list[Statement]:
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
