"""
One consumer's bounded buffer.

A full lane drops data and says so: the consumer meets an `overflow` gap in place of what is missing, and a book goes on
from a snapshot of what it has come to. Statements are never dropped, and records of the user's own never for public
ones. The reader never waits for a lane.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count

from ..feed.continuity import Continuity, Delivery
from ..options import LaneOptions
from .filters import Filters
from .losses import End, Hole, Losses

BATCH = 1000
_MANY = 64
"""Deliveries that are made into lines at once: encoded while they are in the processor's caches, then freed."""

_SHARE = 8  # what is taken at once is at most an eighth of a lane's bound
_numbers = count(1)

Queue = deque[Delivery]


class Lane:
    """
    One consumer's buffer.

    `held` is what its consumer has taken and holds still, in bytes, set by the consumer, and `held_records` so many
    records; both are within the bounds. `alone`: no other lane holds the same records. `on_many` is called by `put`
    where `many` deliveries wait, or half the bound is reached, `on_drop` where data is dropped for want of room.

    Args:
        options: bounds, what to do when full, filters and form, see LaneOptions.
        wall_ns: the wall clock, for the statements a lane makes itself.

    Raises:
        ConfigError: the filters make no sense.
    """

    def __init__(self, options: LaneOptions | None = None, *, wall_ns: Callable[[], int]) -> None:
        options = options or LaneOptions()
        self.ready = asyncio.Event()
        self.on_many: Callable[[], None] | None = None
        self.on_drop: Callable[[], None] | None = None
        self.many = _MANY
        self.alone = True
        self.held = 0
        self.held_records = 0
        self.share = options.bytes // _SHARE
        self.filters = Filters(options)
        self.losses = Losses(wall_ns, options.form == "raw")
        self._limit = options.bytes
        self._most = options.records
        self._when_full = options.when_full
        self._one_by_one = options.when_full == "drop_newest" or bool(options.instruments) or self._most is not None
        self._queue: Queue = deque()
        self._user: Queue = deque()
        self._ways: dict[Continuity | None, Queue | None] = {}
        self._some: set[Continuity] = set()
        self._holes: dict[Continuity | None, Hole] = {}
        self._roomy = asyncio.Event()
        self._weight = 0
        self._records = 0
        self._newest = 0
        self._compacted = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._user) + len(self.losses.kept)

    @property
    def dropped(self) -> int:
        """Data records that were dropped so far."""
        return self.losses.dropped

    @property
    def weight(self) -> int:
        """What the queue holds, in bytes as estimated."""
        return self._weight

    @property
    def waiting(self) -> int:
        """Data records that nobody has taken yet."""
        return sum(map(self.losses.size, self._queue)) + sum(map(self.losses.size, self._user))

    @property
    def oldest(self) -> int | None:
        """When the first that waits came, ns; None where nothing does that has a time."""
        times = [
            time
            for queue in (self._user, self._queue)
            for delivery in list(queue)[:1]
            for time in [*(said.recv for said in (*delivery.statements, *delivery.records)), delivery.recv]
            if time
        ]
        return min(times, default=None)

    @property
    def full(self) -> bool:
        """Whether what waits and what is held reach beyond a bound."""
        beyond = self._most is not None and self._records + self.held_records > self._most
        return beyond or self._weight + self.held > self._limit

    @property
    def half_full(self) -> bool:
        """Whether they reach beyond half a bound."""
        beyond = self._most is not None and 2 * (self._records + self.held_records) > self._most
        return beyond or 2 * (self._weight + self.held) > self._limit

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Append; do as the policy says if a bound is exceeded."""
        ways, weight = self._ways, self._weight
        if self._one_by_one:
            self._put_each(deliveries)
            weight = self._weight
        else:
            for delivery in deliveries:
                number = delivery.number
                if not number:
                    number = delivery.number = next(_numbers)
                try:
                    queue = ways[delivery.feed]
                except KeyError:
                    queue = self._way(delivery.feed)
                self._newest = number
                if queue is not None:
                    queue.append(delivery)
                    weight += delivery.weight
            self._weight = weight
        if weight + self.held > self._limit or self._most is not None:
            self._overflow()
        self.ready.set()
        if self.on_many is not None:
            many = len(self._queue) + len(self._user) >= self.many
            if many or 2 * (self._weight + self.held) > self._limit:
                self.on_many()

    def take(self, most: int = BATCH, within: int | None = None) -> list[Delivery]:
        """
        Remove and return what waits: at most `most` deliveries of the queue, or `within` bytes and one.

        In order of each subscription, the user's own first.
        """
        self.ready.clear()
        losses, newest, counted, weight = self.losses, self._newest, self._most is not None, self._weight
        taken = losses.statements() if losses.kept else []
        floor = -1 if within is None else weight - within
        quiet, last = losses.quiet, losses.last
        for queue in (self._user, self._queue):
            while queue and most and weight >= floor:
                most -= 1
                delivery = queue.popleft()
                weight -= delivery.weight
                if counted:
                    self._records -= losses.size(delivery)
                if quiet and type(delivery) is Delivery:
                    if delivery.records and delivery.feed is not None:
                        last[delivery.feed] = delivery.records[-1]
                    taken.append(delivery)
                    continue
                if self._holes.get(delivery.feed) is delivery:
                    del self._holes[delivery.feed]
                handed = losses.hand_out(delivery, newest)
                quiet = losses.quiet
                if handed is not None:
                    taken.append(handed)
        self._weight = weight
        if self._queue or self._user:
            self.ready.set()
        self.release(0)
        return taken

    def release(self, size: int, records: int = 0) -> None:
        """The consumer holds so many bytes and records less."""
        self.held -= size
        self.held_records -= records
        if not self.full:
            self._roomy.set()

    async def room(self) -> None:
        """Wait until the lane is within its bounds: for a producer that can wait."""
        while self.full:
            self._roomy.clear()
            await self._roomy.wait()

    def forget(self, feed: Continuity) -> None:
        """`feed` has ended: nothing more comes of it than what waits."""
        self.put([End(feed)])
        self._ways.pop(feed, None)
        self._some.discard(feed)

    def renew(self, feed: Continuity) -> None:
        """The next that is handed out of this book is a snapshot of what it has come to."""
        self.losses.renewing.add(feed)

    def unsaid(self) -> list[Delivery]:
        """Return the gaps of feeds of which nothing came after the loss; called once, at the end."""
        return self.losses.unsaid()

    def clear(self) -> int:
        """Forget all that waits, without a word; return how many data records that was."""
        count = self.waiting
        self._queue.clear()
        self._user.clear()
        self._holes.clear()
        self.losses.kept.clear()
        self._weight = self._records = self.held = self.held_records = 0
        self._roomy.set()
        return count

    def _way(self, feed: Continuity | None) -> Queue | None:
        """Return where deliveries of `feed` go; None where they do not pass the filters."""
        if feed is None and not self._newest:
            return self._user  # the head of the stream comes first, whatever else does
        way: Queue | None = self._queue
        if feed is not None:
            verdict = self.filters.verdict(feed.venue, feed.sub)
            if verdict == "some":
                self._some.add(feed)
            if verdict == "none":
                way = None
            elif feed.sub.account is not None and not feed.traits.incremental and self._when_full != "block":
                way = self._user
        self._ways[feed] = way
        return way

    def _put_each(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            if not delivery.number:
                delivery.number = next(_numbers)
            queue = self._ways[delivery.feed] if delivery.feed in self._ways else self._way(delivery.feed)
            self._newest = delivery.number
            if queue is None:
                continue
            if delivery.feed in self._some and delivery.records:
                delivery = self._trimmed(delivery)
                if not (delivery.records or delivery.statements):
                    continue
            self._append(queue, delivery)

    def _trimmed(self, delivery: Delivery) -> Delivery:
        """Return `delivery` without the records of instruments that nobody asked for here."""
        records = [record for record in delivery.records if self.filters.means(record.inst)]
        if len(records) == len(delivery.records):
            return delivery
        text = delivery.text if records else None
        number = delivery.number
        return Delivery(delivery.feed, delivery.statements, records, text, delivery.weight, number, delivery.recv)

    def _append(self, queue: Queue, delivery: Delivery) -> None:
        size = self.losses.size(delivery)
        if self._when_full == "drop_newest" and queue is self._queue and type(delivery) is not End:
            full = self._weight + self.held + delivery.weight > self._limit
            if full or (self._most is not None and self._records + self.held_records + size > self._most):
                hole = self._holes.get(delivery.feed)
                if hole is None:
                    hole = self._holes[delivery.feed] = Hole(delivery.feed, delivery.number)
                    queue.append(hole)
                hole.take_in(delivery.statements, size > 0)
                hole.number = delivery.number
                self.losses.dropped += size
                if self.on_drop is not None and size:
                    self.on_drop()
                return
            self._holes.pop(delivery.feed, None)
        queue.append(delivery)
        self._weight += delivery.weight
        self._records += size

    def _overflow(self) -> None:
        """Drop the oldest, public before the user's own, until the rest is within the bounds."""
        if self._when_full == "block":
            return
        if self._when_full == "latest" and self.full and 4 * len(self) > 5 * self._compacted:
            self._compact()
        dropped = self.dropped
        while self.full and (self._queue or self._user):
            self._drop((self._queue or self._user).popleft())
        if self.on_drop is not None and self.dropped != dropped:
            self.on_drop()

    def _drop(self, delivery: Delivery) -> None:
        self._weight -= delivery.weight
        if self._most is not None:
            self._records -= self.losses.size(delivery)
        if self._holes.get(delivery.feed) is delivery:
            del self._holes[delivery.feed]
        self.losses.drop(delivery)

    def _compact(self) -> None:
        """Drop all but the latest of each subscription, and what is not data after it."""
        for queue in (self._queue, self._user):
            seen: set[Continuity | None] = set()
            kept: list[Delivery] = []
            for delivery in reversed(queue):
                if delivery.feed not in seen:
                    kept.append(delivery)
                if self.losses.size(delivery):
                    seen.add(delivery.feed)
            keep, waiting = set(map(id, kept)), list(queue)
            queue.clear()
            for delivery in waiting:
                if id(delivery) in keep:
                    queue.append(delivery)
                else:
                    self._drop(delivery)
        self._compacted = len(self._queue) + len(self._user)
