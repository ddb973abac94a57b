"""What a stream may hold in memory at most."""

from .book import BOOK_BYTES
from .inflate import INFLATING
from .options import MIB


def bound(buffers: int, links: int, cap: int, books: int, redundancy: int) -> int:
    """
    Return the sum of all bounds, bytes.

    Args:
        buffers: those of lanes and journal, bytes.
        links: how many there are, or will be; where records come from at all there is one.
        cap: the longest message, bytes.
        books: how many are followed.
        redundancy: how many links bring each of them: what one has come to on each is held beside what was delivered.
    """
    held = books if redundancy == 1 else books * (redundancy + 1)
    return buffers + INFLATING * cap * max(1, links) + BOOK_BYTES * held


def mib(size: int) -> int:
    """Return `size` bytes in whole MiB, those begun included."""
    return -(-size // MIB)
