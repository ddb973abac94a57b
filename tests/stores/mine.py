"""A sink of somebody's own, which fails at random in all the ways that a sink may."""

import os
import random
from collections.abc import Sequence
from pathlib import Path

from okstream.entries import Entry
from okstream.errors import RejectedError, ReopenError, RetryError

FAILS = 0.02


class Moody:
    """
    Appends lines to a file; does not know what it holds.

    Args:
        path: the file.
        seed: of its moods.
        rejects: how often it says of a trade, or a text, that it can never be written.
    """

    def __init__(self, *, path: str, seed: int = 1, rejects: float = 0.0) -> None:
        self.where = path
        self._path = Path(path)
        self._rng = random.Random(f"{seed}/{os.getpid()}")
        self._rejects = rejects
        self._file = -1

    async def open(self) -> None:
        """Open the file; a torn line at its end is of a process that was killed, and goes."""
        if self._rng.random() < FAILS:
            raise RetryError("not in the mood")
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        whole = self._path.read_bytes().rpartition(b"\n")
        os.ftruncate(self._file, len(whole[0] + whole[1]))

    async def write(self, batch: Sequence[Entry]) -> None:
        """Write them, or some of them."""
        trades = [at for at, entry in enumerate(batch) if entry.type in ("trade", "raw")]
        rejected = {at: "not nice" for at in trades if self._rng.random() < self._rejects}
        mood = self._rng.random()
        upto = self._rng.randrange(len(batch)) if mood < FAILS else len(batch)
        await self._append([entry.line for at, entry in enumerate(batch[:upto]) if at not in rejected])
        rejected = {at: why for at, why in rejected.items() if at < upto}
        if upto < len(batch):
            kind = ReopenError if mood < FAILS / 2 else RetryError
            raise kind("in a bad mood", range(upto, len(batch)), rejected)
        if rejected:
            raise RejectedError("not nice", rejected)

    async def _append(self, lines: Sequence[bytes]) -> None:
        text = b"".join(lines)
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, text)
            if written < len(text):
                raise OSError("no room")
        except OSError:
            os.ftruncate(self._file, size)
            raise

    async def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
