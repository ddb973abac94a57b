"""A spool's `begun` file: what was heard of, and may not stand in a segment yet. It is not synced: a kill spares it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from okstream.files.disk import make_folder, still_at, write_whole

NAME = "begun"

_CHECK = 9


def read(folder: Path) -> Iterator[bytes]:
    """Return the lines that are there, without what a kill or a disk left of one."""
    with suppress(FileNotFoundError):
        for line in (folder / NAME).read_bytes().splitlines(keepends=True):
            check, text = line[:_CHECK], line[_CHECK:]
            with suppress(ValueError):
                if line.endswith(b"\n") and int(check, 16) == crc32(text):
                    yield text


class Begun:
    """
    The file, to which lines are added, each behind its checksum.

    Args:
        kept: lines of those that are there; the others go, if the disk allows it.

    Raises:
        OSError: it cannot be opened or made.
    """

    def __init__(self, folder: Path, kept: Iterable[bytes]) -> None:
        path, data = folder / NAME, _checked(kept)
        if not path.exists() or path.read_bytes() != data:
            with suppress(OSError):
                write_whole(path, data)
        self._path = path
        self._file = self._opened()

    def add(self, lines: Iterable[bytes]) -> None:
        """
        Add `lines`, which end with their newlines; a file that was removed is made again for them.

        Raises:
            OSError: not all of them are there; one may be torn.
        """
        if not still_at(self._file, self._path):
            make_folder(self._path.parent, sync=False)
            removed, self._file = self._file, self._opened()
            os.close(removed)
        data = _checked(lines)
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        os.close(self._file)

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _checked(lines: Iterable[bytes]) -> bytes:
    return b"".join(b"\n%08x %s" % (crc32(line), line) for line in lines)
