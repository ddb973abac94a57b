"""
A lane's overflow on disk: an order-preserving queue of payloads that outlives the process.

What `append` has accepted is on the disk (fdatasync) when it returns. Payloads come out in the order they went in, are
read once, and stay until they are acknowledged; a segment is deleted when all of it is. The position up to which they
are is written at each `ack`: a process that is killed gets at most what it had not acknowledged twice. It is synced to
the disk at `close`, before a segment is deleted, and else with the first `ack` that comes a second or more after the
last sync: after a power cut what was acknowledged since then comes twice as well.

A tail that was being written when the process died is cut off. What is corrupt before it is skipped, counted, and
reported in its place. Nothing is ever written behind something that failed: the next segment begins at the number that
would have been next, and what lies behind that in an earlier one is not read.

A file that is removed while the spool is open counts as corrupt as a whole; a folder that is gone is made again.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from typing import Literal, TypeVar

from okstream.errors import ConfigError, SpoolError, SpoolFullError

from .backlog import Backlog, Item, Mark, Note, Payloads
from .opened import Opened
from .segments import Corrupt

__all__ = ["SEGMENT_BYTES", "Corrupt", "Item", "Mark", "Opened", "Spool"]

SEGMENT_BYTES = 8 * 1024 * 1024

T = TypeVar("T")

_LEAST = 4096
_PARTS = 8  # a segment is at most an eighth of the bound: what is acknowledged of it still takes room
_FULL = frozenset({ENOSPC, EDQUOT, EFBIG})


class Spool:
    """
    One lane's queue on disk, for one process at a time. All that blocks is done in a thread of its own.

    A call that is cancelled may be carried out nevertheless.

    Args:
        folder: is made if need be.
        limit: bound of all its files together, bytes; only a note and what is begun are never refused for it.
        segment_bytes: where the next segment begins, at the latest at an eighth of `limit`.
        when_full: what `append` does with what there is no room for: `drop` accepts less, `stop` raises.
        mark: the key of what a payload is about, and what is to be remembered of the last one of that key. It is called
            in the spool's thread, for `begin` in its caller's, and must not raise.

    Raises:
        ConfigError: `limit` is below 4 KiB.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit: int,
        segment_bytes: int = SEGMENT_BYTES,
        when_full: Literal["stop", "drop"] = "drop",
        mark: Mark | None = None,
    ) -> None:
        if limit < _LEAST:
            raise ConfigError(f"a spool of {limit} bytes is too small: at least {_LEAST}")
        self.folder = folder
        self.refused = 0
        self._stops = when_full == "stop"
        self._files = Backlog(folder, limit, min(segment_bytes, limit // _PARTS), mark)
        self._thread: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        """How many records are not acknowledged; once it is closed, without those whose files are gone."""
        return self._files.next - self._files.acked - self._files.gone

    @property
    def unread(self) -> int:
        """Records that `read` has not returned yet."""
        return self._files.next - self._files.read_to

    @property
    def bytes(self) -> int:
        """What its files take."""
        return self._files.bytes

    @property
    def lost(self) -> int:
        """Records that `read` came to and that could not be read, or would not have been able to when it was closed."""
        return self._files.lost

    async def open(self) -> Opened:
        """
        Take the folder, repair what is in it, and go on from there.

        Raises:
            SpoolError: another process has it, another version wrote it, or the disk does not allow it.
        """
        if self._thread is not None:
            raise SpoolError(f"{self.folder}: the spool is open")
        self._thread = ThreadPoolExecutor(1, "okstream-spool")
        try:
            return await self._do(self._files.open)
        except BaseException:
            await self.close()
            raise

    async def append(self, payloads: Payloads) -> int:
        """
        Append as many of `payloads`, from the first on, as there is room for; return how many the disk has now.

        Raises:
            SpoolFullError: not all, and this spool is to stop then; `accepted` says how many.
            SpoolError: the disk failed; `accepted` says how many it has. Another attempt may succeed.
        """
        accepted, error = await self._do(lambda: self._files.append(payloads))
        self.refused += len(payloads) - accepted
        if error is None or (error.errno in _FULL and not self._stops):
            return accepted
        kind = SpoolFullError if error.errno in _FULL else SpoolError
        raise kind(f"{self.folder}: {error.strerror}", accepted)

    async def read(self, most: int, within_bytes: int) -> list[Item]:
        """
        Return the oldest that were not read yet: at most `most`, and none after the one that fills `within_bytes`.

        Raises:
            SpoolError: the disk cannot be read.
        """
        return await self._do(lambda: self._files.read(most, within_bytes))

    async def ack(self, count: int) -> None:
        """
        The first `count` of what was read and not acknowledged is done with; a Corrupt counts as one.

        Raises:
            SpoolError: it is, but the disk does not know it: it may come again after a restart.
        """
        await self._do(lambda: self._files.ack(count))

    async def skip(self, count: int) -> None:
        """
        The next `count` are done with, without being read; all that was read before is acknowledged.

        Raises:
            SpoolError: see `ack`.
        """
        await self._do(lambda: self._files.skip(count))

    def begin(self, payloads: Payloads) -> None:
        """
        Something of the keys of `payloads` may be there from now on, also where a kill comes before it is appended.

        As little as that is written at once, and not synced; nothing is where something of their keys is remembered.
        After a restart it is as if `payloads` had been appended and acknowledged, unless something of their keys was.

        Raises:
            SpoolError: the disk does not know of it.
        """
        try:
            self._files.begin(payloads)
        except OSError as error:
            raise SpoolError(f"{self.folder}: {error.strerror or error}") from error

    async def remember(self, payloads: Payloads) -> int:
        """
        Remember `payloads` as if they had been appended and acknowledged; return how many bytes that took.

        The disk has it when this returns, if nothing waits; else with the next segment.

        Raises:
            SpoolError: it is remembered, but the disk does not know it.
        """
        return await self._do(lambda: self._files.remember(payloads))

    async def note(self, text: Note) -> None:
        """
        Keep `text` beside what waits, in place of what was kept there before; the disk has it when this returns.

        Raises:
            SpoolError: what was kept before still is.
        """
        await self._do(lambda: self._files.note(text))

    async def close(self) -> None:
        """
        Let go of the folder; what waits stays.

        Raises:
            SpoolError: what was acknowledged last is not synced.
        """
        if self._thread is None:
            return
        try:
            await asyncio.shield(asyncio.ensure_future(self._do(self._files.close)))
        finally:
            thread, self._thread = self._thread, None
            thread.shutdown(wait=False)

    async def _do(self, job: Callable[[], T]) -> T:
        if self._thread is None:
            raise SpoolError(f"{self.folder}: the spool is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, job)
        except OSError as error:
            raise SpoolError(f"{self.folder}: {error.strerror or error}") from error
