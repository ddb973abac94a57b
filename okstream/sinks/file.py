"""JSON lines in files: one that grows, or segments by a template of their path. docs/files.md says what to rely on."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from okstream.entries import Entry
from okstream.errors import ConfigError
from okstream.files.growing import Growing
from okstream.files.names import Template
from okstream.files.worker import Worker
from okstream.files.writer import Writer
from okstream.options import MIB

from . import Proven

log = logging.getLogger("okstream.sinks.file")

_LEVELS = range(1, 20)
_FOREIGN = (".gz", ".bz2", ".xz", ".lz4")
_SECOND = 1_000_000_000
_LEAST_WAIT = 0.05
_HANGING = 2.0


class File:
    """
    JSON lines in files.

    `where` is the path, for people.

    Args:
        path: where: with any of the fields {venue}, {channel}, {inst}, {account}, {type}, {date} and {hour} (UTC, of
            `recv`), or with rotation, segments are written; without, one file that grows.
        compress: zstd, one frame a batch, or none; None for what the name says: .zst is zstd.
        level: of zstd, 1 to 19.
        rotate_mib: a segment ends when its file is so large, MiB.
        rotate_after: a segment ends so long after its first record, seconds.
        open_files: how many files are held open at once.
        fsync: when what was written outlives a power cut: after each `flush` (batch), or when its `segment` ends.

    Raises:
        ConfigError: a value cannot be.
    """

    batch_records = 10_000
    batch_bytes = 4 * MIB

    def __init__(
        self,
        *,
        path: str,
        compress: Literal["none", "zstd"] | None = None,
        level: int = 3,
        rotate_mib: float | None = None,
        rotate_after: float | None = None,
        open_files: int = 128,
        fsync: Literal["flush", "segment"] = "flush",
    ) -> None:
        self.where = path
        template = Template(path)
        self._path = path
        if level not in _LEVELS:
            raise ConfigError(f"level: {level} is none of zstd: 1 to 19")
        for name, value in (("rotate_mib", rotate_mib), ("rotate_after", rotate_after), ("open_files", open_files)):
            if value is not None and not value > 0:
                raise ConfigError(f"{name}: {value} is not above 0")
        if compress is None:
            if path.endswith(_FOREIGN):
                raise ConfigError(f"path: {path!r}: of compressed files only .zst is written")
            compress = "zstd" if template.compressed else "none"
        elif template.compressed and compress == "none":
            raise ConfigError("compress: a path in .zst is zstd")
        zstd = level if compress == "zstd" else None
        self._files: Growing | Writer
        if not template.fields and rotate_mib is None and rotate_after is None:
            plain = Path(path.replace("{{", "{").replace("}}", "}"))
            self._files = Growing(plain, level=zstd, sync=fsync == "flush")
            self.linger = 0.25
        else:
            self._files = Writer(
                template,
                level=zstd,
                rotate_bytes=None if rotate_mib is None else int(rotate_mib * MIB),
                rotate_ns=None if rotate_after is None else int(rotate_after * _SECOND),
                open_files=open_files,
                sync=fsync == "flush",
            )
            self.linger = 1.0
        self._worker: Worker | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """
        Take the path for this process, mend what a crash left, and make ready to write.

        Raises:
            RetryError: another process writes there. SinkError: it is no file. OSError: as the system says.
        """
        if self._worker is None:
            self._worker = Worker("okstream-files")
        await self._worker.run(self._files.open)

    async def write(self, batch: Sequence[Entry]) -> None:
        """
        Write `batch`: returns when it is in the files, and with `fsync = "flush"` when it outlives a power cut.

        Raises:
            RetryError: some of it is not, `pending` says which; nothing of that is in any file. Files that are no
            plain ones raise SinkError and ReaderGoneError instead.
        """
        assert self._worker is not None
        await self._worker.run(lambda: self._files.write(batch))
        self._watch()

    async def close(self) -> None:
        """Finish all segments; where the disk, or the reader of a pipe, hangs in a write, leave all as it is."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        worker, self._worker = self._worker, None
        if worker is None:
            return
        try:
            async with asyncio.timeout(_HANGING):
                await worker.run(lambda: None)
            await worker.run(self._files.close)
        except TimeoutError:
            log.error("%s: a write hangs, and is left to itself", self._path)
        finally:
            worker.stop()
            if self._ticking is not None:
                with suppress(asyncio.CancelledError):
                    await self._ticking
                self._ticking = None

    def proven(self) -> Iterable[Proven]:
        """Return the last of each subscription that was there when it was opened."""
        return self._files.proven()

    def _watch(self) -> None:
        """Wake up when something is due, also where nothing is written any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._files.due < float("inf"):
            loop = asyncio.get_running_loop()
            wait = max(_LEAST_WAIT, (self._files.due - self._files.newest) / _SECOND)
            self._alarm = loop.call_later(wait, self._ring, loop.time(), self._files.newest)

    def _ring(self, began: float, newest: int) -> None:
        loop = asyncio.get_running_loop()
        self._alarm = None
        now = newest + int((loop.time() - began) * _SECOND)
        self._ticking = loop.create_task(self._tick(newest, now), name="okstream-files")

    async def _tick(self, newest: int, now: int) -> None:
        if self._worker is not None:
            await self._worker.run(lambda: self._files.tick(now))
            if self._files.newest == newest:  # nothing was written meanwhile
                self._files.newest = now
            if self._worker is not None and self._alarm is None:
                self._watch()
