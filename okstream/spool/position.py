"""A spool's `position` file: which record is the first that is not acknowledged, and which process has the spool."""

import fcntl
import os
import struct
import time
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from okstream.errors import SpoolError
from okstream.files.disk import still_at, sync_folder

NAME = "position"
BYTES = 1024
"""What the file takes, at most."""

EVERY = 1.0
"""Seconds after which what was written is synced to the disk, at the earliest, unless `sync` says so."""

_SLOT = struct.Struct("<QI")
_SLOTS = (0, 512)  # a write that is torn spoils one of them
_PID = 64


class Position:
    """
    The file, opened and locked.

    `acked` is what it says, None where it says nothing that can be believed.

    Raises:
        SpoolError: another process has the lock.
        OSError: it cannot be opened or made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(folder)
            self.acked = max(self._read(), default=None)
            os.pwrite(self._file, str(os.getpid()).encode().ljust(20), _PID)
            if os.fstat(self._file).st_size < BYTES:
                os.ftruncate(self._file, BYTES)
            os.fsync(self._file)
            sync_folder(folder)
        except BaseException:
            os.close(self._file)
            raise
        self._turn = 0
        self._due = time.monotonic() + EVERY
        self._written = False

    @property
    def present(self) -> bool:
        """Whether the file is still where it was opened."""
        return still_at(self._file, self._path)

    def write(self, acked: int) -> None:
        """Write it down: a process that is killed has it, a power cut may undo it until the next sync."""
        number = acked.to_bytes(8, "little")
        self._turn ^= 1
        os.pwrite(self._file, _SLOT.pack(acked, crc32(number)), _SLOTS[self._turn])
        self._written = True
        if time.monotonic() >= self._due:
            self.sync()

    def sync(self) -> None:
        """Wait until the disk has what was written."""
        if self._written:
            self._due = time.monotonic() + EVERY
            os.fsync(self._file)
            self._written = False

    def close(self) -> None:
        """Sync, and let go of the lock."""
        try:
            self.sync()
        finally:
            os.close(self._file)

    def _lock(self, folder: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 20, _PID).strip(b" \0").decode(errors="replace")
            raise SpoolError(
                f"{folder}: in use by process {holder or 'unknown'}; each lane needs one of its own"
            ) from None

    def _read(self) -> list[int]:
        found = []
        for offset in _SLOTS:
            with suppress(struct.error):  # it is not there yet
                acked, check = _SLOT.unpack(os.pread(self._file, _SLOT.size, offset))
                if crc32(acked.to_bytes(8, "little")) == check:
                    found.append(acked)
        return found
