"""
A stream of market data to be sent: 55 % book updates of 16 changes on 400 levels a side, 30 % trades, 15 % tickers.

The same every time, and right: books begin with a snapshot, sequences and trade ids have no holes, times increase,
and the checksums of v3 are those of the books. Prices count in tenths: 637073 is written 63707.3.
"""

import random
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from .wires import Wire

INSTRUMENTS = tuple(f"{base}-USDT" for base in "BTC ETH SOL XRP ADA DOT LTC LINK AVAX ATOM".split())

_LEVELS = 400
_CHANGES = 8
_PASSES = 8
_CHECKED = 25
_MIX = ["book"] * 11 + ["trade"] * 6 + ["ticker"] * 3
_START = 1_786_613_174_873


@dataclass(slots=True)
class _Change:
    level: int
    row: str
    summed: str | None
    """`price:size`, as the checksum takes it; None where the level goes."""


class _Side:
    """One side of one book: its levels, and a round of changes that leaves them as they were."""

    def __init__(self, mid: int, step: int, chance: random.Random) -> None:
        self._mid = mid
        self._step = step
        self.rows = [self._set(level, chance) for level in range(_LEVELS)]
        self._summed = {change.level: change.summed for change in self.rows}
        self._present = list(range(_LEVELS))
        self._script: list[_Change] = []
        for turn in range(_PASSES):
            order = chance.sample(range(_LEVELS), _LEVELS)
            # What goes in one pass comes back in the next, so nothing is removed that is not there.
            going = set(order[::10]) if turn % 2 == 0 else set()
            self._script += [self._gone(level) if level in going else self._set(level, chance) for level in order]
        self._at = 0

    def next(self) -> list[_Change]:
        """Return the next changes, no two of one level."""
        changes = self._script[self._at : self._at + _CHANGES]
        self._at = (self._at + _CHANGES) % len(self._script)
        return changes

    def apply(self, changes: list[_Change]) -> None:
        for change in changes:
            level = change.level
            if change.summed is None:
                del self._summed[level]
                del self._present[bisect_left(self._present, level)]
                continue
            if level not in self._summed:
                insort(self._present, level)
            self._summed[level] = change.summed

    def best(self) -> list[str]:
        return [self._summed[level] or "" for level in self._present[:_CHECKED]]

    def _price(self, level: int) -> str:
        return _decimal(self._mid + self._step * (level + 1))

    def _set(self, level: int, chance: random.Random) -> _Change:
        price, size = self._price(level), _size(chance)
        return _Change(level, f'["{price}","{size}","0","{chance.randrange(1, 30)}"]', f"{price}:{size}")

    def _gone(self, level: int) -> _Change:
        return _Change(level, f'["{self._price(level)}","0","0","0"]', None)


class _Instrument:
    """What is told of one instrument, in the order it happens."""

    def __init__(self, name: str, wire: Wire, chance: random.Random) -> None:
        self.name = name
        self._wire = wire
        self._mid = chance.randrange(500_000, 900_000)
        self._bids = _Side(self._mid, -1, chance)
        self._asks = _Side(self._mid, 1, chance)
        self._sizes = [_size(chance) for _ in range(64)]
        self._trade = chance.randrange(10**8, 10**9)
        self._sequence = chance.randrange(10**10, 10**11)

    def snapshot(self, ts: int) -> bytes:
        bids, asks = (",".join(change.row for change in side.rows) for side in (self._bids, self._asks))
        return self._wire.book(self.name, "snapshot", bids, asks, ts, self._sequence, -1, self._checksum())

    def book(self, ts: int) -> bytes:
        bids, asks = self._changes(self._bids), self._changes(self._asks)
        before, self._sequence = self._sequence, self._sequence + 3
        return self._wire.book(self.name, "update", bids, asks, ts, self._sequence, before, self._checksum())

    def _changes(self, side: _Side) -> str:
        changes = side.next()
        if self._wire.checksums:
            side.apply(changes)
        return ",".join([change.row for change in changes])

    def trade(self, ts: int) -> bytes:
        self._trade += 1
        size = self._sizes[self._trade % 64]
        side = "buy" if self._trade % 3 else "sell"
        return self._wire.trade(self.name, str(self._trade), _decimal(self._mid + self._trade % 2), size, side, ts)

    def ticker(self, ts: int) -> bytes:
        size = self._sizes[ts % 64]
        best = [_decimal(self._mid + away) for away in (0, -1, 1)]
        return self._wire.ticker(self.name, best, size, _decimal(self._mid + 9_000), _decimal(self._mid - 9_000), ts)

    def _checksum(self) -> int:
        if not self._wire.checksums:
            return 0
        bids, asks = self._bids.best(), self._asks.best()
        number = crc32(":".join([text for pair in zip(bids, asks, strict=True) for text in pair]).encode())
        return number - (number >> 31 << 32)


class Market:
    """All instruments; `snapshots` first, then `messages`, each once."""

    def __init__(self, wire: Wire) -> None:
        chance = random.Random(7)
        self._instruments = [_Instrument(name, wire, chance) for name in INSTRUMENTS]
        self._mix = chance.sample(_MIX, len(_MIX))
        self._wire = wire

    def snapshots(self) -> list[bytes]:
        """Return the frame that each book begins with."""
        return [self._wire.frame(instrument.snapshot(_START)) for instrument in self._instruments]

    def messages(self, count: int) -> Iterator[bytes]:
        """Yield the frames of `count` messages."""
        told = [[getattr(instrument, kind) for kind in self._mix] for instrument in self._instruments]
        frame = self._wire.frame
        for number in range(count):
            turn, kind = divmod(number, len(self._mix))
            tell = told[(turn + kind) % len(told)][kind]
            yield frame(tell(_START + 1 + number))


def _decimal(tenths: int) -> str:
    return f"{tenths // 10}.{tenths % 10}"


def _size(chance: random.Random) -> str:
    return f"{chance.randrange(1, 10**6) / 10 ** chance.randrange(2, 5):.8f}".rstrip("0").rstrip(".")
