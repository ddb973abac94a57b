"""The channels of okex-v1: names, and the same market and accounts in the words of that generation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from okstream.simulator import v5_derived, v5_public
from okstream.simulator.account import Order, text
from okstream.simulator.book import Level, Side, Trade
from okstream.simulator.candles import Bar, Candles
from okstream.simulator.engine import Engine, Push
from okstream.simulator.market import Market
from okstream.simulator.v5_account import UserSubscription
from okstream.simulator.v5_public import BookSubscription

BARS = {
    "1min": "1m", "3min": "3m", "5min": "5m", "15min": "15m", "30min": "30m", "1hour": "1H", "2hour": "2H",
    "4hour": "4H", "6hour": "6H", "12hour": "12H", "day": "1D", "3day": "3D", "week": "1W",
}  # fmt: skip
AFTER_LOGIN = ("ok_sub_futureusd_trades", "ok_sub_futureusd_userinfo", "ok_sub_futureusd_positions")
_STATUS = {"live": 0, "partially_filled": 1, "filled": 2, "canceled": -1}
_SPOT = re.compile(r"ok_sub_spot_([a-z0-9]+_[a-z0-9]+)_(ticker|depth(?:_(?:5|10|20))?|deals|kline_(\w+)|order|balance)")
_FUTURE = re.compile(
    r"ok_sub_futureusd_([a-z0-9]+)_(ticker|depth|trade|kline|markprice)_(this_week|next_week|quarter)(?:_(\w+))?"
)
_INDEX = re.compile(r"ok_sub_futureusd_([a-z0-9]+)_index")
_QUOTED_NUMBER = re.compile(rb'"(-?\d+(?:\.\d+)?)"')


def unquoted(message: bytes) -> bytes:
    """The same message with JSON numbers in place of strings of digits."""
    return _QUOTED_NUMBER.sub(rb"\1", message)


@dataclass(frozen=True, slots=True)
class Found:
    """What a channel name means. `numbers`: always sent as JSON numbers."""

    serves: Any
    inst: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    private: bool = False
    numbers: bool = False


def find(name: str, market: Market) -> Found | None:
    """None where there is no such channel, pair or contract."""
    if name in AFTER_LOGIN:
        return Found({"trades": FutureOrders, "userinfo": UserInfo, "positions": Positions}[name[17:]], private=True)
    spot = _SPOT.fullmatch(name)
    if spot is not None:
        inst = spot[1].upper().replace("_", "-")
        return _spot(inst, spot[2], spot[3]) if inst in market.instruments else None
    index = _INDEX.fullmatch(name)
    if index is not None:
        pair = f"{index[1].upper()}-USD"
        return Found(Index, pair) if market.index(pair) else None
    future = _FUTURE.fullmatch(name)
    if future is None:
        return None
    every = market.instruments.values()
    named = next((i for i in every if (i.alias, i.base.lower(), i.quote) == (future[3], future[1], "USD")), None)
    return _future(named.inst, future[2], future[4]) if named is not None else None


def _spot(inst: str, what: str, bar: str | None) -> Found | None:
    if what.startswith("depth_"):
        return Found(DepthN, inst, {"depth": int(what[6:])})
    if bar is not None:
        return Found(Kline, inst, {"bar": BARS[bar]}) if bar in BARS else None
    if what in ("order", "balance"):
        return Found(SpotOrders if what == "order" else Balance, inst, private=True)
    return Found({"ticker": Ticker, "depth": Depth, "deals": Deals}[what], inst)


def _future(inst: str, what: str, rest: str | None) -> Found | None:
    if what == "kline":
        return Found(Kline, inst, {"bar": BARS[rest]}) if rest in BARS else None
    if what == "depth" and rest in ("5", "10", "20"):
        return Found(FutureDepthN, inst, {"depth": int(rest)}, numbers=True)
    if rest is not None:
        return None
    serves = {"ticker": FutureTicker, "depth": FutureDepth, "trade": Deals, "markprice": MarkPrice}[what]
    return Found(serves, inst, numbers=what == "depth")


class Array:
    """The envelope: an array of one message."""

    channel: str

    def payload(self, data: Any, **top: Any) -> Any:
        return [{"binary": 0, "channel": self.channel, "data": data}]


class Depth(Array, v5_public.Books):
    """Whole at first, then changes; no checksum and no sequence. The best ask comes last."""

    depth = 200
    transients = False
    sequenced = False

    def row(self, side: Side, key: int, level: Level | None) -> list[str]:
        size = self.instrument.size(level[0]) if level is not None else "0"
        return [self.instrument.price(key * side.sign), size]

    def message(self, action: str, asks: list[list[str]], bids: list[list[str]], ts: int, before: int) -> Any:
        return self.payload({"asks": asks[::-1], "bids": bids, "timestamp": ts})


class FutureDepth(Depth):
    """Price, contracts, coins, and both summed up from the best price."""

    def message(self, action: str, asks: list[list[str]], bids: list[list[str]], ts: int, before: int) -> Any:
        value = Decimal(self.instrument.ct_val)
        return super().message(action, _summed(asks, value), _summed(bids, value), ts, before)


def _summed(rows: list[list[str]], value: Decimal) -> list[list[str]]:
    coins_sum, contracts_sum, done = Decimal(0), 0, []
    for price, contracts in rows:
        coins = round(Decimal(contracts) * value / Decimal(price), 4)
        coins_sum, contracts_sum = coins_sum + coins, contracts_sum + int(contracts)
        done.append([price, contracts, text(coins), text(coins_sum), str(contracts_sum)])
    return done


class DepthN(Array, v5_public.Books5):
    """The best levels whole each time."""

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        super().__init__(engine, key, arg)
        self.depth = arg["depth"]

    def row(self, side: Side, key: int, level: Level | None) -> list[str]:
        assert level is not None
        return [self.instrument.price(key * side.sign), self.instrument.size(level[0])]

    def poll(self) -> Iterable[Push]:
        book = self.book
        if book.version == self.version:
            return
        self.version = book.version
        shown = self.rows(book.asks, self.depth), self.rows(book.bids, self.depth)
        if shown != self.shown:
            self.shown = shown
            asks, bids = (self.levels(rows) for rows in shown)
            yield "push", self.payload({"asks": asks[::-1], "bids": bids, "timestamp": book.ts}), book.ts

    def levels(self, rows: list[list[str]]) -> list[list[str]]:
        return rows


class FutureDepthN(DepthN):
    def levels(self, rows: list[list[str]]) -> list[list[str]]:
        return _summed(rows, Decimal(self.instrument.ct_val))


class Ticker(Array, BookSubscription):
    def first(self) -> Iterable[Push]:
        return [("cached", payload, ts) for _, payload, ts in self.poll()]

    def poll(self) -> Iterable[Push]:
        if self.book.version != self.version:
            self.version = self.book.version
            yield "push", self.payload(self.fields(v5_public.ticker(self.book))), self.book.ts

    def fields(self, row: dict[str, str]) -> dict[str, Any]:
        change = text(Decimal(row["last"]) - Decimal(row["open24h"]))
        fields: dict[str, Any] = {"high": row["high24h"], "vol": row["vol24h"], "last": row["last"]}
        fields |= {"low": row["low24h"], "buy": row["bidPx"], "change": change, "sell": row["askPx"]}
        fields |= {"dayLow": row["low24h"], "close": row["last"], "dayHigh": row["high24h"], "open": row["open24h"]}
        return fields | {"timestamp": self.book.ts}


class FutureTicker(Ticker):
    """Without a timestamp, as it was."""

    def fields(self, row: dict[str, str]) -> dict[str, Any]:
        inst, mid = self.instrument, self.book.mid
        fields: dict[str, Any] = {"high": row["high24h"], "limitLow": inst.price(mid - mid // 33), "vol": row["vol24h"]}
        fields |= {"last": row["last"], "low": row["low24h"], "buy": row["bidPx"], "hold_amount": "1251968"}
        fields |= {"sell": row["askPx"], "contractId": 201806220000000 + inst.code, "unitAmount": inst.ct_val}
        return fields | {"limitHigh": inst.price(mid + mid // 33)}


class Deals(Array, v5_public.TradesAll):
    """Trades with the time of day in UTC+8; all matches of one taker order and price in one push."""

    def first(self) -> Iterable[Push]:
        rows = [row for trade in list(self.book.trades)[-60:] for row in self.deals(trade)][-60:]
        yield "cached", self.payload(rows), self.book.trades[-1].ts

    def payloads(self, trade: Trade) -> Iterable[tuple[Any, int]]:
        yield self.payload(self.deals(trade)), trade.ts

    def deals(self, trade: Trade) -> list[list[str]]:
        inst = self.instrument
        clock = datetime.fromtimestamp(trade.ts // 1000, UTC) + timedelta(hours=8)
        side = "bid" if trade.side == "buy" else "ask"
        price, at = inst.price(trade.price), f"{clock:%H:%M:%S}"
        start = trade.id - trade.count + 1
        return [[str(start + i), price, inst.size(lots), at, side] for i, lots in enumerate(trade.parts)]


class Kline(Array, Candles):
    interval = 0.5

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        super().__init__(engine, key, {**arg, "channel": f"candle{arg['bar']}"})
        self.channel = arg["channel"]

    def cells(self, bar: Bar, confirm: bool) -> list[str]:
        row = bar.row(self.instrument, confirm)
        return row[:7] if self.instrument.derivative else row[:6]


class MarkPrice(Array, v5_derived.MarkPrice):
    def poll(self) -> Iterable[Push]:
        for kind, _, ts in super().poll():
            inst = self.instrument
            row = {"symbol": inst.base.lower(), "contract_type": inst.alias, "timestamp": str(ts)}
            yield kind, self.payload({**row, "mark_price": inst.price(self.book.mid)}), ts


class Index(Array, v5_derived.IndexTickers):
    def poll(self) -> Iterable[Push]:
        for kind, _, ts in super().poll():
            price = self.instrument.price(self.book.mid)
            yield kind, self.payload({"usdCnyRate": "6.423", "futureIndex": price, "timestamp": str(ts)}), ts


# A user's channels


class SpotOrders(Array, UserSubscription):
    def hear(self, what: str, item: Any) -> None:
        if what == "order" and item.instrument.inst == self.inst:
            self.waiting.append(item)

    def poll(self) -> Iterable[Push]:
        base, quote = self.inst.lower().split("-")
        for order in self.drain():
            message = {"base": base, "binary": 0, "channel": self.channel, "data": spot_order(order)}
            yield "push", [{**message, "product": "spot", "quote": quote, "type": "balance"}], order.updated


def spot_order(order: Order) -> dict[str, Any]:
    inst = order.instrument
    filled = Decimal(order.turnover) / 10 ** (inst.price_places + inst.size_places)
    row: dict[str, Any] = {"symbol": inst.inst.lower().replace("-", "_"), "tradeAmount": inst.size(order.lots)}
    row |= {"createdDate": str(order.created), "orderId": order.id, "averagePrice": order.average() or "0"}
    row |= {"completedTradeAmount": inst.size(order.filled), "tradePrice": text(filled)}
    row |= {"tradeType": order.side + ("_market" if order.type == "market" else "")}
    row |= {"status": _STATUS[order.state], "tradeUnitPrice": inst.price(order.price)}
    if order.fill_lots:
        money = Decimal(order.fill_lots * order.fill_price) / 10 ** (inst.price_places + inst.size_places)
        row |= {"sigTradeAmount": inst.size(order.fill_lots), "sigTradePrice": text(money)}
    return row | {"unTrade": inst.size(order.lots - order.filled)}


class Balance(Array, UserSubscription):
    """Only the currencies that changed, as JSON numbers."""

    def hear(self, what: str, item: Any) -> None:
        if what == "balance":
            self.waiting += [ccy for ccy in item if ccy in self.inst.split("-")]

    def poll(self) -> Iterable[Push]:
        base, quote = self.inst.lower().split("-")
        for ccy in dict.fromkeys(self.drain()):
            frozen, now = self.user.frozen(ccy), self.now_ms()
            free = {ccy.lower(): float(self.user.cash[ccy] - frozen)}
            info = {"info": {"free": free, "freezed": {ccy.lower(): float(frozen)}}}
            message = {"base": base, "binary": 0, "channel": self.channel, "data": info}
            yield "push", [{**message, "product": "spot", "quote": quote, "type": "order"}], now


class FutureOrders(Array, UserSubscription):
    def hear(self, what: str, item: Any) -> None:
        if what == "order" and item.instrument.type == "FUTURES":
            self.waiting.append(item)

    def poll(self) -> Iterable[Push]:
        for order in self.drain():
            yield "push", self.payload(future_order(order)), order.updated


def future_order(order: Order) -> dict[str, Any]:
    inst = order.instrument
    made = datetime.fromtimestamp(order.created // 1000, UTC) + timedelta(hours=8)
    row = {"lever_rate": 10.0, "amount": float(order.lots), "orderid": order.id, "fee": float(order.fee)}
    row |= {"contract_id": 201806220000000 + inst.code, "unit_amount": float(inst.ct_val)}
    row |= {"price_avg": float(order.average() or 0), "type": 1 if order.side == "buy" else 2, "user_id": 0}
    row |= {"deal_amount": float(order.filled), "system_type": 0, "price": float(inst.price(order.price))}
    names = {"contract_name": f"{inst.base}{inst.inst[-4:]}", "contract_type": inst.alias}
    times = {"create_date_str": f"{made:%Y-%m-%d %H:%M:%S}", "create_date": order.created}
    return {**row, **names, **times, "status": _STATUS[order.state]}


class UserInfo(Array, UserSubscription):
    def hear(self, what: str, item: Any) -> None:
        if what == "balance":
            self.waiting += [ccy for ccy in item if ccy in ("BTC", "ETH")]

    def poll(self) -> Iterable[Push]:
        for ccy in dict.fromkeys(self.drain()):
            row = {"symbol": f"{ccy.lower()}_usd", "balance": float(self.user.cash[ccy]), "unit_amount": 10.0}
            yield "push", self.payload({**row, "profit_real": 0.0, "keep_deposit": 0.0}), self.now_ms()


class Positions(Array, UserSubscription):
    """Both sides of each contract of one symbol."""

    def hear(self, what: str, item: Any) -> None:
        if what == "position":
            self.waiting += [i for i in item if self.user.positions[i].instrument.type == "FUTURES"]

    def poll(self) -> Iterable[Push]:
        for inst in dict.fromkeys(self.drain()):
            position = self.user.positions[inst]
            rows = []
            for side, sign in ((1, 1), (2, -1)):
                held = float(max(0, sign * position.lots))
                row = {"bondfreez": 0.0, "margin": 0.0, "avgprice": float(position.average), "eveningup": held}
                row |= {"contract_id": 201806220000000 + position.instrument.code, "hold_amount": held}
                row |= {"realized": float(position.realized), "position": side, "position_id": position.id}
                rows.append({**row, "contract_name": position.instrument.base, "costprice": row["avgprice"]})
            symbol = f"{position.instrument.base.lower()}_usd"
            yield "push", self.payload({"symbol": symbol, "user_id": 0, "positions": rows}), self.now_ms()
