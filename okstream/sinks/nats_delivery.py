"""One batch on its way to a NATS server."""

import asyncio
from collections.abc import Iterable, Sequence

from okstream.entries import Entry
from okstream.errors import RejectedError, ReopenError, RetryError, SinkError

from .nats_acks import EXPECTED, MSG_ID, msg_id, read_ack, size
from .nats_link import NatsLink
from .nats_subjects import Subjects
from .nats_window import Window

_BREATH = 128
"""Messages published between two turns of the event loop."""

_SUBJECT = 1024
"""Characters of the longest subject; the server ends a connection that sends one of over 4 KiB."""


class Delivery:
    """
    The messages of `batch`, and what became of them.

    Attributes:
        rejected: positions of what can never be stored, and why.
        stored, duplicates, repeated: see Nats.

    Args:
        stream: the stream that must store them, None for plain NATS.
    """

    def __init__(self, link: NatsLink, batch: Sequence[Entry], subjects: Subjects, stream: str | None) -> None:
        self.rejected: dict[int, str] = {}
        self.stored = self.duplicates = self.repeated = 0
        self._link = link
        self._batch = batch
        self._subjects = subjects
        self._stream = stream
        self._reopen = False
        self._first = link.reserve(len(batch) + 1)

    async def acknowledged(self, total: int, each: int, timeout: float) -> None:
        """
        Publish and wait until all is acknowledged: `total` messages at a time, of one subscription `each`.

        Raises:
            RetryError, ReopenError, RejectedError, SinkError: see Nats.write.
        """
        window = Window(enumerate(order_keys(self._batch)), total, each, timeout)
        now = asyncio.get_running_loop().time
        heard = True
        try:
            while window.open:
                again = window.overdue(now())
                if again and not heard:
                    raise ReopenError(f"no acknowledgement within {timeout:g} s, twice")
                heard = heard and not again
                self.repeated += len(again)
                for position in await self._publish(again or window.due(now()), number=True):
                    window.settle(position)
                if window.deadline is not None:
                    heard = await self._hear(window, window.deadline) or heard
        except ReopenError as error:
            raise ReopenError(str(error), window.pending, self.rejected) from None
        if window.failure is not None:
            kind = ReopenError if self._reopen else RetryError
            raise kind(window.failure, window.pending, self.rejected)
        self._finish()

    async def flushed(self, timeout: float) -> None:
        """
        Publish and wait until the server has seen all.

        Raises:
            ReopenError, RejectedError, SinkError: see Nats.write.
        """
        last = self._first + len(self._batch)
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            await self._publish(range(len(self._batch)), number=False)
            await self._link.echo(last)
            while all(number != last for number, _, _ in await self._link.arrived(deadline)):
                self._check_link()
                if asyncio.get_running_loop().time() >= deadline:
                    raise ReopenError(f"the server was silent for {timeout:g} s")
            self._check_link()
        except ReopenError as error:
            raise ReopenError(str(error), None, self.rejected) from None
        self.stored = len(self._batch) - len(self.rejected)
        self._finish()

    async def _publish(self, positions: Iterable[int], *, number: bool) -> list[int]:
        """Publish what is at `positions`; return those that the server would never take."""
        refused = []
        for count, position in enumerate(positions, 1):
            entry = self._batch[position]
            subject = self._subjects.of(entry)
            payload = entry.line.removesuffix(b"\n")
            headers = {MSG_ID: msg_id(entry)}
            if self._stream is not None:
                headers[EXPECTED] = self._stream
            if (why := self._why_not(subject, payload, headers)) is not None:
                self.rejected[position] = why
                refused.append(position)
                continue
            await self._link.publish(subject, payload, headers, self._first + position if number else None)
            if count % _BREATH == 0:
                await asyncio.sleep(0)
        return refused

    def _why_not(self, subject: str, payload: bytes, headers: dict[str, str]) -> str | None:
        if (bytes_ := size(payload, headers)) > self._link.max_payload:
            return f"{bytes_} bytes; the server takes {self._link.max_payload}"
        return f"a subject of {len(subject)} characters" if len(subject) > _SUBJECT else None

    async def _hear(self, window: Window, deadline: float) -> bool:
        """Take what was answered until `deadline`; return whether something was."""
        assert self._stream is not None
        heard = False
        for number, status, data in await self._link.arrived(deadline):
            position = number - self._first
            ack = read_ack(status, data, self._stream)
            if position < 0 or ack is None:  # late, of a batch that was given up; or no answer of JetStream's
                continue
            heard = True
            if ack.why and not ack.final:
                self._reopen |= ack.reopen
                window.refuse(position, ack.why)
            elif window.settle(position):
                if ack.final:
                    self.rejected[position] = ack.why
                else:
                    self.duplicates += ack.duplicate
                    self.stored += not ack.duplicate
        self._check_link()
        return heard

    def _check_link(self) -> None:
        if self._link.denied is not None:
            raise SinkError(self._link.denied)
        if self._link.lost is not None:
            raise ReopenError(self._link.lost)

    def _finish(self) -> None:
        if self.rejected:
            raise RejectedError(f"{len(self.rejected)} records can never be stored", self.rejected)


def order_keys(batch: Sequence[Entry]) -> list[tuple[str | None, ...]]:
    """Return of each entry what tells its subscription; what is said of one without an instrument is of all its own."""
    wide = {(entry.venue, entry.channel, entry.account) for entry in batch if entry.inst is None}
    whole = [(entry.venue, entry.channel, entry.account) for entry in batch]
    return [one if one in wide else (*one, entry.inst) for one, entry in zip(whole, batch, strict=True)]
