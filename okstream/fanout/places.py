"""Where a sink stands that proves nothing itself: what is written to it directly is remembered by its spool."""

import asyncio
from collections.abc import Callable, Sequence

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
        self._seen: set[Whose] = set()
        self._under_way: dict[Whose, Entry] = {}
        self._written: dict[Whose, Entry] = {}
        self._due = 0.0

    @property
    def waiting(self) -> bool:
        """Whether something was written that the spool does not know of."""
        return bool(self._written)

    async def before(self, batch: Sequence[Entry]) -> None:
        """`batch` is written next."""
        self._under_way = {(entry.feed, entry.inst): entry for entry in batch if entry.feed is not None}
        if new := self._under_way.keys() - self._seen:
            self._seen |= new
            await self._kept([_nothing(self._under_way[whose]) for whose in new], new=True)

    async def after(self) -> None:
        """It is written."""
        self._written |= self._under_way
        self._under_way = {}
        if self._written and asyncio.get_running_loop().time() >= self._due:
            await self.keep()

    async def keep(self) -> None:
        """Have the spool know of all that was written."""
        written, self._written = self._written, {}
        size = await self._kept([entry.pack() for entry in written.values()])
        self._due = asyncio.get_running_loop().time() + max(EVERY, size / _RATE)

    async def _kept(self, payloads: Sequence[bytes], new: bool = False) -> int:
        try:
            return await self._spool.remember(payloads, new=new)
        except SpoolError as error:
            self._failed(error)
            return 0


def _nothing(entry: Entry) -> bytes:
    """Return what says of the subscription of `entry` that nothing is known of it."""
    return Entry(b"", Head("", RAW, entry.venue, entry.channel, entry.inst, entry.account, None, 0)).pack()
