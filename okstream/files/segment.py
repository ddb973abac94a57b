"""One file while it is written: NAME.part, until it is finished, gets its manifest and its name."""

import hashlib
import logging
import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from okstream.entries import Entry
from okstream.version import VERSION
from okstream.zstd import ZstdCompressor

from .disk import lock, rename_new, same, sync_folder, write_at, write_whole
from .names import MANIFEST, PART, number
from .reading import Lines, packed
from .tally import Key, Last, Tally, survey

log = logging.getLogger("okstream.sinks.file")

MANIFEST_FORM = 1


class RemovedError(OSError):
    """A file that was being written is not there any more."""


class Flush:
    """What is written to one segment at once: lines, where they stood in the batch, and whose they are."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.positions: list[int] = []
        self.data: defaultdict[Key, list[Entry]] = defaultdict(list)
        self.said: dict[str, Entry] = {}


class Segment:
    """
    One file under way: `base` is its path without a number, `path` what it will be called once it has one.

    `size` is how much of it is good, in bytes; `begins` and `ends` bound the times it is for, ns; `said` names the
    statements it holds of a batch that is still to be tried again, `carried` has those it is to begin with;
    `compressed` says of what is in it whether that is zstd.
    """

    def __init__(self, base: str, begins: float, ends: float) -> None:
        self.base = base
        self.path = self.part = Path()
        self.begins = begins
        self.ends = ends
        self.size = 0
        self.tally = Tally()
        self.said: set[str] = set()
        self.flush: Flush | None = None
        self.carried: dict[str, Entry] = {}
        self.since = 0
        self.synced = True
        self.compressed = False
        self._sha = hashlib.sha256()
        self._ahead: dict[Key, tuple[Last, Last]] = {}  # of a clock that was set back: the last then, and as of now
        self._descriptor: int | None = None

    def call(self, path: Path) -> None:
        """Give it its name, before there is anything in it; an empty one takes it away."""
        self.path = path
        self.part = path.with_name(path.name + PART) if path.name else path

    @property
    def named(self) -> bool:
        return bool(self.path.name)

    @property
    def begun(self) -> bool:
        """Whether there is anything in it."""
        return self.size > 0

    @property
    def is_open(self) -> bool:
        """Whether it holds a descriptor."""
        return self._descriptor is not None

    def open(self) -> None:
        """
        Open it, where it is not.

        Raises:
            FileExistsError: it was to be made, and is there. RemovedError: it should be there.
            RetryError: another process writes it. OSError: as the system says.
        """
        if self._descriptor is not None:
            return
        flags = os.O_WRONLY | os.O_CLOEXEC | (0 if self.begun else os.O_CREAT | os.O_EXCL)
        try:
            descriptor = os.open(self.part, flags, 0o644)
        except FileNotFoundError as error:
            if not self.begun:
                raise
            raise RemovedError(error.errno, error.strerror, str(self.part)) from None
        try:
            lock(descriptor, self.part)
            if self.begun and os.fstat(descriptor).st_size < self.size:
                raise RemovedError(0, "it is shorter than it was", str(self.part))
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def write(self, flush: Flush, compressor: ZstdCompressor | None, sync: bool, lasts: dict[Key, Last]) -> None:
        """
        Write all of `flush`, or nothing.

        Raises:
            RemovedError: what was written before is gone. OSError: as the system says.
        """
        assert self._descriptor is not None
        if os.fstat(self._descriptor).st_nlink == 0:
            raise RemovedError(0, "it was removed", str(self.part))
        data = packed(flush.lines, compressor)
        write_at(self._descriptor, data, self.size)
        if sync:
            self._sync(self.size)
            if not self.begun:
                sync_folder(self.part.parent)
        self.synced = sync
        self.compressed = compressor is not None
        self.size += len(data)
        self._sha.update(data)
        self.tally.add(len(flush.lines), flush.data, flush.said.values(), lasts)
        self.said.update(flush.said)
        self.carried.clear()

    def let_go(self) -> None:
        """Close the descriptor; the segment goes on when it is opened again."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def discard(self) -> None:
        """Remove what was made for the first flush, which failed."""
        if self._descriptor is not None:
            self.let_go()
            with suppress(OSError):
                self.part.unlink()

    def finish(self, about: dict[str, Any]) -> Path:
        """
        Make it safe, write its manifest, give it its name; return that: a free one. May be tried again.

        Args:
            about: what its manifest says of the sink.

        Raises:
            RemovedError: it is gone. OSError: as the system says.
        """
        if not self.synced:
            self.open()
            self._sync(None)
            self.synced = True
        self.let_go()
        if not self.part.exists():
            raise RemovedError(0, "it was removed", str(self.part))
        path = self.path
        while True:
            if not path.exists():
                manifest = self._manifest(path, about)
                write_whole(
                    path.with_name(path.name + MANIFEST), orjson.dumps(manifest, option=orjson.OPT_APPEND_NEWLINE)
                )
                with suppress(FileExistsError):
                    rename_new(self.part, path)
                    return path
            path = following(path)

    def lasts(self) -> dict[Key, Last]:
        """Return the last record of each key in it."""
        lasts = {whose: share.last for whose, share in self.tally.shares.items()}
        return lasts | {whose: last for whose, (one, last) in self._ahead.items() if lasts[whose] is one}

    def set_back(self, now: int) -> None:
        """The clock was set back to `now`."""
        for whose, one in self.lasts().items():
            if one.recv > now:
                self._ahead[whose] = self.tally.shares[whose].last, replace(one, recv=now)

    def _sync(self, otherwise: int | None) -> None:
        """Make it outlive a power cut; if that fails, cut it to so many bytes."""
        assert self._descriptor is not None
        try:
            os.fsync(self._descriptor)
        except OSError:
            if otherwise is not None:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, otherwise)
            raise

    def _manifest(self, path: Path, about: dict[str, Any]) -> dict[str, Any]:
        return {
            "manifest": MANIFEST_FORM,
            "segment": path.name,
            "bytes": self.size,
            "sha256": self._sha.hexdigest(),
            "okstream": VERSION,
            **about,
            **self.tally.shown(),
        }

    def mend(self, lasts: dict[Key, Last]) -> bool:
        """
        Cut off what another run left torn, and count what is left; return whether there is anything.

        Raises:
            OSError: as the system says. RetryError: another process writes it.
        """
        if same(self.part, self.path):  # it had its name already, too
            self.part.unlink()
            return False
        descriptor = os.open(self.part, os.O_RDWR | os.O_CLOEXEC)
        with open(descriptor, "r+b") as file:
            lock(descriptor, self.part)
            lines = Lines(file)
            self.compressed = lines.compressed
            self.size = survey(lines, self.tally, lasts)
            if left := file.seek(0, os.SEEK_END) - self.size:
                log.warning("%s: %d bytes at its end are cut off: %s", self.part, left, lines.damage)
                file.truncate(self.size)
            os.fsync(descriptor)
            file.seek(0)
            while piece := file.read(1 << 20):
                self._sha.update(piece)
        if not self.begun:
            self.part.unlink()
        return self.begun


def following(path: Path) -> Path:
    """Return the name of the segment after the one at `path`."""
    found = number(path.name)
    assert found is not None
    _, count = found
    start = path.name.rindex(f".{count:06}")
    return path.with_name(f"{path.name[:start]}.{count + 1:06}{path.name[start + len(f'.{count:06}') :]}")
