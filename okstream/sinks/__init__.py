"""Sinks: where records go. One file a sink, one line in the table, one block in config.example.toml."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from okstream.entries import Entry

SINKS = {
    "stdout": "okstream.sinks.lines:Stdout",
    "file": "okstream.sinks.file:File",
    "nats": "okstream.sinks.nats:Nats",
}
"""Names in a configuration, and what they stand for; a name with a colon stands for itself."""

FORMS = ("json", "raw")
METHODS = ("open", "write", "close")
"""What makes an object a sink."""


class Sink(Protocol):
    """
    Where lines go. The lane in front of it owns buffer, batches, retries and counters.

    `write` is never called concurrently, nor before `open` or after `close`: a sink keeps no queue, needs no lock. It
    may be opened again after `close`. Its class may say of itself, where that differs from what options.py has:
    `batch_records`, `batch_bytes`, `linger` and `threaded`; `lines_only` where it uses nothing but `Entry.line` and
    rejects nothing; `joined` where, besides, many lines may come as one entry and a batch is written whole or not at
    all; and `where`, text for people.
    """

    async def open(self) -> None:
        """
        Make ready to write.

        Raises:
            RetryError, OSError: not now; later it may be.
            SinkError: it cannot be, ever.
        """
        ...

    async def write(self, batch: Sequence[Entry]) -> None:
        """
        Write all of `batch`; returning means that it is where it shall be.

        Raises:
            RetryError: not (all of) it, now. ReopenError: the same, and the sink is to be opened anew; so is OSError.
            RejectedError: some can never be written.
            SinkError: the output failed for good. ReaderGoneError: whoever read this has left; a quiet end.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; also after a failed `open` or `write`."""
        ...


@dataclass(frozen=True, slots=True)
class Proven:
    """
    The last that a sink is known to hold of one subscription, from a run before this one.

    `after` is its trade id or book sequence, None where it has neither; `after_ts` the exchange's time, ms. `identity`
    is that of its entry, None where nobody knows.
    """

    venue: str
    channel: str
    inst: str | None
    account: str | None
    after: str | int | None
    after_ts: int | None
    identity: str | None = field(default=None, compare=False)


@runtime_checkable
class Remembering(Protocol):
    """A sink that can prove what it holds: its stream goes on with a gap of reason `start` from there."""

    def proven(self) -> Iterable[Proven]:
        """Return the last of each subscription; called once, after the first `open`."""
        ...
