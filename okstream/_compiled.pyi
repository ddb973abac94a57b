"""The work of a message that is done most often; made of compiled/ where there is a compiler."""

from collections.abc import Callable
from typing import Any

from .levels import Levels as Levels
from .records import AnyRecord, Book

def inflate(frame: bytes, cap: int, /) -> bytes | None:
    """Return the text of `frame`; None where that is none, or not for here. See okstream.inflate."""

def token(text: bytes, heads: frozenset[bytes], name: bytes, /) -> bytes | None:
    """See `route` of okstream.dialects.okex_v3."""

class Cutter:
    """See okstream.dialects.hot."""

    def __init__(
        self,
        book: type[Book],
        venue: str,
        channel: str,
        inst: str | None,
        names: tuple[str | None, ...],
        instants: bool,
        action: Callable[[bytes], str | None],
        /,
    ) -> None: ...
    def __call__(self, message: bytes, recv: int, /) -> Book | None: ...

class Writer:
    """See okstream.encoding."""

    def __init__(
        self,
        kind: type[AnyRecord],
        names: tuple[str, ...],
        optional: tuple[str, ...],
        otherwise: Callable[[Any], bytes],
        sides: str | None = None,
        /,
    ) -> None: ...
    def __call__(self, record: Any, /) -> bytes: ...
