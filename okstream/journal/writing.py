"""Lines of what a journal is told, made and written in a thread of their own."""

import base64
import logging
import threading
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from okstream.errors import InflateError
from okstream.inflate import CAP, inflate
from okstream.session.secrecy import Secrecy

from .volumes import FRAME_BYTES, Segments

log = logging.getLogger("okstream.journal")

Frame = tuple[int, bytes, bool, float, int]
"""What a session takes: connection, data, whether it was binary, `now` and `wall`."""

CALL_BYTES = 500
"""What a call is taken to hold of memory, and a frame beside its data."""


def line(call: dict[str, Any]) -> bytes:
    """Return the line that tells of `call`."""
    return orjson.dumps(call, option=orjson.OPT_APPEND_NEWLINE)


class Writer:
    """
    Makes lines of what is in `queue`, and writes them; in a thread of its own.

    `failing` is why nothing can be written at present.
    """

    def __init__(
        self,
        segments: Segments,
        queue: deque[Frame | dict[str, Any]],
        wake: threading.Event,
        flush: float,
        wall: int,
        took: Callable[[int], None],
    ) -> None:
        self.failing: str | None = None
        self.finishing = False
        self.secrecies: dict[int, Secrecy] = {}
        self._segments = segments
        self._queue = queue
        self._wake = wake
        self._flush = flush
        self._wall = self._began = wall
        self._took = took
        self._lines: list[bytes] = []
        self._size = 0

    @property
    def left(self) -> int:
        """How many calls are not written yet."""
        return len(self._queue) + len(self._lines)

    def run(self) -> None:
        """Write until told to finish."""
        try:
            finishing = False
            while not finishing:
                finishing = self.finishing  # looked at first: what comes with it is written, too
                if not finishing:
                    self._wake.wait(self._flush)
                    self._wake.clear()
                while self._write():
                    pass
            self._segments.close()
        except Exception as error:  # the boundary of the thread: whatever it is, the stream goes on
            self.failing = f"{type(error).__name__}: {error}"
            log.exception("journal: it ends here")

    def _write(self) -> bool:
        """Write one frame of the file; return whether there is more."""
        if not self._lines:
            self._make()
        if not self._lines:
            return False
        try:
            self._segments.write(self._lines, self._began)
            self._lines = []
            self._took(self._size)
            if self._segments.full:
                self._segments.close()
        except OSError as error:
            if self.failing is None:
                log.error("journal: it cannot be written: %s; trying on", error.strerror)
            self.failing = error.strerror
            return False
        if self.failing is not None:
            self.failing = None
            log.warning("journal: it can be written again")
        return bool(self._queue)

    def _make(self) -> None:
        self._size = size = 0
        while self._queue and size < FRAME_BYTES:
            entry = self._queue[0]
            wall = max(self._wall, entry.get("wall") or 0) if isinstance(entry, dict) else entry[-1]
            if not self._lines:
                self._began = wall
            elif self._segments.over(wall):
                break
            self._queue.popleft()
            self._wall = wall
            size += CALL_BYTES
            if isinstance(entry, dict):
                self._lines.append(self._call(entry))
            else:
                conversation, data, binary, now, wall = entry
                size += len(data)
                if (secrecy := self.secrecies.get(conversation)) is not None:
                    data = _masked(secrecy, data, binary)
                head = {"dir": "recv", "conv": conversation, "now": now, "wall": wall}
                self._lines.append(line(head | _content(data, binary)))
        self._size = size

    def _call(self, call: dict[str, Any]) -> bytes:
        secrecy = self.secrecies.get(call.get("conv", 0))
        if secrecy is not None and call["dir"] == "send" and secrecy.masked(call["text"]) != call["text"]:
            secrecy.add(call["text"])  # its signature is as good as the secret for half a minute
            call = {**call, "text": None}
        elif call["dir"] == "close":
            self.secrecies.pop(call["conv"], None)
        return line(call)


def _content(data: bytes, binary: bool) -> dict[str, str]:
    """Return what of a line holds a frame: `b64` of a binary one, `text`, or `raw` where that is not UTF-8."""
    if binary:
        return {"b64": base64.b64encode(data).decode()}
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"raw": base64.b64encode(data).decode()}


def _masked(secrecy: Secrecy, data: bytes, binary: bool) -> bytes:
    """Return a frame without what is secret in it."""
    try:
        text = inflate(data, CAP) if binary else data
    except InflateError:
        return data
    shown = text.decode("utf-8", "surrogateescape")
    if (masked := secrecy.masked(shown)) == shown:
        return data
    text = masked.encode("utf-8", "surrogateescape")
    if not binary:
        return text
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(text) + deflate.flush()
