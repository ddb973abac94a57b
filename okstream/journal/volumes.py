"""
The files of a journal: `.jsonl.zst`, one zstd frame a flush, `.part` until a segment is whole.

Whatever tears a file costs what was not flushed: each frame is whole in itself, and carries its checksum.
"""

import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import orjson

from okstream.errors import ConfigError, JournalError
from okstream.zstd import MAGIC, ZstdCompressor, ZstdDecompressor, ZstdError, compressor

from .strangers import stranger

PART = ".part"
SUFFIX = ".jsonl.zst"
NAME = "{date}T{time}Z-{instance}-{segment}" + SUFFIX
"""What segments are called in a folder; `{segment}` counts them, `{date}` and `{time}` are when each begins, UTC."""

FRAME_BYTES = 4 << 20
"""Lines of a flush beyond which another frame begins."""

LEVEL = 3
"""Of zstd: twice the speed of what a journal takes elsewhere, a tenth of the size."""

_MOST = 256 << 20
"""Bytes that one frame may hold, and one line of a plain file: what is longer is no journal."""

_PIECE = 1 << 18
_FIRST = 1 << 16
"""Bytes within which the first line of a journal ends."""

_FIELDS = frozenset({"date", "time", "instance", "segment"})


def template(place: str) -> str:
    """
    Return how the segments of a journal at `place` are called: a folder, or a path with fields as in NAME.

    Raises:
        ConfigError: a field is unknown, two segments would have one name, or theirs would not be that of segments.
    """
    if "{" not in place:
        if place.endswith((".zst", ".jsonl")):
            raise ConfigError(f"journal: {place}: name a folder, or a path with {{instance}} and {{segment}}")
        return str(Path(place) / NAME)
    if not place.endswith(SUFFIX):
        raise ConfigError(f"journal: a path ends in {SUFFIX}, by which a replay knows it in a folder")
    fields = set(re.findall(r"{(.*?)}", place))
    if unknown := fields - _FIELDS:
        raise ConfigError(f"journal: there is no field {min(unknown)!r}; there are {', '.join(sorted(_FIELDS))}")
    if not {"instance", "segment"} <= fields:
        raise ConfigError("journal: a path needs {instance} and {segment}, or one file would take another's place")
    return place


class Segments:
    """
    Writes the segments of one journal; blocks.

    Args:
        place: see `template`.
        head: the first line of a segment, by its number and the number of lines before it.
        size, seconds: what a segment holds at most, compressed, and by the wall clock of what it holds.
    """

    def __init__(self, place: str, instance: str, head: Callable[[int, int], bytes], size: int, seconds: float) -> None:
        self.lines = 0
        self.bytes = 0
        self.number = 0
        self._template = template(place)
        self._instance = instance
        self._head = head
        self._size = size
        self._ns = int(seconds * 1e9)
        self._file: BinaryIO | None = None
        self._path = Path()
        self._first: Path | None = None
        self._compressor = compressor(LEVEL)
        self._written = 0
        self._until = 0

    def open(self, wall: int) -> None:
        """Begin a segment at the time `wall`, ns; raises OSError."""
        number = self.number + 1
        at = datetime.fromtimestamp(wall // 1_000_000_000, UTC)
        name = self._template.format(
            date=f"{at:%Y%m%d}", time=f"{at:%H%M%S}", instance=self._instance, segment=f"{number:06}"
        )
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise FileExistsError(17, f"{path} exists already")
        self._file = Path(f"{path}{PART}").open("xb", buffering=0)  # noqa: SIM115
        self._path, self._written, self._until = path, 0, wall + self._ns
        try:
            self._append(self._head(number, self.lines))
        except OSError:
            self._file.close()
            self._file = None
            Path(f"{path}{PART}").unlink(missing_ok=True)
            raise
        self.number = number
        self._first = self._first or path

    @property
    def names(self) -> list[str]:
        """What the first and the last are called: two, one, or none."""
        return [] if self._first is None else list(dict.fromkeys(map(str, (self._first, self._path))))

    def write(self, lines: list[bytes], wall: int) -> None:
        """
        Append `lines`, the first of them of the time `wall`, as one frame that is on the disk on return.

        Raises OSError: then none of them is in the file, and the same may be written later.
        """
        if self.over(wall):
            self.close()
        if self._file is None:
            self.open(wall)
        self._append(b"".join(lines))
        self.lines += len(lines)

    def over(self, wall: int) -> bool:
        """Whether what is of the time `wall` begins the next segment."""
        return self._file is not None and wall >= self._until

    @property
    def full(self) -> bool:
        """Whether the segment is as large as it may be."""
        return self._file is not None and self._written >= self._size

    def close(self) -> None:
        """End the segment: it has its name from now on. Raises OSError."""
        if self._file is None:
            return
        file, self._file = self._file, None
        file.close()
        Path(f"{self._path}{PART}").rename(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _append(self, text: bytes) -> None:
        assert self._file is not None
        frame = memoryview(self._compressor.compress(text, ZstdCompressor.FLUSH_FRAME))
        done = 0
        try:
            while done < len(frame):
                done += self._file.write(frame[done:])
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(self._written)
            self._file.seek(self._written)
            raise
        self._written += done
        self.bytes += done


def found(places: list[Path]) -> list[Path]:
    """
    Return the files that `places` name, in the order in which they are read.

    Raises:
        ConfigError: as `journals` does.
    """
    return [path for journal in journals(places) for path in journal]


def journals(places: list[Path]) -> list[list[Path]]:
    """
    Return the journals and recordings that `places` name: files as they are, of a folder the segments in it.

    Each has its segments in the order of their numbers, and stands where the first of them did. Of copies of a segment
    the largest counts: one that was made before the segment was whole has less.

    Raises:
        ConfigError: there is none, or it cannot be looked at.
    """
    named: dict[str | Path, dict[int, Path]] = {}
    for place in places:
        try:
            for path, first in _named(place).items():
                instance, segment = _head(first)
                segments = named.setdefault(instance or path, {})
                if segment not in segments or _weight(segments[segment]) < _weight(path):
                    segments[segment] = path
        except OSError as error:
            raise ConfigError(f"{error.filename or place}: {error.strerror}") from None
    return [[path for _, path in sorted(segments.items())] for segments in named.values()]


def _weight(path: Path) -> tuple[int, bool]:
    """Return what the largest copy has most of: bytes, or a name of its own where they are the same."""
    return path.stat().st_size, not path.name.endswith(PART)


def _named(place: Path) -> dict[Path, bytes]:
    """Return the files that `place` names, with what each begins with. Raises ConfigError and OSError."""
    if place.is_dir():
        return _inside(place)
    if place.is_file():
        return {place: _first(place)}
    if place.exists():
        raise ConfigError(f"{place}: a replay reads files, and this is a pipe or a device")
    stdin = "; a replay reads files, not stdin" if str(place) == "-" else ""
    raise ConfigError(f"{place}: there is no such file{stdin}")


def _inside(folder: Path) -> dict[Path, bytes]:
    """Return what in `folder` may be segments. Raises ConfigError where nothing may, OSError where nobody may look."""
    os.listdir(folder)  # a search in it passes over what may not be looked at
    inside = sorted(path for path in folder.rglob("*") if path.name.removesuffix(PART).endswith(SUFFIX))
    firsts = {path: _first(path) for path in inside}
    wrong = {path: why for path, first in firsts.items() if first and (why := stranger(first)) is not None}
    if len(wrong) < len(firsts):
        return {path: first for path, first in firsts.items() if path not in wrong}
    for path, why in wrong.items():
        raise ConfigError(f"{path}: {why}")
    named = "; name recordings one by one" if any(folder.rglob("*.jsonl")) else ""
    raise ConfigError(f"{folder}: there is no journal in this folder, no *{SUFFIX}{named}")


def _first(path: Path) -> bytes:
    """Return the first line of a file, nothing where that is too long or cannot be read. Raises OSError."""
    with path.open("rb") as file:
        piece = file.read(_FIRST)
    if piece.startswith(MAGIC):
        try:
            piece = ZstdDecompressor().decompress(piece, _FIRST)
        except ZstdError:
            return b""
    line, end, _ = piece.partition(b"\n")
    return line + end if end or len(piece) < _FIRST else b""


def _head(first: bytes) -> tuple[str | None, int]:
    """Return which journal a file that begins with the line `first` is of, and its number there."""
    try:
        head = orjson.loads(first)
    except ValueError:
        return None, 0
    match head:
        case {"dir": "journal", "instance": str(instance), "segment": int(segment)}:
            return instance, segment
    return None, 0


def read(path: Path, progress: Callable[[int], None] = lambda count: None) -> Iterator[bytes]:
    """
    Yield the lines of a file, compressed or not, as far as it can be read; `progress` gets bytes of the file.

    Raises:
        JournalError: it ends in the middle, or is not what it was written as; what was yielded is right.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            yield from (_compressed(path, file, progress) if magic == MAGIC else _plain(path, file, progress))
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}") from None


def _plain(path: Path, file: BinaryIO, progress: Callable[[int], None]) -> Iterator[bytes]:
    taken = 0
    while line := file.readline(_MOST):
        taken += len(line)
        if taken >= _PIECE:
            progress(taken)
            taken = 0
        if len(line) >= _MOST:
            raise JournalError(f"{path}: a line is longer than any journal's")
        if line.strip():
            yield line
    progress(taken)


def _compressed(path: Path, file: BinaryIO, progress: Callable[[int], None]) -> Iterator[bytes]:
    """Each frame's lines only once all of it is there, and its checksum right."""
    rest = b""
    while rest or (rest := file.read(_PIECE)):
        frame, size, taken, text = ZstdDecompressor(), 0, 0, []
        try:
            while not frame.eof:
                if frame.needs_input and not (rest := rest or file.read(_PIECE)):
                    raise JournalError(f"{path}: it ends in the middle of what was written last")
                taken += len(rest)
                text.append(frame.decompress(rest, _MOST))
                rest = b""
                if (size := size + len(text[-1])) > _MOST:
                    raise JournalError(f"{path}: it holds more than any journal in one piece")
        except ZstdError as error:
            raise JournalError(f"{path}: it is damaged: {error}") from None
        rest = frame.unused_data
        progress(taken - len(rest))
        lines = b"".join(text)
        if lines and not lines.endswith(b"\n"):
            raise JournalError(f"{path}: a line has no end")
        yield from lines.splitlines()
