"""Bars: when they begin, and how trades make them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from okstream.simulator.book import MarketBook, Trade
from okstream.simulator.engine import Engine, Push
from okstream.simulator.instruments import Instrument, decimal_text
from okstream.simulator.v5_public import BookSubscription

_UNIT = {"s": 1_000, "m": 60_000, "H": 3_600_000, "D": 86_400_000, "W": 604_800_000}
PLAIN = ("1s", "1m", "3m", "5m", "15m", "30m", "1H", "2H", "4H")
LONG = ("6H", "12H", "1D", "2D", "3D", "5D", "1W", "1M", "3M")
BARS = (*PLAIN, *LONG, *(bar + "utc" for bar in LONG))
_MONDAY = 4 * 86_400_000  # the epoch began on a Thursday


def bar_start(bar: str, ms: int) -> int:
    """The opening time of the bar that holds `ms`. Long bars begin at UTC+8 unless they end in "utc"."""
    name = bar.removesuffix("utc")
    shift = 8 * 3_600_000 if name in LONG and not bar.endswith("utc") else 0
    number, unit = int(name[:-1]), name[-1]
    local = ms + shift
    if unit == "M":
        day = datetime.fromtimestamp(local / 1000, UTC)
        month = (day.month - 1) // number * number + 1
        return int(datetime(day.year, month, 1, tzinfo=UTC).timestamp() * 1000) - shift
    length = number * _UNIT[unit]
    origin = _MONDAY if unit == "W" else 0
    return (local - origin) // length * length + origin - shift


@dataclass(slots=True)
class Bar:
    """Prices in ticks, volume in lots, turnover in ticks times lots."""

    ts: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    turnover: int = 0

    def row(self, inst: Instrument, confirm: bool) -> list[str]:
        prices = [inst.price(p) for p in (self.open, self.high, self.low, self.close)]
        quote = decimal_text(self.turnover, inst.price_places + inst.size_places)
        return [str(self.ts), *prices, inst.size(self.volume), quote, quote, "1" if confirm else "0"]


class Bars:
    """One instrument's bars of one length, newest last, made of the trades `feed` is given."""

    def __init__(self, book: MarketBook, bar: str) -> None:
        self.bar = bar
        self.bars: deque[Bar] = deque(maxlen=1440)
        for trade in book.trades:
            self.feed(trade)

    def feed(self, trade: Trade) -> None:
        start = bar_start(self.bar, trade.ts)
        self.roll(start)
        if not self.bars:
            self.bars.append(Bar(start, trade.price, trade.price, trade.price, trade.price))
        bar = self.bars[-1]
        if not bar.volume:
            bar.open = bar.high = bar.low = trade.price
        bar.high, bar.low = max(bar.high, trade.price), min(bar.low, trade.price)
        bar.close = trade.price
        bar.volume += trade.lots
        bar.turnover += trade.lots * trade.price

    def roll(self, start: int) -> None:
        """Fill up to the bar that begins at `start` with flat bars of no volume."""
        while self.bars and self.bars[-1].ts < start:
            last = self.bars[-1]
            follows = bar_start(self.bar, last.ts + _length(self.bar))
            if start - follows > 2000 * _length(self.bar):
                follows = start
            self.bars.append(Bar(follows, last.close, last.close, last.close, last.close))


def _length(bar: str) -> int:
    name = bar.removesuffix("utc")
    # Longer than any month, shorter than two: bar_start then finds the next one.
    return int(name[:-1]) * (_UNIT[name[-1]] if name[-1] != "M" else 31 * 86_400_000)


class Candles(BookSubscription):
    """The current bar at once, then at most once a second; a closed bar once more, confirmed."""

    interval = 1.0

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        super().__init__(engine, key, arg)
        self.bars = Bars(self.book, self.channel[self.channel.index("candle") + 6 :])
        self.count = self.book.trade_count
        self.bars.roll(bar_start(self.bars.bar, engine.clock.ms()))
        self.ts = self.bars.bars[-1].ts

    def first(self) -> Iterable[Push]:
        bar = self.bars.bars[-1]
        yield "cached", self.payload([self.cells(bar, False)]), bar.ts

    def poll(self) -> Iterable[Push]:
        fresh = self.book.since(self.count)
        self.count = self.book.trade_count
        for trade in fresh:
            self.bars.feed(trade)
        self.bars.roll(bar_start(self.bars.bar, self.engine.clock.ms()))
        bars = [b for b in self.bars.bars if b.ts >= self.ts]
        if not fresh and len(bars) == 1:
            return
        self.ts = bars[-1].ts
        yield "push", self.payload([self.cells(b, b.ts < self.ts) for b in bars]), self.ts

    def cells(self, bar: Bar, confirm: bool) -> list[str]:
        return bar.row(self.instrument, confirm)


class PriceCandles(Candles):
    """Mark and index candles: without volume."""

    def cells(self, bar: Bar, confirm: bool) -> list[str]:
        row = super().cells(bar, confirm)
        return [*row[:5], row[-1]]
