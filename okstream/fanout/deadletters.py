"""A file for what can never be written: one JSON object a line, with the reason."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import orjson

from ..entries import Entry


class DeadLetters:
    """
    The dead letters of one sink, appended to a file.

    Args:
        path: the file; it is made when it is first needed.
        limit: its bound in bytes, what it held before included.
        sink: the name that each line begins with.
    """

    def __init__(self, path: Path, limit: int, sink: str) -> None:
        self._path = path
        self._limit = limit
        self._sink = sink

    async def add(self, letters: Sequence[tuple[Entry, str]], now: int) -> int:
        """
        Append as many of `letters`, entries with reasons, as there is room for; return how many from the first on.

        Raises:
            OSError: the file cannot be written; nothing of them counts as being there.
        """
        lines = [self._line(entry, reason, now) for entry, reason in letters]
        return await asyncio.to_thread(self._append, lines)

    def _line(self, entry: Entry, reason: str, now: int) -> bytes:
        letter = {
            "time": now,
            "sink": self._sink,
            "reason": reason,
            "record": {  # within, so that nobody takes the letter for the record
                "identity": entry.identity,
                "type": entry.type,
                "venue": entry.venue,
                "channel": entry.channel,
                "inst": entry.inst,
                "account": entry.account,
                "ts": entry.ts,
                "recv": entry.recv,
                "line": entry.line.decode("utf-8", "replace").rstrip("\n"),
            },
        }
        return orjson.dumps(letter, option=orjson.OPT_APPEND_NEWLINE)

    def _append(self, lines: list[bytes]) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(descriptor, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            data, count = b"\n" * torn, 0
            for line in lines:
                if size + len(data) + len(line) > self._limit:
                    break
                data += line
                count += 1
            if not count:
                return 0
            done = 0
            try:
                while done < len(data):
                    done += file.write(data[done:])
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
            return count
