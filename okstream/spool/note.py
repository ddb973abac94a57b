"""A spool's `note` file: a few bytes that are kept beside what waits, behind their checksum."""

from contextlib import suppress
from pathlib import Path
from zlib import crc32

from okstream.files.disk import sync_folder, write_whole

NAME = "note"

_CHECK = 4


def read(folder: Path) -> bytes:
    """Return what was written last; nothing where nothing was, or the disk spoilt it."""
    with suppress(FileNotFoundError):
        data = (folder / NAME).read_bytes()
        check, text = data[:_CHECK], data[_CHECK:]
        if check == crc32(text).to_bytes(_CHECK, "little"):
            return text
    return b""


def write(folder: Path, text: bytes) -> None:
    """
    Have the disk hold `text` in place of what was there before.

    Raises:
        OSError: what was there before still is.
    """
    write_whole(folder / NAME, crc32(text).to_bytes(_CHECK, "little") + text)
    sync_folder(folder)
