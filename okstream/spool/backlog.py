"""What a spool does in its thread: the segments of a folder, written at one end, read and deleted at the other."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from errno import ENOSPC
from pathlib import Path

from okstream.errors import SpoolError
from okstream.files.disk import make_folder, missing

from . import begun, note, position
from .begun import Begun
from .opened import Opened
from .position import Position
from .segments import NEW, OVERHEAD, Corrupt, Cursor, Segment, Writer, header, listing, marks_of, record

Mark = Callable[[bytes], tuple[str, str] | None]
Payloads = Sequence[bytes]
Note = bytes
Item = bytes | Corrupt

_SHARE = 8
"""What is remembered takes an eighth of the bound in each segment; what was heard of long ago is forgotten first."""


class Backlog:
    """
    What waits in a folder. Records from `acked` to before `next` wait; the next read is `read_to`.

    `lost` could not be read; `gone` is, once this is closed, how many of those that wait have no file any more.

    Args:
        mark: see Spool.
    """

    def __init__(self, folder: Path, limit: int, segment_bytes: int, mark: Mark | None) -> None:
        self.next = self.acked = self.read_to = 0
        self.bytes = 0
        self.lost = 0
        self.gone = 0
        self._folder = folder
        self._limit = limit
        self._segment_bytes = segment_bytes
        self._mark = mark
        self._marks: dict[str, str] = {}
        self._segments: deque[Segment] = deque()
        self._position: Position | None = None
        self._begun: Begun | None = None
        self._writer: Writer | None = None
        self._cursor: Cursor | None = None
        self._handed = 0  # read and not acknowledged
        self._noted = b""
        self._holes: deque[tuple[int, int]] = deque()  # the corrupt ones of these: first number, count

    def open(self) -> Opened:
        make_folder(self._folder)
        self._position = Position(self._folder)
        for left in self._folder.glob(f"*{NEW}"):
            left.unlink()
        segments = listing(self._folder)
        corrupt, torn = self._recover(segments)
        self._segments = deque(segments)
        first, end = (segments[0].first, segments[-1].end) if segments else (0, 0)
        self.acked = self.read_to = first if self._position.acked is None else self._position.acked
        self.next = max(end, self.acked)
        corrupt += max(min(first, self.next) - self.acked, 0)  # whose files have vanished
        self._hear()
        self._noted = note.read(self._folder)
        self.bytes = position.BYTES + len(self._noted) + sum(segment.size for segment in segments)
        self._handed = self.gone = 0
        self._holes.clear()
        self._trim()
        return Opened(self.next - self.acked, corrupt, torn, dict(self._marks), self._done(), self._noted)

    def append(self, payloads: Payloads) -> tuple[int, OSError | None]:
        accepted, error = 0, None
        while accepted < len(payloads) and error is None:
            try:
                segment = self._writable()
            except OSError as failure:
                return accepted, failure
            except SpoolError as failure:
                failure.accepted = accepted
                raise
            chunk, ends = self._chunk(payloads, accepted)
            if not ends:
                if self.acked == self.next > segment.first:  # all of it is done with: another one takes its place
                    self._seal()
                    continue
                return accepted, OSError(ENOSPC, f"all of its {self._limit} bytes are taken")
            before, size = segment.end, segment.size
            assert self._writer is not None
            error = self._writer.append(chunk, ends)
            count = segment.end - before
            self.bytes += segment.size - size
            self.next = segment.end
            self._remember(payloads[accepted : accepted + count])
            accepted += count
            if error is not None:
                self._seal()
        return accepted, error

    def read(self, most: int, within: int) -> list[Item]:
        items: list[Item] = []
        try:
            while len(items) < most and (within > 0 or not items) and (item := self._item()) is not None:
                items.append(item)
                if isinstance(item, bytes):
                    within -= len(item)
        except OSError:
            if not items:
                raise
        self._handed += len(items)
        return items

    def ack(self, count: int) -> None:
        if not 0 <= count <= self._handed:
            raise ValueError(f"{count} of {self._handed} that were read")
        self._handed -= count
        while self._holes and count > self._holes[0][0] - self.acked:
            number, missing = self._holes.popleft()
            count -= number - self.acked + 1
            self.acked = number + missing
        self.acked += count
        self._acknowledged()

    def skip(self, count: int) -> None:
        if self._handed or not 0 <= count <= self.next - self.read_to:
            raise ValueError(f"{count} of {self.next - self.read_to}, {self._handed} not acknowledged")
        self.read_to += count
        self.acked = self.read_to
        self._acknowledged()

    def begin(self, payloads: Payloads) -> None:
        assert self._begun is not None
        mark = self._mark or (lambda line: None)
        new = [line for line in payloads if (said := mark(line)) is not None and said[0] not in self._marks]
        if new:
            self._begun.add(new)

    def remember(self, payloads: Payloads) -> int:
        self._remember(payloads)
        if self.acked < self.next:
            return 0
        self._seal()
        return self._writable().size

    def note(self, text: bytes) -> None:
        self._restore()
        note.write(self._folder, text)
        self.bytes += len(text) - len(self._noted)
        self._noted = text

    def close(self) -> None:
        self._seal()
        self._turn_to(None)
        left = [segment for segment in self._segments if not missing(segment.path)]
        self.gone = self.next - self.acked - _held(left, self.acked)
        self.lost += self.next - self.read_to - _held(left, self.read_to)
        if self._begun is not None:
            self._begun.close()
            self._begun = None
        if self._position is not None:
            held, self._position = self._position, None
            held.close()

    def _recover(self, segments: list[Segment]) -> tuple[int, int]:
        """Find out where the last segment ends, and what all of them say of the past; count what is corrupt, torn."""
        self._marks = {}
        unsaid = len(segments)
        said = None
        while unsaid and said is None:
            unsaid -= 1
            said = marks_of(segments[unsaid])
        self._marks |= said or {}
        corrupt = torn = 0
        for segment in segments[unsaid:]:
            last = segment is segments[-1]
            cursor = Cursor(segment, bounded=not last)
            try:
                for item in cursor:
                    if isinstance(item, Corrupt):
                        corrupt += item.count
                    else:
                        self._remember([item])
            finally:
                cursor.close()
            if last:
                torn = segment.size - cursor.offset
                segment.end, segment.size = cursor.number, cursor.offset
        if segments:
            _settle(segments[-1])
        if segments and segments[-1].size == 0:
            segments.pop().path.unlink()
        return corrupt, torn

    def _hear(self) -> None:
        """Take what was begun for what there is, where there is nothing else of it."""
        mark = self._mark or (lambda line: None)
        found = [(said, line) for line in begun.read(self._folder) if (said := mark(line)) is not None]
        new = {said[0]: (said[1], line) for said, line in found if said[0] not in self._marks}
        self._begun = Begun(self._folder, [line for _, line in new.values()])
        self._marks |= {key: said for key, (said, _) in new.items()}

    def _done(self) -> dict[str, str]:
        """Return what is to be remembered of what is acknowledged."""
        segment = next((segment for segment in self._segments if segment.end > self.acked), None)
        if segment is None or self._mark is None:
            return dict(self._marks)
        if segment.first > self.acked:
            return {}  # what it was in has vanished
        done = marks_of(segment) or {}
        cursor = Cursor(segment)
        try:
            for item in cursor:
                if cursor.number > self.acked:
                    break
                if isinstance(item, Corrupt):
                    return {}
                if (said := self._mark(item)) is not None:
                    done[said[0]] = said[1]
        finally:
            cursor.close()
        return done

    def _remember(self, payloads: Payloads) -> None:
        if self._mark is None:
            return
        for payload in payloads:
            if (said := self._mark(payload)) is not None:
                self._marks.pop(said[0], None)  # the one that is heard of last is the last
                self._marks[said[0]] = said[1]

    def _writable(self) -> Segment:
        """
        Return the segment that is written, a new one where the last has its size.

        Raises:
            SpoolError, OSError: there is no room for another one, or it cannot be made.
        """
        self._restore()
        if self._writer is not None and not self._writer.present:
            self._forget(self._writer.segment)
        writer = self._writer
        if writer is not None and writer.segment.size - writer.segment.start >= self._segment_bytes:
            self._seal()
        if self._writer is None:
            while (needed := len(header(self.next, self._marks))) > self._limit // _SHARE and self._marks:
                for key in list(self._marks)[: len(self._marks) // 4 + 1]:
                    del self._marks[key]
            done_with = sum(segment.size for segment in self._segments if segment.end <= self.acked)
            if self.bytes - done_with + needed > self._limit:
                raise OSError(ENOSPC, f"all of its {self._limit} bytes are taken")
            writer = self._writer = Writer(self._folder, self.next, self._marks)
            if self._segments and self._segments[-1].first == self.next:
                self.bytes -= self._segments.pop().size  # without records: its file was replaced
            self._segments.append(writer.segment)
            self.bytes += needed
            self._trim()
        return self._writer.segment

    def _chunk(self, payloads: Payloads, begin: int) -> tuple[bytes, list[int]]:
        """Return what is to be written next of `payloads`, as it stands in the file, and where each record ends."""
        assert self._writer is not None
        segment = self._writer.segment
        room = self._limit - self.bytes
        most = self._segment_bytes - (segment.size - segment.start)
        parts: list[bytes] = []
        ends: list[int] = []
        total = 0
        for index in range(begin, len(payloads)):
            total += OVERHEAD + len(payloads[index])
            if total > room:
                break
            parts.append(record(segment.end + len(ends), payloads[index]))
            ends.append(total)
            if total >= most:
                break
        return b"".join(parts), ends

    def _seal(self) -> None:
        """Write nothing more to the present segment."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _item(self) -> Item | None:
        """Return the next that was not read, None where there is none."""
        while self.read_to < self.next:
            segment = self._segment_of_next()
            if segment is None or segment.first > self.read_to:
                return self._hole(self.next if segment is None else segment.first)
            assert self._cursor is not None
            for item in self._cursor:
                number = self._cursor.number
                if number <= self.read_to:
                    continue  # it was acknowledged before this spool was opened
                if isinstance(item, Corrupt):
                    return self._hole(number)
                self.read_to = number
                return item
        return None

    def _hole(self, until: int) -> Corrupt:
        """What is not read before record `until` cannot be read."""
        missing = Corrupt(until - self.read_to)
        self._holes.append((self.read_to, missing.count))
        self.read_to = until
        self.lost += missing.count
        return missing

    def _segment_of_next(self) -> Segment | None:
        """Turn to the segment that has the next unread record, or that comes after it; forget those that are gone."""
        if self._cursor is not None and self._cursor.segment.end > self.read_to:
            return self._cursor.segment
        for segment in [segment for segment in self._segments if segment.end > self.read_to]:
            try:
                if segment.start == 0:
                    marks_of(segment)
                self._turn_to(segment)
            except FileNotFoundError:
                self._forget(segment)
            else:
                return segment
        self._turn_to(None)
        return None

    def _turn_to(self, segment: Segment | None) -> None:
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None
        if segment is not None:
            self._cursor = Cursor(segment)

    def _restore(self) -> None:
        """
        Make the folder again, where it or the file that locks it was removed from under us; what is gone is forgotten.

        Raises:
            SpoolError: another process has it now. OSError: as the system says.
        """
        assert self._position is not None
        if self._position.present:
            return
        make_folder(self._folder)
        made = Position(self._folder)
        try:
            made.write(self.acked)
            if self._noted:
                note.write(self._folder, self._noted)
        except OSError:
            made.close()
            raise
        removed, self._position = self._position, made
        with suppress(OSError):
            removed.close()
        for segment in [segment for segment in self._segments if missing(segment.path)]:
            self._forget(segment)

    def _forget(self, segment: Segment) -> None:
        """Its file is gone: what was in it is a hole, but for what is being read of it."""
        if self._writer is not None and self._writer.segment is segment:
            self._seal()
        self._segments.remove(segment)
        self.bytes -= segment.size

    def _acknowledged(self) -> None:
        """Have the disk know up to where it is, and be rid of that."""
        self._restore()
        assert self._position is not None
        self._position.write(self.acked)
        self._trim()

    def _trim(self) -> None:
        """Delete the segments that are acknowledged, but the last one: it says what came before."""
        while len(self._segments) > 1 and self._segments[0].end <= self.acked:
            assert self._position is not None
            self._position.sync()
            self._segments[0].path.unlink(missing_ok=True)
            self.bytes -= self._segments.popleft().size


def _held(segments: Iterable[Segment], since: int) -> int:
    """Return how many records from number `since` on stand in `segments`."""
    return sum(max(segment.end - max(segment.first, since), 0) for segment in segments)


def _settle(segment: Segment) -> None:
    """Cut off what lies behind the records of `segment`; have the disk hold those, as they count as accepted now."""
    with segment.path.open("r+b") as file:
        file.truncate(segment.size)
        os.fsync(file.fileno())
