"""One file that grows under its own name, to be followed as it does. Everything here blocks, as in writer.py."""

import logging
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from errno import EACCES, EISDIR, ENOTDIR
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import orjson

from okstream.entries import Entry
from okstream.errors import ReaderGoneError, RetryError, SinkError, reason
from okstream.sinks import Proven
from okstream.zstd import compressor

from .disk import lock, make_folder, pass_on, said, sync_folder, write_at, write_whole
from .reading import Lines, entry, packed
from .tally import STATEMENTS, Key, Last, Tally, key, last, proofs, row, rows, survey, until

log = logging.getLogger("okstream.sinks.file")

_FORM = 1
_REMEMBER_BYTES = 64 << 20
"""Bytes written since what it holds was last written down: as many are read again after a crash."""
_TAIL_BYTES = 4096


class Growing:
    """
    The file at `path`: appended to, made where it is not there; what is no plain file is written to as it is.

    It may be moved away, removed or emptied meanwhile: then it begins anew.

    Args:
        level: of zstd; None for a plain file.
        sync: whether each batch is made to outlive a power cut.
    """

    def __init__(self, path: Path, *, level: int | None, sync: bool) -> None:
        self._path = path
        self._compressor = None if level is None else compressor(level)
        self._sync = sync
        self._descriptor: int | None = None
        self._regular = True
        self._size = self._remembered = 0
        self._lasts: dict[Key, Last] = {}
        self._proven: list[Proven] = []
        self.newest = 0
        self.due = float("inf")

    def open(self) -> None:
        """
        Open the file; cut off what was left torn.

        Raises:
            RetryError: another process writes it. SinkError: it is none, or another form. OSError: as the system says.
        """
        try:
            self._open()
        except OSError as error:
            if error.errno in {EISDIR, ENOTDIR}:
                raise SinkError(f"{self._path}: {error.strerror}") from None
            raise
        self._proven = proofs(self._lasts)
        if self._lasts:
            log.info("%s: goes on after %s", self._path, until(self._lasts))

    def proven(self) -> Iterable[Proven]:
        """Return the last record of each subscription as it was when this was opened."""
        return self._proven

    def write(self, batch: Sequence[Entry]) -> None:
        """
        Append `batch`, or nothing of it.

        Raises:
            RetryError: nothing. SinkError: what is no plain file may have part of it. ReaderGoneError: nobody reads it.
        """
        data = packed([one.line for one in batch], self._compressor)
        try:
            if self._regular or self._descriptor is None:
                self._look()
            assert self._descriptor is not None
            if self._regular:
                write_at(self._descriptor, data, self._size)
                if self._sync:
                    self._settle()
        except OSError as error:
            raise RetryError(said(error, self._path)) from None
        if not self._regular:
            return self._pass_on(data)
        self._size += len(data)
        newest = {key(one): one for one in batch if one.type not in STATEMENTS}
        self._lasts |= {whose: last(one) for whose, one in newest.items()}
        if self._size - self._remembered >= _REMEMBER_BYTES:
            self._remember()
        return None

    def tick(self, now: int) -> None:
        """Nothing is ever due."""

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is None:
            return
        if self._regular:
            with suppress(OSError):
                os.fsync(self._descriptor)
            self._remember()
        descriptor, self._descriptor = self._descriptor, None
        os.close(descriptor)

    def _open(self) -> None:
        try:
            self._regular = stat.S_ISREG(self._path.stat().st_mode)
        except FileNotFoundError:
            self._regular = True
        if not self._regular:
            # A named pipe without a reader would block for ever in open; with O_NONBLOCK it is an error.
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK)
            os.set_blocking(self._descriptor, True)
            return
        make_folder(self._path.parent, self._sync)
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno != EACCES:
                raise
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)  # to be written, not to be read
        self._descriptor = descriptor
        try:
            lock(descriptor, self._path)
            if self._sync and not os.fstat(descriptor).st_size:
                sync_folder(self._path.parent)
            with open(descriptor, "rb", closefd=False) as file:
                self._mend(file)
        except BaseException:
            self._descriptor = None
            os.close(descriptor)
            raise

    def _mend(self, file: BinaryIO) -> None:
        descriptor = file.fileno()
        whole = os.fstat(descriptor).st_size
        self._size = self._remembered = 0
        if not whole or not os.access(self._path, os.R_OK):
            self._size = whole
            return
        self._recall(file)
        if Lines(file).compressed != (self._compressor is not None):
            raise SinkError(f"{self._path}: it is {'plain' if self._compressor else 'zstd'} already")
        file.seek(self._remembered)
        lines = Lines(file, self._compressor is not None)
        tally = Tally()
        self._size = survey(lines, tally, {})
        self._lasts |= {whose: share.last for whose, share in tally.shares.items()}
        if self._size < whole:
            self._cut(file, whole, lines.damage)

    def _cut(self, file: BinaryIO, whole: int, damage: str | None) -> None:
        descriptor = file.fileno()
        file.seek(self._size)
        if self._compressor is None and whole - self._size < _REMEMBER_BYTES:
            with suppress(ValueError):
                found = entry(file.read())  # it only lacks its end
                write_at(descriptor, b"\n", whole)
                self._size = whole + 1
                if found.type not in STATEMENTS:
                    self._lasts[key(found)] = last(found)
                return
        log.warning("%s: %d bytes at its end are cut off: %s", self._path, whole - self._size, damage)
        os.ftruncate(descriptor, self._size)

    def _look(self) -> None:
        """See whether it is still the file that it was; where there is none at the path, one is made."""
        if self._descriptor is None:  # it could not be made when it was looked for last
            return self._open()
        ours = os.fstat(self._descriptor)
        try:
            present: os.stat_result | None = self._path.stat()
        except FileNotFoundError:
            present = None
        if present is None or (present.st_ino, present.st_dev) != (ours.st_ino, ours.st_dev):
            log.info("%s: it was moved or removed: a new one begins", self._path)
            os.close(self._descriptor)
            self._descriptor = None
            self._open()
        elif ours.st_size != self._size:
            if ours.st_size > self._size:
                log.warning("%s: somebody else wrote to it, too", self._path)
            self._size = ours.st_size
            self._remembered = min(self._remembered, self._size)
        return None

    def _settle(self) -> None:
        assert self._descriptor is not None
        try:
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise

    def _pass_on(self, data: bytes) -> None:
        assert self._descriptor is not None
        try:
            pass_on(self._descriptor, data)
        except BrokenPipeError:
            raise ReaderGoneError(f"{self._path}: the reader has left") from None
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}") from None

    @property
    def _memory(self) -> Path:
        return self._path.with_name(f".{self._path.name}.state")

    def _recall(self, file: BinaryIO) -> None:
        """Read what was written down of it: the last records up to some byte."""
        present = os.fstat(file.fileno())
        try:
            told = orjson.loads(self._memory.read_bytes())
            size, inode = int(told["bytes"]), told["inode"]
            lasts = dict(map(row, told["lasts"]))
            same = inode == present.st_ino
            if same and told["tail"] != _tail(file.fileno(), size):
                return  # it was cut since, and may have grown again: what it holds now is what it proves
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError, OSError) as error:
            log.warning("%s: not read: %s", self._memory, reason(error))
            return
        self._lasts = lasts | self._lasts
        self._remembered = size if same else 0

    def _remember(self) -> None:
        assert self._descriptor is not None
        self._remembered = self._size
        if not os.access(self._path, os.R_OK):
            return  # it will not be read again either
        inode = os.fstat(self._descriptor).st_ino
        memory = {"state": _FORM, "bytes": self._size, "inode": inode, "lasts": rows(self._lasts)}
        try:
            memory["tail"] = _tail(self._descriptor, self._size)
            write_whole(self._memory, orjson.dumps(memory, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            log.warning("not written: %s", said(error, self._memory))


def _tail(descriptor: int, end: int) -> str:
    """Return what tells the bytes before `end` from any others; raises OSError, ValueError: they cannot be read."""
    begin = max(0, end - _TAIL_BYTES)
    return blake2b(os.pread(descriptor, end - begin, begin), digest_size=16).hexdigest()
