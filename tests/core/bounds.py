"""Books at the limits of what one may hold, and what they take."""

import gc
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import orjson

from okstream.levels import MOST_LEVELS, ROW_BYTES
from okstream.records import Row


def rows(begin: int, count: int, size: str = "1") -> list[Row]:
    return [[str(price), size] for price in range(begin, begin + count)]


def long(price: str, size: str, length: int) -> Row:
    """A row of so many bytes."""
    return [price, size, "x" * (length - len(orjson.dumps([price, size, ""])))]


FULL = rows(1000, MOST_LEVELS)


def churned(take: Callable[[str, list[Row]], None]) -> None:
    """Fill a book to the limit with the longest rows, and replace its levels over and over."""
    chance = random.Random(1)
    prices = [f"{price}.{chance.randrange(10**14):014}" for price in range(100_000, 100_000 + 2 * MOST_LEVELS)]
    chance.shuffle(prices)
    take("snapshot", [long(price, "1", ROW_BYTES) for price in prices[:MOST_LEVELS]])
    for _ in range(15):
        count = chance.randrange(1, 60)
        gone, prices = prices[:count], prices[count:] + prices[:count]
        new = prices[MOST_LEVELS - count : MOST_LEVELS]
        take("update", [long(price, "0", ROW_BYTES) for price in gone] + [long(price, "1", ROW_BYTES) for price in new])


def size(make: Callable[[], Any]) -> float:
    """Return the KiB of one of what is made."""
    make()
    gc.collect()
    tracemalloc.start()
    try:
        made = [make() for _ in range(2)]
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / len(made) / 1024
    finally:
        tracemalloc.stop()
