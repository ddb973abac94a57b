"""The top of each book at fixed times, in place of its changes."""

import asyncio
from collections.abc import Callable, Iterable

from .errors import ConfigError
from .feed import Feed
from .feed.continuity import Delivery
from .journal import Journal

_NS = 1_000_000_000
_DEEPEST = 400
_LATE = 500_000
"""How much later (ns) than due a timer is set: those of uvloop are rounded to the millisecond."""

_ROW_WEIGHT = 700
"""Bytes that one level of a snapshot is taken to hold of memory."""


def sampling(
    depth: int | None,
    every: float | None,
    raw: bool,
    feeds: Callable[[], Iterable[Feed]],
    put: Callable[[list[Delivery]], None],
) -> "Sampling | None":
    """
    Return what makes books at fixed times, None where they are not asked for; `raw`: whether raw text is wanted.

    Raises:
        ConfigError: only one of `depth` and `every` is given, or they make no sense.
    """
    if depth is None and every is None:
        return None
    if depth is None or every is None:
        raise ConfigError("books at fixed times take both: a depth in levels, and how often")
    if not 1 <= depth <= _DEEPEST:
        raise ConfigError(f"the depth of books at fixed times is 1 to {_DEEPEST} levels, not {depth}")
    if every <= 0:
        raise ConfigError(f"books come every so many seconds, more than 0, not {every:g}")
    if raw:
        raise ConfigError("books at fixed times are records; raw text has only the exchange's own messages")
    return Sampling(depth, every, feeds, put)


class Sampling:
    """
    Takes the changes of books out of what arrives, and puts their best levels in at fixed times.

    Args:
        depth: levels a side.
        every: seconds between two; they fall on whole multiples of it, of the wall clock.
        feeds: what is subscribed to now.
        put: takes what is to be delivered.
    """

    def __init__(
        self,
        depth: int,
        every: float,
        feeds: Callable[[], Iterable[Feed]],
        put: Callable[[list[Delivery]], None],
    ) -> None:
        self._depth = depth
        self._every = max(1, round(every * _NS))
        self._feeds = feeds
        self._put = put

    def put(self, deliveries: list[Delivery]) -> None:
        """Pass on what is no change of a book; of one only the text, which a replay may want."""
        passed = []
        for delivery in deliveries:
            if delivery.feed is not None and delivery.feed.traits.incremental:
                recv = delivery.records[-1].recv if delivery.records else delivery.recv
                said, text = delivery.statements, delivery.text
                delivery = Delivery(delivery.feed, said, (), text, delivery.weight, recv=recv)
            if delivery.statements or delivery.records or delivery.text is not None:
                passed.append(delivery)
        if passed:
            self._put(passed)

    def look(self, due: int) -> None:
        """Deliver every book as it is at the time `due` (ns); one that is void, or has never come, is left out."""
        samples = []
        for feed in self._feeds():
            book = feed.snapshot(due, self._depth) if feed.traits.incremental else None
            if book is not None:
                weight = _ROW_WEIGHT * (len(book.bids) + len(book.asks))
                samples.append(Delivery(feed, (), [book], weight=weight))
        if samples:
            self._put(samples)

    async def run(self, wall_ns: Callable[[], int], journal: Journal | None) -> None:
        """Look each time that it is due by the wall clock, for ever."""
        if journal is not None:
            journal.sampling(self._depth, self._every)
        while True:
            now = wall_ns()
            due = (now // self._every + 1) * self._every
            await asyncio.sleep((due - now + _LATE) / _NS)
            if wall_ns() < due:
                continue  # timers can be early by more, and the clock set back; the same moment must not come twice
            if journal is not None:
                journal.sampled(due)
            self.look(due)
