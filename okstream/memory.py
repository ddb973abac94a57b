"""What a stream may hold in memory at most."""

from .book import BOOK_BYTES
from .inflate import INFLATING
from .options import MIB


def bound(buffers: int, links: int, cap: int, books: int) -> int:
    """
    Return the sum of all bounds, bytes.

    Args:
        buffers: those of lanes and journal, bytes.
        links: how many there are, or will be; where records come from at all there is one.
        cap: the longest message, bytes.
        books: how many are followed.
    """
    return buffers + INFLATING * cap * max(1, links) + BOOK_BYTES * books


def mib(size: int) -> int:
    """Return `size` bytes in whole MiB, those begun included."""
    return -(-size // MIB)
