"""
A spool's files: segments of records on disk, written once, read in order.

    segment  = "okspool\\0" version:u32 first:u64 length:u32 crc:u32 marks record*
    record   = F5 4F 4B FA length:u32 number:u64 crc:u32 payload        (little-endian; CRC-32 of the others but F5…)

Records are numbered without a hole over all segments of a spool, and a segment is named after its first. So what is
missing is counted exactly, and what lies behind the numbers of a segment is never taken for a part of it. The four
bytes before a record are no text in UTF-8: behind a record that is corrupt the next is found by looking for them.
"""

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import orjson

from okstream.errors import SpoolError
from okstream.files.disk import still_at, sync_folder

SUFFIX = ".spool"
NEW = ".new"
MARK = b"\xf5OK\xfa"
OVERHEAD = 20
"""What a record takes beside its payload, bytes."""

_MAGIC = b"okspool\0"
_VERSION = 1
_HEADER = struct.Struct("<8sIQII")
_NUMBERED = struct.Struct("<IQ")
_RECORD = struct.Struct("<4sIQI")
_LENGTH, _CHECK = 4, 16  # where these stand in a record: what the CRC is of stands between
_CHUNK = 256 * 1024

_sync = getattr(os, "fdatasync", os.fsync)


@dataclass(frozen=True, slots=True)
class Corrupt:
    """In place of `count` records that cannot be read."""

    count: int


@dataclass(slots=True)
class Segment:
    """One file: records from number `first` to before `end` in its first `size` bytes, of which `start` are header."""

    path: Path
    first: int
    end: int
    size: int
    start: int


def record(number: int, payload: bytes) -> bytes:
    """Return `payload` as it stands in a segment."""
    length = len(payload)
    check = crc32(payload, crc32(_NUMBERED.pack(length, number)))
    return _RECORD.pack(MARK, length, number, check) + payload


def header(first: int, marks: Mapping[str, str]) -> bytes:
    """Return what a segment begins with: `marks` say what came before it."""
    said = orjson.dumps(marks)
    check = crc32(said, crc32(_HEADER.pack(_MAGIC, _VERSION, first, len(said), 0)))
    return _HEADER.pack(_MAGIC, _VERSION, first, len(said), check) + said


def path_of(folder: Path, first: int) -> Path:
    """Return the path of the segment that begins with record `first`."""
    return folder / f"{first:020d}{SUFFIX}"


def listing(folder: Path) -> list[Segment]:
    """Return the segments of `folder` in order; where the last one ends is not known yet: at its beginning."""
    paths = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit())
    firsts = [int(path.stem) for path in paths]
    ends = [*firsts[1:], *firsts[-1:]]
    found = zip(paths, firsts, ends, strict=True)
    return [Segment(path, first, end, path.stat().st_size, 0) for path, first, end in found]


def marks_of(segment: Segment) -> dict[str, str] | None:
    """
    Read a segment's header: set its `start`, return its marks; None where it is corrupt.

    Raises:
        SpoolError: another version of okstream wrote it.
    """
    with segment.path.open("rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return None
        magic, version, first, length, check = _HEADER.unpack(head)
        if length > segment.size:
            return None
        said = file.read(length)
    if crc32(said, crc32(_HEADER.pack(magic, version, first, length, 0))) != check:
        return None
    if magic != _MAGIC or first != segment.first:
        return None
    if version != _VERSION:
        raise SpoolError(f"{segment.path}: of version {version}, and this okstream reads version {_VERSION}")
    segment.start = _HEADER.size + len(said)
    marks: dict[str, str] = orjson.loads(said)
    return marks


class Writer:
    """
    A segment that is being written. What did not get to the disk as a whole is cut off and was never there.

    Raises:
        OSError: it cannot be made; then there is none.
    """

    def __init__(self, folder: Path, first: int, marks: Mapping[str, str]) -> None:
        head = header(first, marks)
        self.segment = Segment(path_of(folder, first), first, first, len(head), len(head))
        temporary = self.segment.path.with_suffix(NEW)
        self._file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _, error = _written(self._file, head, 0)
            if error is not None:
                raise error
            _sync(self._file)
            temporary.rename(self.segment.path)
            sync_folder(folder)
        except OSError:
            os.close(self._file)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def append(self, chunk: bytes, ends: Sequence[int]) -> OSError | None:
        """
        Write the records in `chunk`, which end at `ends`, and wait until the disk has them.

        Those that it has afterwards are counted in `segment.end`. Returns what went wrong; then nothing more may be
        written here: what became of the rest is not known, and a new segment is bounded off from it by its number.
        """
        segment = self.segment
        written, error = _written(self._file, chunk, segment.size)
        count = bisect_right(ends, written)
        size = segment.size + (ends[count - 1] if count else 0)
        try:
            if error is not None:
                os.ftruncate(self._file, size)
            _sync(self._file)
        except OSError as failure:
            with suppress(OSError):
                os.ftruncate(self._file, segment.size)
            return failure
        segment.size = size
        segment.end += count
        return error

    @property
    def present(self) -> bool:
        """Whether the file is still where it was made."""
        return still_at(self._file, self.segment.path)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


class Cursor:
    """
    Reads one segment, in pieces of bounded size; what was appended meanwhile is seen.

    Args:
        bounded: whether the segment's `end` is known.
    """

    def __init__(self, segment: Segment, *, bounded: bool = True) -> None:
        self.segment = segment
        self.number = segment.first
        self.offset = segment.start
        self._bounded = bounded
        self._file = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        self._data = b""
        self._base = 0

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def __iter__(self) -> Iterator[bytes | Corrupt]:
        return self

    def __next__(self) -> bytes | Corrupt:
        """Return the next payload, or what stands for those that cannot be read; stop at the end of what there is."""
        if self._bounded and self.number >= self.segment.end:
            raise StopIteration
        number, payload = self.number, self._payload(self.offset, self.number)
        if payload is None:
            number, payload = self._next_whole()
        if number > self.number:
            missing = Corrupt(number - self.number)
            self.number = number
            return missing
        if payload is None:
            raise StopIteration
        self.number += 1
        self.offset += OVERHEAD + len(payload)
        return payload

    def _next_whole(self) -> tuple[int, bytes | None]:
        """Go to the next whole record; return its number and payload, or the end's number and None."""
        segment, offset = self.segment, self.offset
        beyond = segment.end if self._bounded else self.number + 1 + (segment.size - offset) // OVERHEAD
        while (offset := self._find(offset)) >= 0:
            number = self._number(offset)
            if self.number <= number < beyond and (payload := self._payload(offset, number)) is not None:
                self.offset = offset
                return number, payload
            offset += 1
        if self._bounded:
            self.offset = segment.size
            return segment.end, None
        return self.number, None

    def _find(self, offset: int) -> int:
        """Return where the next mark stands, from `offset` on; -1 where there is none."""
        while self._filled(offset, OVERHEAD):
            at = self._data.find(MARK, offset - self._base)
            if at >= 0:
                return self._base + at
            offset = self._base + len(self._data) - len(MARK) + 1
        return -1

    def _number(self, offset: int) -> int:
        if not self._filled(offset, OVERHEAD):
            return -1
        number: int = _RECORD.unpack_from(self._data, offset - self._base)[2]
        return number

    def _payload(self, offset: int, number: int) -> bytes | None:
        """Return the payload of record `number` at `offset`; None where it does not stand there as a whole."""
        at = offset - self._base
        if not 0 <= at <= len(self._data) - OVERHEAD:
            if not self._filled(offset, OVERHEAD):
                return None
            at = offset - self._base
        mark, length, claimed, check = _RECORD.unpack_from(self._data, at)
        if mark != MARK or claimed != number:
            return None
        if at + OVERHEAD + length > len(self._data):
            if not self._filled(offset, OVERHEAD + length):
                return None
            at = offset - self._base
        data, begin = self._data, at + OVERHEAD
        payload = data[begin : begin + length]
        return payload if crc32(payload, crc32(data[at + _LENGTH : at + _CHECK])) == check else None

    def _filled(self, offset: int, length: int) -> bool:
        """Have `length` bytes from `offset` on in memory; False where the segment does not have so many."""
        if offset + length > self.segment.size:
            return False
        if not self._base <= offset <= offset + length <= self._base + len(self._data):
            wanted = min(max(length, _CHUNK), self.segment.size - offset)
            self._data, self._base = os.pread(self._file, wanted, offset), offset
        return len(self._data) - (offset - self._base) >= length


def _written(descriptor: int, data: bytes, offset: int) -> tuple[int, OSError | None]:
    """Write as much of `data` as can be; return how much that is, and why no more."""
    done = 0
    view = memoryview(data)
    while done < len(data):
        try:
            done += os.pwrite(descriptor, view[done:], offset + done)
        except OSError as error:
            return done, error
    return done, None
