"""All instruments, simulated only while someone watches them; and the prices derived from books."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from okstream.simulator.book import MarketBook, Trade
from okstream.simulator.instruments import Instrument, all_instruments
from okstream.simulator.settings import Settings


class Market:
    """
    Books by instrument, advanced together by `step`.

    An instrument moves while `hold` has been called for it more often than `release`; a book once made is
    kept, and stands still while nobody holds it. `on_trade` is called with every trade of a held book.
    `changes` are the instruments listed, expired and renamed since the start, `former` old names by new ones.
    """

    def __init__(self, settings: Settings, start_ms: int) -> None:
        self.settings = settings
        self.start_ms = start_ms
        self.instruments: dict[str, Instrument] = all_instruments(start_ms, settings.generated)
        self.books: dict[str, MarketBook] = {}
        self.held: defaultdict[MarketBook, int] = defaultdict(int)
        self.changes: list[Instrument] = []
        self.former: dict[str, str] = {}
        self.step_number = 0
        self.on_trade: list[Callable[[MarketBook, Trade], None]] = []
        self._next: dict[MarketBook, int] = {}
        self._seen: dict[MarketBook, int] = {}
        self._past: dict[str, MarketBook] = {}

    def book(self, inst: str, now_ms: int) -> MarketBook:
        """The book of an instrument that exists, or did under this name."""
        book = self.books.get(inst)
        if book is None and inst not in self.instruments:
            return self._past[inst]
        if book is None:
            book = self.books[inst] = MarketBook(self.instruments[inst], self.settings.seed, now_ms)
            self._seen[book] = 0
        return book

    def hold(self, inst: str, now_ms: int) -> MarketBook:
        book = self.book(inst, now_ms)
        self.held[book] += 1
        if book not in self._next and inst in self.instruments:
            self._next[book] = self.step_number + 1 + self._pause(book)
        return book

    def release(self, book: MarketBook) -> None:
        self.held[book] -= 1
        if self.held[book] <= 0:
            del self.held[book]
            self._next.pop(book, None)

    def add(self, instrument: Instrument) -> None:
        self.instruments[instrument.inst] = instrument
        self.changes.append(instrument)

    def expire(self, inst: str, now_ms: int) -> None:
        """It is listed no more, and its book stands still for good."""
        self.changes.append(replace(self.instruments.pop(inst), state="expired", expiry_ms=now_ms))
        book = self.books.pop(inst, None)
        if book is not None:
            self._past[inst] = book
            self._next.pop(book, None)

    def rename(self, inst: str, to: Instrument, now_ms: int) -> None:
        """The same book goes on under another name."""
        self.changes += [replace(self.instruments.pop(inst), state="expired", expiry_ms=now_ms), to]
        self.instruments[to.inst] = to
        self.former[to.inst] = inst
        book = self.books.pop(inst, None)
        if book is not None:
            book.instrument = to
            self.books[to.inst] = self._past[inst] = book

    def _pause(self, book: MarketBook) -> int:
        pace = book.instrument.activity * self.settings.rate * self.settings.step
        return int(book.rng.expovariate(pace)) if pace > 0 else 1 << 60

    def step(self, now_ms: int) -> None:
        """One cut of every held book."""
        self.step_number += 1
        number = self.step_number
        for book, due in self._next.items():
            if due > number:
                continue
            book.event(now_ms)
            self._next[book] = number + 1 + self._pause(book)
            if book.trade_count != self._seen[book]:
                self.tell(book)

    def tell(self, book: MarketBook) -> None:
        """Show the trades not yet shown to those who follow trades (bars, accounts)."""
        seen = self._seen[book]
        self._seen[book] = book.trade_count
        for trade in book.since(seen):
            for listener in self.on_trade:
                listener(book, trade)

    def index(self, name: str) -> str | None:
        """The spot instrument that carries an index: itself, or the USDT pair for a USD index."""
        if name in self.instruments and not self.instruments[name].derivative:
            return name
        base, _, quote = name.partition("-")
        twin = f"{base}-USDT"
        return twin if quote == "USD" and twin in self.instruments else None


def drift(seed: int, name: str, slot: int, spread: int) -> int:
    """A small number in -spread..spread that depends on nothing but its arguments."""
    return random.Random(f"{seed}/{name}/{slot}").randint(-spread, spread)
