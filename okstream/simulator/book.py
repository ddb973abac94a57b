"""
One instrument's order book and trades, deterministic for a seed.

A side keeps its levels under keys that ascend from the best price: the price itself for asks, its negative
for bids. Every change of the book gets a new `version` (ours, always growing) and a new `seq` (the
exchange's, which a maintenance reset may lower).
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass
from itertools import islice

from okstream.simulator.instruments import Instrument

Level = tuple[int, int]  # lots, number of orders

_TRADES = 20_000
"""Rows that are remembered: more than a flood of several channels makes before the next poll of a slower one."""


@dataclass(slots=True)
class Trade:
    """One taker order at one price. Stands for the ids `id - count + 1` to `id`, each of `parts` lots."""

    id: int
    count: int
    price: int
    lots: int
    side: str
    ts: int
    seq: int
    parts: tuple[int, ...]


class Side:
    """The levels of one side, best first. `touched` are the keys put or dropped last, `touches` how many ever were."""

    __slots__ = ("keys", "levels", "sign", "touched", "touches")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.levels: dict[int, Level] = {}
        self.touched: deque[int] = deque(maxlen=256)
        self.touches = 0

    def put(self, key: int, level: Level) -> None:
        if key not in self.levels:
            insort(self.keys, key)
        self.levels[key] = level
        self.touched.append(key)
        self.touches += 1

    def drop(self, key: int) -> None:
        del self.levels[key]
        del self.keys[bisect_left(self.keys, key)]
        self.touched.append(key)
        self.touches += 1

    def window(self, size: int) -> dict[int, Level]:
        """The best `size` levels, best first."""
        levels = self.levels
        return {key: levels[key] for key in self.keys[:size]}


class Window:
    """The best `size` levels of a side as a client has them; `edge` is the key of the last."""

    __slots__ = ("_side", "_size", "_touches", "edge", "levels")

    def __init__(self, side: Side, size: int) -> None:
        self._side = side
        self._size = size
        self._renew()

    def _renew(self) -> None:
        side = self._side
        self.levels = side.window(self._size)
        self.edge = side.keys[min(len(side.keys), self._size) - 1]
        self._touches = side.touches

    def move(self) -> dict[int, Level | None]:
        """Take over what has changed since, and return it: None for what is no longer among the best."""
        side, before, had = self._side, self.levels, self.edge
        fresh = side.touches - self._touches
        if fresh > len(side.touched):
            self._renew()
            changed: dict[int, Level | None] = {k: v for k, v in self.levels.items() if before.get(k) != v}
            changed.update((key, None) for key in before.keys() - self.levels.keys())
            return changed
        self._touches = side.touches
        self.edge = edge = side.keys[min(len(side.keys), self._size) - 1]
        # What was not touched has only changed where the edge has moved over it.
        keys = {*islice(reversed(side.touched), fresh)}
        if edge != had:
            keys.update(side.keys[bisect_right(side.keys, min(edge, had)) : bisect_right(side.keys, max(edge, had))])
        changed = {}
        for key in keys:
            level = side.levels.get(key) if key <= edge else None
            if level != before.get(key):
                changed[key] = level
                if level is None:
                    del before[key]
                else:
                    before[key] = level
        return changed


class MarketBook:
    """What happens to one instrument. Times come in as arguments; nothing here reads a clock."""

    def __init__(self, instrument: Instrument, seed: int, now_ms: int) -> None:
        self.instrument = instrument
        self.rng = random.Random(f"{seed}/{instrument.inst}")
        self.asks, self.bids = Side(1), Side(-1)
        self.version = 0
        self.seq = 270_000_000_000 + instrument.code * 1_000_003
        self.ts = now_ms
        self.removed: deque[tuple[int, int, int]] = deque(maxlen=4096)  # version, sign, key
        self.trades: deque[Trade] = deque(maxlen=_TRADES)
        self.trade_count = 0  # rows ever made, also those the deque has dropped
        self.last_id = 100_000_000 + instrument.code
        self.open = instrument.start
        self.high = instrument.start + instrument.start // 90
        self.low = instrument.start - instrument.start // 80
        self.volume = instrument.start * 1000  # lots in 24 h
        self.turnover = self.volume * instrument.start  # ticks times lots
        self._fill(now_ms)

    def _lots(self) -> int:
        scale = 10 ** max(0, self.instrument.size_places - 2)
        return max(1, int(self.rng.lognormvariate(4.0, 1.5) * scale))

    def _level(self) -> Level:
        return self._lots(), 1 + int(self.rng.expovariate(0.4))

    def _fill(self, now_ms: int) -> None:
        for side in (self.asks, self.bids):
            key = self.instrument.start * side.sign + (1 if side.sign > 0 else 0)
            while len(side.keys) < self.instrument.depth and key * side.sign > 0:
                side.put(key, self._level())
                key += 1 + int(self.rng.expovariate(0.7))
        self._trade("buy", max(1, self._lots() // 4), now_ms - self.rng.randrange(50, 20_000))
        self.removed.clear()

    @property
    def mid(self) -> int:
        return (self.asks.keys[0] - self.bids.keys[0]) // 2

    def begin(self, now_ms: int) -> None:
        """Open a new version: everything until the next `begin` carries its seq and time."""
        self.version += 1
        self.seq += self.rng.randint(1, 3)
        self.ts = max(self.ts + 1, now_ms)

    def event(self, now_ms: int) -> None:
        """Let one thing happen: some levels change, perhaps a trade."""
        self.begin(now_ms)
        rng = self.rng
        if rng.random() < self.instrument.trading:
            self._trade("buy" if rng.random() < 0.5 else "sell", self._lots(), self.ts)
        for _ in range(1 + int(rng.expovariate(0.5))):
            self._change(self.asks if rng.random() < 0.5 else self.bids)
        self._mend()

    def _change(self, side: Side) -> None:
        rng = self.rng
        choice = rng.random()
        if choice < 0.1:
            key = side.keys[rng.randrange(len(side.keys))]
        else:
            key = side.keys[min(int(rng.expovariate(0.12)), len(side.keys) - 1)]
        if choice < 0.6:
            side.put(key, self._level())
        elif choice < 0.75:
            if len(side.keys) > self.instrument.depth // 2 + 1:
                self._remove(side, key)
        elif key + 1 not in side.levels and (key + 1) * side.sign > 0:
            side.put(key + 1, self._level())
            if choice > 0.95:  # placed and gone within one cut: clients still see it deleted
                self._remove(side, key + 1)

    def _remove(self, side: Side, key: int) -> None:
        side.drop(key)
        self.removed.append((self.version, side.sign, key))

    def _mend(self) -> None:
        """Close a wide spread, pulling towards the first price, and keep both sides deep enough."""
        start, depth = self.instrument.start, self.instrument.depth
        while self.asks.keys[0] + self.bids.keys[0] > 1 + start // 4000:
            pull = 0.5 + max(-0.4, min(0.4, 10 * (start - self.mid) / start))
            side = self.bids if self.rng.random() < pull else self.asks
            step = 1 + int(self.rng.random() * (self.asks.keys[0] + self.bids.keys[0] - 1) / 2)
            side.put(side.keys[0] - step, self._level())
        for side in (self.asks, self.bids):
            while len(side.keys) < depth:
                key = side.keys[-1] + 1 + int(self.rng.expovariate(0.7))
                if key * side.sign <= 0:
                    break
                side.put(key, self._level())
            while len(side.keys) > depth + 40:
                self._remove(side, side.keys[-1])

    def take(self, side: str, lots: int, now_ms: int, limit: int | None = None) -> list[Trade]:
        """A taker order of a user, not beyond the `limit` price in ticks. Returns its trades."""
        self.begin(now_ms)
        made = self._trade(side, lots, self.ts, limit)
        self._mend()
        return made

    def _trade(self, taker: str, lots: int, ts: int, limit: int | None = None) -> list[Trade]:
        book = self.asks if taker == "buy" else self.bids
        made: list[Trade] = []
        while lots > 0 and len(book.keys) > 1 and len(made) < 6:
            key = book.keys[0]
            if limit is not None and key > limit * book.sign:
                break
            have, orders = book.levels[key]
            filled = min(lots, have)
            lots -= filled
            if filled == have:
                matches = min(orders, filled)
                self._remove(book, key)
            else:
                matches = min(filled, max(1, orders * filled // have))
                book.put(key, (have - filled, max(1, orders - matches + 1)))
            made.append(self._record(key * book.sign, filled, matches, taker, ts))
        return made

    def _record(self, price: int, lots: int, matches: int, side: str, ts: int) -> Trade:
        share = lots // matches
        parts = (share,) * (matches - 1) + (lots - share * (matches - 1),)
        self.last_id += matches
        trade = Trade(self.last_id, matches, price, lots, side, ts, self.seq, parts)
        self.trades.append(trade)
        self.trade_count += 1
        self.high, self.low = max(self.high, price), min(self.low, price)
        self.volume += lots
        self.turnover += lots * price
        return trade

    def since(self, count: int) -> list[Trade]:
        """The trades after the first `count` ever made, as far as they are kept."""
        fresh = min(self.trade_count - count, len(self.trades))
        return [self.trades[-i] for i in range(fresh, 0, -1)] if fresh > 0 else []
