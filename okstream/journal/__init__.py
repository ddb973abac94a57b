"""
Writes down every call of the core, across all links in their order, so that replay/ can make the same calls again.

Rule 1: nothing here waits or fails where the loop is: calls leave a tuple, a thread makes lines and writes.
Rule 2: what is secret is never written, neither as we send it nor as the exchange repeats it.
Rule 3: what is missing is said, in the journal itself and in the log.
"""

import asyncio
import logging
import threading
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

from okstream.errors import ConfigError, SinkError
from okstream.feed import Feed
from okstream.records import SCHEMA, Status
from okstream.rest import shown
from okstream.session.secrecy import Secrecy
from okstream.session.terms import Terms
from okstream.venues import Venue
from okstream.version import VERSION

from .volumes import FRAME_BYTES, Segments, template
from .writing import CALL_BYTES, Frame, Writer, line

log = logging.getLogger("okstream.journal")

JOURNAL = 1
"""The number of this form, see docs/journal.md."""

BUFFER_BYTES = 64 << 20
SEGMENT_BYTES = 256 << 20
SEGMENT_SECONDS = 3600.0
FLUSH = 1.0

_CLOSING = 10.0
"""Seconds that the disk has at the end: one that hangs must not keep the process from ending."""

_MUCH = FRAME_BYTES


class Journal:
    """
    One stream's journal, from the opening of the stream to its end.

    `lost` counts the inputs that it had no room for, and at the end those that it could not write; `held` is what waits
    to be written, in bytes.

    Args:
        place: a folder, or a path with fields, see journal/volumes.py.
        limit: bound of what waits, bytes: beyond it frames are left out, beyond its double the journal ends.
        segment_bytes, segment_seconds: when the next segment begins; of seconds 1 or more.
        flush: seconds after which what came is on the disk.

    Raises:
        ConfigError: `place` cannot name segments, or they are too short.
    """

    def __init__(
        self,
        place: str,
        *,
        limit: int = BUFFER_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float = SEGMENT_SECONDS,
        flush: float = FLUSH,
    ) -> None:
        template(place)
        if segment_seconds < 1:
            raise ConfigError(f"journal: a segment lasts 1 s or longer, not {segment_seconds:g} s")
        self.limit = limit
        self.lost = 0
        self._place = place
        self._segment = (segment_bytes, segment_seconds)
        self._flush = flush
        self._queue: deque[Frame | dict[str, Any]] = deque()
        self._put = 0
        self._taken = 0
        self._missing = 0
        self._ended = False
        self._conversations = 0
        self._groups = 0
        self._budgets: dict[str, int] = {}
        self._wake = threading.Event()
        self._segments: Segments | None = None
        self._writer: Writer | None = None
        self._thread: threading.Thread | None = None

    @property
    def memory_bound(self) -> int:
        """What waits at most, and what is being written of it, in bytes."""
        return 2 * self.limit + 4 * FRAME_BYTES

    @property
    def held(self) -> int:
        return self._put - self._taken

    @property
    def written(self) -> tuple[int, int]:
        """How many segments were begun, and what they take on the disk, in bytes."""
        return (0, 0) if self._segments is None else (self._segments.number, self._segments.bytes)

    @property
    def where(self) -> str:
        """Where that is, for people: its folder, or the first and the last of its segments where it names them."""
        names = self._segments.names if self._segments is not None and "{" in self._place else []
        return " to ".join(names) or self._place

    def open(self, instance: str, wall: int) -> None:
        """
        Begin to write, as the `instance` of a stream that opens at `wall` (ns).

        Raises:
            SinkError: the first segment cannot be made.
        """
        head = {"dir": "journal", "journal": JOURNAL, "version": VERSION, "records": SCHEMA, "instance": instance}

        def first(number: int, lines: int) -> bytes:
            return line({**head, "segment": number, "first": lines})

        segments = self._segments = Segments(self._place, instance, first, *self._segment)
        try:
            segments.open(wall)
        except OSError as error:
            why = error.strerror
            if "{" not in self._place and Path(self._place).exists() and not Path(self._place).is_dir():
                why = "there is a file, and a journal is a folder, or a path with {instance} and {segment}"
            raise SinkError(f"journal: {self._place}: {why}") from None
        self._writer = Writer(segments, self._queue, self._wake, self._flush, wall, self._took)
        self._thread = threading.Thread(target=self._writer.run, name="okstream journal", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Write what waits, and end the segment; a disk that does not answer is left after a while."""
        thread, self._thread = self._thread, None
        if thread is None or self._writer is None:
            return
        if self._missing and not self._ended:
            self._tell()
        self._ended = True
        self._writer.finishing = True
        self._wake.set()
        await asyncio.to_thread(thread.join, _CLOSING)
        if left := self._writer.left:
            self.lost += left
            log.error("journal: its end could not be written: %s", self._writer.failing or "the disk does not answer")

    # -- what is written down

    def frame(self, conversation: int, data: bytes, binary: bool, now: float, wall: int) -> None:
        """A session takes a frame."""
        size = len(data) + CALL_BYTES
        if self._missing or self._ended or self._put - self._taken + size > self.limit:
            if self._ended or self._put - self._taken + size > self.limit // (2 if self._missing else 1):
                self._lose()
                return
            self._tell()
        self._put += size
        self._queue.append((conversation, data, binary, now, wall))
        if self._put - self._taken > _MUCH:
            self._wake.set()

    def group(self, venue: Venue, account: str | None) -> int:
        """There is one more group of links that carry the same; return its number."""
        self._groups += 1
        budget = self._budgets.setdefault(venue.url, len(self._budgets) + 1)
        self._call(
            dir="group", group=self._groups, venue=venue.name, dialect=venue.dialect, limits=asdict(venue.limits),
            budget=budget, account=account,
        )  # fmt: skip
        return self._groups

    def added(self, group: int, feed: Feed, canary: bool) -> None:
        sub = feed.sub
        self._call(
            dir="add", group=group, channel=sub.channel, inst=sub.inst, args=sub.args, account=sub.account,
            parsed=feed.parsed, keeps=feed.keeps, canary=canary,
        )  # fmt: skip

    def removed(self, group: int, key: str) -> None:
        self._call(dir="remove", group=group, key=key)

    def kept(self, group: int, key: str) -> None:
        """The levels of a feed are kept from now on."""
        self._call(dir="keep", group=group, key=key)

    def ended(self, group: int, key: str, wall: int) -> None:
        """It is said of a feed that it has ended."""
        self._call(dir="end", group=group, key=key, wall=wall)

    def opened(
        self, link: str, url: str, group: int, now: float, wall_ms: int, offset: int, hint: int | None, asks: bool,
        terms: Terms,
    ) -> int:  # fmt: skip
        """A session begins; return its number."""
        self._conversations += 1
        number = self._conversations
        if terms.credentials is not None and self._writer is not None:
            self._writer.secrecies[number] = Secrecy(terms.credentials.secrets)
        self._call(
            dir="open", link=link, url=shown(url), conv=number, group=group, now=now, wall=wall_ms * 1_000_000,
            offset=offset, hint=hint, asks=asks, cap=terms.cap, login=terms.credentials is not None,
        )  # fmt: skip
        return number

    def wanted(self, conversation: int, key: str) -> None:
        self._call(dir="want", conv=conversation, key=key)

    def unwanted(self, conversation: int, key: str) -> None:
        self._call(dir="unwant", conv=conversation, key=key)

    def ticked(self, conversation: int, now: float, wall: int) -> None:
        self._call(dir="tick", conv=conversation, now=now, wall=wall)

    def asked(self, conversation: int, now: float, frames: list[bytes]) -> None:
        """A session was asked what to send, and answered `frames`."""
        self._call(dir="ask", conv=conversation, now=now)
        for frame in frames:
            self._call(dir="send", conv=conversation, text=frame.decode())

    def called(self, conversation: int, now: float) -> None:
        self._call(dir="call", conv=conversation, now=now)

    def doubted(self, conversation: int) -> None:
        self._call(dir="doubt", conv=conversation)

    def answered(self, conversation: int, key: str, newer: bool, wall: int) -> None:
        """REST was asked about a silence."""
        self._call(dir="answer", conv=conversation, key=key, newer=newer, wall=wall)

    def closed(self, conversation: int, wall: int, lost: bool, why: str | None) -> None:
        """A session ends; `lost` unless we end it ourselves."""
        self._call(dir="close", conv=conversation, wall=wall, lost=lost, why=why)

    def sampling(self, depth: int, every: int) -> None:
        """From now on books come at fixed times, each `every` ns."""
        self._call(dir="sampling", depth=depth, every=every)

    def sampled(self, wall: int) -> None:
        self._call(dir="sample", wall=wall)

    def said(self, status: Status) -> None:
        """A link or the stream says what became of it."""
        self._call(
            dir="say", venue=status.venue, account=status.account, state=status.state, detail=status.detail,
            wall=status.recv,
        )  # fmt: skip

    # -- inside

    def _call(self, **call: Any) -> None:
        if not self._ended and self.held > 2 * self.limit:
            log.error("journal: it ends here: nothing could be written for too long")
            self._ended = True
        if self._ended:
            self._lose()
            return
        if self._missing:
            self._tell()
        self._put += CALL_BYTES
        self._queue.append(call)

    def _lose(self) -> None:
        if not self._missing:
            why = self._writer.failing if self._writer is not None else None
            log.warning("journal: inputs are lost: %s", why or "the disk cannot follow")
        self.lost += 1
        self._missing += 1

    def _tell(self) -> None:
        """Say how many inputs are missing here."""
        self._put += CALL_BYTES
        self._queue.append({"dir": "lost", "count": self._missing})
        self._missing = 0

    def _took(self, size: int) -> None:
        """Called in the thread, which alone counts here."""
        self._taken += size
