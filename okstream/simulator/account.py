"""A user of the simulated exchange: orders that rest, fill and are canceled, and what follows for his money."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal, getcontext
from typing import Any

from okstream.simulator.book import MarketBook, Trade
from okstream.simulator.clock import Clock
from okstream.simulator.instruments import Instrument
from okstream.simulator.market import Market
from okstream.simulator.settings import Account, Settings

getcontext().prec = max(getcontext().prec, 40)
TAKER, MAKER = Decimal("0.001"), Decimal("0.0008")
Listener = Callable[[str, Any], None]


def text(value: Decimal) -> str:
    """Plain decimal text without trailing zeros or exponent."""
    shown = format(value, "f")
    if "." in shown:
        shown = shown.rstrip("0").rstrip(".")
    return "0" if shown in ("-0", "") else shown


@dataclass(slots=True)
class Order:
    """
    One order. Prices in ticks, sizes in lots, times in ms. `fill_*` describe the latest fill.

    `state`: live, partially_filled, filled, canceled.
    """

    id: int
    instrument: Instrument
    side: str
    type: str
    price: int
    lots: int
    created: int
    updated: int
    client_id: str = ""
    state: str = "live"
    filled: int = 0
    turnover: int = 0  # ticks times lots
    fee: Decimal = Decimal(0)
    fill_price: int = 0
    fill_lots: int = 0
    fill_fee: Decimal = Decimal(0)
    fill_time: int = 0
    trade_id: int = 0
    matches: int = 0
    role: str = ""
    cancel_source: str = ""

    @property
    def open(self) -> bool:
        return self.state in ("live", "partially_filled")

    @property
    def fee_currency(self) -> str:
        inst = self.instrument
        if inst.derivative:
            return inst.settle
        return inst.base if self.side == "buy" else inst.quote

    def average(self) -> str:
        """Average fill price as text, "" before the first fill."""
        if not self.filled:
            return ""
        return text(Decimal(self.turnover) / self.filled / 10**self.instrument.price_places)


@dataclass(slots=True)
class Position:
    """A net position in lots (negative: short); `average` and `realized` in quote units."""

    instrument: Instrument
    id: int
    created: int
    updated: int
    lots: int = 0
    average: Decimal = Decimal(0)
    realized: Decimal = Decimal(0)
    fee: Decimal = Decimal(0)
    trade_id: int = 0


class User:
    """
    Listeners are called with ("order", Order), ("fill", Order), ("balance", currencies), ("position", insts);
    the orders they get are copies. While `watchers` is not zero, the user also trades by himself.
    """

    def __init__(self, account: Account, market: Market, clock: Clock, settings: Settings) -> None:
        self.account = account
        self.market = market
        self.listeners: list[Listener] = []
        self.orders: dict[int, Order] = {}
        self.fills: list[Order] = []
        self.positions: dict[str, Position] = {}
        self.cash = {ccy: Decimal(amount) for ccy, amount in account.balances.items()}
        self.changed: dict[str, int] = {}
        self.watchers = 0
        self._clock = clock
        self._last_ms = 0
        self._rng = random.Random(f"{settings.seed}/{account.name}")
        self._next_id = 680_800_019_749_900_000
        pace = settings.orders_per_second * settings.step
        self._pace = pace
        self._own: set[int] = set()
        quarter = [i.inst for i in market.instruments.values() if i.alias == "quarter" and i.quote == "USD"]
        self._auto = ["BTC-USDT", "BTC-USDT-SWAP", quarter[0]]
        self._holds: list[MarketBook] = []

    def now(self) -> int:
        """Wall clock in ms, never the same twice: update times tell states of an order apart."""
        self._last_ms = max(self._clock.ms(), self._last_ms + 1)
        return self._last_ms

    def watch(self) -> None:
        self.watchers += 1
        if self.watchers == 1:
            traded = filter(self.market.instruments.__contains__, self._auto)
            self._holds = [self.market.hold(inst, self._clock.ms()) for inst in traded]

    def unwatch(self) -> None:
        self.watchers -= 1
        if self.watchers == 0:
            for book in self._holds:
                self.market.release(book)

    # Orders

    def place(self, inst: str, side: str, type: str, price: int, lots: int, client_id: str = "") -> Order:
        """A new order; fills at once where it crosses. `price` in ticks is ignored for a market order."""
        instrument, now = self.market.instruments[inst], self.now()
        self._next_id += 4096
        order = Order(self._next_id, instrument, side, type, price, lots, now, now, client_id)
        self.orders[order.id] = order
        self._trim()
        book = self.market.book(inst, self._clock.ms())
        self.market.tell(book)  # trades before this order are none of its business
        touch = book.asks.keys[0] if side == "buy" else -book.bids.keys[0]
        crosses = type == "market" or (price >= touch if side == "buy" else price <= touch)
        if crosses and type == "post_only":
            self.cancel(order.id, "31")
            return order
        self._tell("order", replace(order))
        if crosses:
            made = book.take(side, lots, self._clock.ms(), None if type == "market" else price)
            self._own.update(t.id for t in made)
            self.market.tell(book)
            self._own.clear()
            for trade in made:
                self._fill(order, trade.price, trade.lots, trade, "T")
            if order.open and type in ("market", "ioc", "fok"):
                self.cancel(order.id, "14")
        return order

    def cancel(self, order_id: int, source: str = "1") -> bool:
        """False where there is no such open order."""
        order = self.orders.get(order_id)
        if order is None or not order.open:
            return False
        order.state, order.cancel_source, order.updated = "canceled", source, self.now()
        order.fill_lots = order.fill_price = order.trade_id = 0
        order.role = ""
        self._tell("order", replace(order))
        return True

    def market_trade(self, book: MarketBook, trade: Trade) -> None:
        """A trade of the market: it fills resting orders it reaches."""
        if trade.id in self._own or not self.orders:
            return
        taken = "buy" if trade.side == "sell" else "sell"
        for order in list(self.orders.values()):
            if not order.open or order.instrument is not book.instrument or order.side != taken:
                continue
            if trade.price <= order.price if taken == "buy" else trade.price >= order.price:
                self._fill(order, order.price, min(trade.lots, order.lots - order.filled), trade, "M")

    def _fill(self, order: Order, price: int, lots: int, trade: Trade, role: str) -> None:
        order.filled += lots
        order.turnover += price * lots
        order.state = "filled" if order.filled == order.lots else "partially_filled"
        order.fill_price, order.fill_lots, order.trade_id = price, lots, trade.id
        order.matches = trade.count if role == "T" else 1
        order.role, order.fill_time = role, trade.ts
        order.updated = self.now()
        self._settle(order, price, lots, role)
        copy = replace(order)
        self.fills.append(copy)
        del self.fills[:-1000]
        self._tell("fill", copy)
        self._tell("order", copy)

    def _settle(self, order: Order, price: int, lots: int, role: str) -> None:
        inst = order.instrument
        px = Decimal(price) / 10**inst.price_places
        sz = Decimal(lots) / 10**inst.size_places
        rate = TAKER if role == "T" else MAKER
        if inst.derivative:
            notional = sz * Decimal(inst.ct_val or "1") * (px if inst.settle == inst.quote else 1 / px)
            order.fill_fee = -(notional * rate).quantize(Decimal("1e-12"))
            gained = self._move(order, px, lots)
            self._add({inst.settle: gained + order.fill_fee})
            self._tell("position", [inst.inst])
        elif order.side == "buy":
            order.fill_fee = -sz * rate
            self._add({inst.base: sz + order.fill_fee, inst.quote: -px * sz})
        else:
            order.fill_fee = -px * sz * rate
            self._add({inst.base: -sz, inst.quote: px * sz + order.fill_fee})
        order.fee += order.fill_fee

    def _move(self, order: Order, px: Decimal, lots: int) -> Decimal:
        """Change the position; returns what closing a part of it earned."""
        inst = order.instrument
        position = self.positions.get(inst.inst)
        if position is None:
            position = Position(inst, 307_173_036_051_017_730 + inst.code, order.updated, order.updated)
            self.positions[inst.inst] = position
        change = lots if order.side == "buy" else -lots
        old, new = position.lots, position.lots + change
        gained = Decimal(0)
        if old and (old > 0) != (change > 0):
            closed = min(abs(old), abs(change)) * (1 if old > 0 else -1)
            value = Decimal(inst.ct_val or "1") / 10**inst.size_places
            gained = ((px - position.average) * closed * value).quantize(Decimal("1e-12"))
            if abs(change) > abs(old):
                position.average = px
        elif new:
            position.average = (position.average * abs(old) + px * abs(change)) / abs(new)
        position.lots, position.updated, position.trade_id = new, order.updated, order.trade_id
        position.realized += gained
        position.fee += order.fill_fee
        return gained

    def _add(self, amounts: dict[str, Decimal]) -> None:
        for ccy, amount in amounts.items():
            self.cash[ccy] = self.cash.get(ccy, Decimal(0)) + amount
            self.changed[ccy] = self._last_ms
        self._tell("balance", list(amounts))

    def frozen(self, ccy: str) -> Decimal:
        """What open spot orders hold back of a currency."""
        total = Decimal(0)
        for order in self.orders.values():
            inst, rest = order.instrument, order.lots - order.filled
            if not order.open or inst.derivative:
                continue
            if order.side == "sell" and inst.base == ccy:
                total += Decimal(rest) / 10**inst.size_places
            elif order.side == "buy" and inst.quote == ccy:
                total += Decimal(rest * order.price) / 10 ** (inst.size_places + inst.price_places)
        return total

    def renamed(self, old: Instrument, new: Instrument) -> None:
        """Orders and positions go on under the new name."""
        self._auto = [new.inst if inst == old.inst else inst for inst in self._auto]
        for order in self.orders.values():
            if order.instrument is old:
                order.instrument = new
        position = self.positions.pop(old.inst, None)
        if position is not None:
            position.instrument = new
            self.positions[new.inst] = position

    def pending(self) -> list[Order]:
        return [o for o in self.orders.values() if o.open]

    def _trim(self) -> None:
        if len(self.orders) > 1000:
            for done in [i for i, o in self.orders.items() if not o.open][:200]:
                del self.orders[done]

    def _tell(self, what: str, item: Any) -> None:
        for listener in list(self.listeners):
            listener(what, item)

    # Trading by itself

    def step(self) -> None:
        """Now and then place, or cancel, an order, while somebody watches."""
        if self.watchers <= 0 or self._rng.random() >= self._pace:
            return
        rng = self._rng
        pending = self.pending()
        if len(pending) > 8 or (pending and rng.random() < 0.25):
            self.cancel(rng.choice(pending).id)
            return
        inst = rng.choice(self._auto)
        if inst not in self.market.instruments:
            return
        book = self.market.book(inst, self._clock.ms())
        side = rng.choice(("buy", "sell"))
        best = -book.bids.keys[0] if side == "buy" else book.asks.keys[0]
        away = rng.randrange(0, 12) * (-1 if side == "buy" else 1)
        lots = rng.randrange(1, 400) * 10 ** max(0, book.instrument.size_places - 4)
        self.place(inst, side, "market" if rng.random() < 0.2 else "limit", best + away, lots)
