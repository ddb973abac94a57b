"""The top of each book at fixed times, in place of its changes."""

import asyncio
from collections.abc import Callable, Iterable

from .errors import ConfigError
from .feed import Feed
from .feed.continuity import Delivery

_NS = 1_000_000_000
_DEEPEST = 400
_LATE = 50_000
"""Timers may be early by the resolution of the clock; then the same moment would come twice."""

_ROW_WEIGHT = 700
"""Bytes that one level of a snapshot is taken to hold of memory."""


def sampling(
    depth: int | None,
    every: float | None,
    raw: bool,
    feeds: Callable[[], Iterable[Feed]],
    put: Callable[[list[Delivery]], None],
    wall_ns: Callable[[], int],
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
    return Sampling(depth, every, feeds, put, wall_ns)


class Sampling:
    """
    Takes the changes of books out of what arrives, and puts their best levels in at fixed times.

    Args:
        depth: levels a side.
        every: seconds between two; they fall on whole multiples of it, of the wall clock.
        feeds: what is subscribed to now.
        put: takes what is to be delivered.
        wall_ns: the wall clock.
    """

    def __init__(
        self,
        depth: int,
        every: float,
        feeds: Callable[[], Iterable[Feed]],
        put: Callable[[list[Delivery]], None],
        wall_ns: Callable[[], int],
    ) -> None:
        self._depth = depth
        self._every = max(1, round(every * _NS))
        self._feeds = feeds
        self._put = put
        self._wall_ns = wall_ns

    def put(self, deliveries: list[Delivery]) -> None:
        """Pass on what is no change of a book."""
        passed = []
        for delivery in deliveries:
            if delivery.feed is not None and delivery.feed.traits.incremental:
                delivery = Delivery(delivery.feed, delivery.statements)
            if delivery.statements or delivery.records:
                passed.append(delivery)
        if passed:
            self._put(passed)

    async def run(self) -> None:
        """Look at every book, for ever; one that is void, or has never come, is left out."""
        while True:
            now = self._wall_ns()
            due = (now // self._every + 1) * self._every
            await asyncio.sleep((due - now + _LATE) / _NS)
            samples = []
            for feed in self._feeds():
                book = feed.snapshot(due, self._depth) if feed.traits.incremental else None
                if book is not None:
                    weight = _ROW_WEIGHT * (len(book.bids) + len(book.asks))
                    samples.append(Delivery(feed, (), [book], weight=weight))
            if samples:
                self._put(samples)
