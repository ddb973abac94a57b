"""Where a sink stands that proves nothing itself: what is written to it directly is remembered by its spool."""

import asyncio
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from ..entries import RAW, Entry, Head
from ..errors import SpoolError
from ..spool import Spool

EVERY = 1.0
"""Seconds after which what was written is remembered, at the earliest."""

_RATE = 256 * 1024
"""Bytes that this may write in a second, of very many subscriptions."""

Whose = tuple[object, str | None]
"""A feed, and the instrument of a record: a feed may have many."""


class Places:
    """
    Has a spool remember, while nothing goes through it, what its sink was given directly.

    A subscription is known to the disk before the sink gets anything of it, and the last of it about a second after:
    what is said of the time behind that begins too early, never too late.

    Args:
        failed: told why the disk does not remember.
    """

    def __init__(self, spool: Spool, failed: Callable[[SpoolError], None]) -> None:
        self._spool = spool
        self._failed = failed
        self._seen: WeakKeyDictionary[object, set[str | None]] = WeakKeyDictionary()  # a feed that ended is let go
        self._under_way: dict[Whose, Entry] = {}
        self._written: dict[Whose, Entry] = {}
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> bool:
        """Whether something was written that the spool does not know of."""
        return bool(self._written)

    def before(self, batch: Sequence[Entry]) -> None:
        """`batch` is written next."""
        self._under_way = {(entry.feed, entry.inst): entry for entry in batch if entry.feed is not None}
        new: list[bytes] = []
        for (feed, inst), entry in self._under_way.items():
            if (seen := self._seen.get(feed)) is None:
                seen = self._seen[feed] = set()
            if inst not in seen:
                seen.add(inst)
                new.append(_nothing(entry))
        if new:
            try:
                self._spool.begin(new)
            except SpoolError as error:
                self._failed(error)

    def after(self) -> None:
        """It is written."""
        self._written |= self._under_way
        self._under_way = {}
        now = asyncio.get_running_loop().time()
        if self._written and now >= self._due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self.keep(), name="okstream places")  # nothing has to wait for it

    async def keep(self) -> None:
        """Have the spool know of all that was written."""
        written, self._written = self._written, {}
        size = 0
        if written:
            try:
                size = await self._spool.remember([entry.pack() for entry in written.values()])
            except SpoolError as error:
                self._failed(error)
        self._due = asyncio.get_running_loop().time() + max(EVERY, size / _RATE)

    async def close(self) -> None:
        """See to it that nothing is under way."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)


def _nothing(entry: Entry) -> bytes:
    """Return what says of the subscription of `entry` that nothing is known of it."""
    return Entry(b"", Head("", RAW, entry.venue, entry.channel, entry.inst, entry.account, None, 0)).pack()
