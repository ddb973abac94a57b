"""Sinks: where records go. One file a sink, one line in the table, one block in config.example.toml."""

from typing import Protocol


class Sink(Protocol):
    """
    Where lines go. `write` is never called concurrently, nor after `close`: a sink keeps no queue, needs no lock.

    Attributes:
        form: `json` for records, `raw` for the exchange's own text.
        linger: seconds to wait for more before a batch is written; 0 writes at once.
    """

    @property
    def form(self) -> str: ...

    @property
    def linger(self) -> float: ...

    async def open(self) -> None: ...

    async def write(self, batch: list[bytes]) -> None:
        """
        Write whole lines, each with its newline.

        Raises:
            ReaderGoneError: whoever read this has left; a quiet end.
            SinkError: the output failed for good.
        """
        ...

    async def close(self) -> None: ...


FORMS = ("json", "raw")
