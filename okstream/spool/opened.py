"""What a spool tells of itself when it is opened."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Opened:
    """
    What a spool held when it was opened.

    Args:
        waiting: records that are not acknowledged, those that turn out to be corrupt included.
        corrupt: records that are known to be; `read` reports them in their place, and such as it finds later.
        torn: bytes that were cut off behind the last whole record.
        marks: what `mark` said last, for each key, of all that was ever appended, also where that is long gone.
        done: the same of what is acknowledged; nothing where that is corrupt or gone.
        note: what was kept beside it last.
    """

    waiting: int
    corrupt: int
    torn: int
    marks: dict[str, str]
    done: dict[str, str]
    note: bytes
