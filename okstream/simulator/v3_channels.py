"""The channels of okex-v3: the same market and accounts as okx-v5, in the words of that generation."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Any

from okstream.simulator import v5_derived, v5_public
from okstream.simulator.account import Order, User, text
from okstream.simulator.book import Trade
from okstream.simulator.candles import Bar, Candles
from okstream.simulator.clock import iso
from okstream.simulator.engine import Engine, Push
from okstream.simulator.instruments import decimal_text
from okstream.simulator.market import drift
from okstream.simulator.v5_account import UserSubscription
from okstream.simulator.v5_public import BookSubscription

BARS = {
    "60": "1m", "180": "3m", "300": "5m", "900": "15m", "1800": "30m", "3600": "1H", "7200": "2H", "14400": "4H",
    "21600": "6H", "43200": "12H", "86400": "1D", "604800": "1W",
}  # fmt: skip
_STATE = {"live": "0", "partially_filled": "1", "filled": "2", "canceled": "-1"}
_STATUS = {"live": "open", "partially_filled": "part_filled", "filled": "filled", "canceled": "cancelled"}
_NEVER = "1970-01-01T00:00:00.000Z"


class Table:
    """The envelope of every push."""

    channel: str

    def payload(self, data: list[Any], **top: Any) -> dict[str, Any]:
        return {"table": self.channel, **top, "data": data}


@lru_cache(65536)
def _padded(ticks: int, places: int) -> str:
    return f"{Decimal(ticks).scaleb(-places):.{places}f}"


class Depth(Table, v5_public.Books):
    """`partial`, then `update`s with the checksum of the book after them; no sequence."""

    transients = False
    sequenced = False
    sums: tuple[int | None, int | None] = (None, None)

    def price(self, ticks: int) -> str:
        inst = self.instrument
        if not inst.derivative:
            return inst.price(ticks)
        # Contracts keep the zeros of their tick, which a checksum over numbers would lose.
        return _padded(ticks, inst.price_places)

    def message(
        self, action: str, asks: list[list[str]], bids: list[list[str]], ts: int, before: int
    ) -> dict[str, Any]:
        row = {"instrument_id": self.inst, "asks": asks, "bids": bids, "timestamp": iso(ts)}
        action = "partial" if action == "snapshot" else action
        self.sums = self.sums[1], self.crc32()
        return self.payload([{**row, "checksum": self.sums[1]}], action=action)

    def shows(self, payload: Any) -> bool:
        """The checksum is of the best 25: what is lost beyond them nobody can tell."""
        return self.sums[0] != self.sums[1]


class DepthTbt(Depth):
    interval = 0.03


class Depth5(Table, v5_public.Books5):
    """Five levels whole, without action or checksum."""

    def poll(self) -> Iterable[Push]:
        book = self.book
        if book.version != self.version:
            self.version = book.version
            shown = self.rows(book.asks, 5), self.rows(book.bids, 5)
            if shown != self.shown:
                self.shown = shown
                row = {"asks": shown[0], "bids": shown[1], "instrument_id": self.inst, "timestamp": iso(book.ts)}
                yield "push", self.payload([row]), book.ts


class Ticker(Table, BookSubscription):
    def first(self) -> Iterable[Push]:
        return [("cached", payload, ts) for _, payload, ts in self.poll()]

    def poll(self) -> Iterable[Push]:
        if self.book.version == self.version:
            return
        self.version = self.book.version
        yield "push", self.payload([self.fields(v5_public.ticker(self.book))]), self.book.ts

    def fields(self, row: dict[str, str]) -> dict[str, str]:
        fields = {"last": row["last"], "open_24h": row["open24h"], "best_bid": row["bidPx"]}
        fields |= {"high_24h": row["high24h"], "low_24h": row["low24h"]}
        fields |= {"open_utc0": row["sodUtc0"], "open_utc8": row["sodUtc8"]}
        if self.instrument.derivative:
            fields |= {"volume_24h": row["vol24h"], "volume_token_24h": row["vol24h"], "best_ask": row["askPx"]}
            fields["open_interest"] = f"{2_000_000 + self.book.version}.0000000000000000"
        else:
            fields |= {"base_volume_24h": row["vol24h"], "quote_volume_24h": row["volCcy24h"]}
            fields["best_ask"] = row["askPx"]
        fields |= {"instrument_id": self.inst, "timestamp": iso(self.book.ts), "best_bid_size": row["bidSz"]}
        return fields | {"best_ask_size": row["askSz"], "last_qty": row["lastSz"]}


class Trades(Table, v5_public.TradesAll):
    """One push for each match; the quantity is `size` in spot and swap, `qty` in futures and option."""

    def payloads(self, trade: Trade) -> Iterable[tuple[dict[str, Any], int]]:
        quantity = "qty" if self.instrument.type in ("FUTURES", "OPTION") else "size"
        for i, lots in enumerate(trade.parts):
            row = {"side": trade.side, "trade_id": str(trade.id - trade.count + 1 + i)}
            row |= {"price": self.instrument.price(trade.price), quantity: self.instrument.size(lots)}
            row |= {"instrument_id": self.inst, "timestamp": iso(trade.ts)}
            yield self.payload([row]), trade.ts

    def first(self) -> Iterable[Push]:
        payload, ts = list(self.payloads(self.book.trades[-1]))[-1]
        yield "cached", payload, ts


class Candle(Table, Candles):
    interval = 0.5

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        table = arg["channel"]
        bar = BARS[table.rpartition("/candle")[2].removesuffix("s")]
        super().__init__(engine, key, {**arg, "channel": f"candle{bar}"})
        self.channel, self.inst = table, arg["instId"]

    def cells(self, bar: Bar, confirm: bool) -> Any:
        row = bar.row(self.instrument, confirm)
        cells = [iso(bar.ts), *row[1:7]] if self.instrument.derivative else [iso(bar.ts), *row[1:6]]
        return {"candle": cells, "instrument_id": self.inst}


class MarkPrice(Table, v5_derived.MarkPrice):
    def poll(self) -> Iterable[Push]:
        for kind, payload, ts in super().poll():
            row = {"instrument_id": self.inst, "mark_price": payload["data"][0]["markPx"], "timestamp": iso(ts)}
            yield kind, self.payload([row]), ts


class PriceRange(Table, v5_derived.PriceLimit):
    interval = 5.0

    def poll(self) -> Iterable[Push]:
        for kind, payload, ts in super().poll():
            limits = payload["data"][0]
            row = {"highest": limits["buyLmt"], "lowest": limits["sellLmt"], "instrument_id": self.inst}
            yield kind, self.payload([{**row, "timestamp": iso(ts)}]), ts


class FundingRate(Table, v5_derived.FundingRate):
    def poll(self) -> Iterable[Push]:
        for kind, payload, ts in super().poll():
            rate, seed = payload["data"][0], self.engine.settings.seed
            row = {"estimated_rate": decimal_text(100_000 + drift(seed, self.inst, ts // 60_000, 9_999), 9)}
            row |= {"funding_rate": rate["fundingRate"], "funding_time": iso(int(rate["fundingTime"]))}
            row |= {"instrument_id": self.inst, "interest_rate": "0"}
            yield kind, self.payload([{**row, "settlement_time": iso(int(rate["nextFundingTime"]))}]), ts


class IndexTicker(Table, v5_derived.IndexTickers):
    def poll(self) -> Iterable[Push]:
        for kind, payload, ts in super().poll():
            index = payload["data"][0]
            row = {"last": index["idxPx"], "high_24h": index["high24h"], "low_24h": index["low24h"]}
            row |= {"instrument_id": self.inst, "open_24h": index["open24h"], "timestamp": iso(ts)}
            yield kind, self.payload([row]), ts


class Status(Table, v5_derived.Quiet):
    """Maintenance notices; there are none."""


# A user's channels. They push changes only.


class Orders(Table, UserSubscription):
    interval = 0.01

    def hear(self, what: str, item: Any) -> None:
        inst = getattr(item, "instrument", None)
        if what == "order" and inst is not None and self.wanted(inst.type, inst.family, inst.inst):
            self.waiting.append((spot_order(item) if inst.type == "SPOT" else contract_order(item), item.updated))

    def poll(self) -> Iterable[Push]:
        for row, ts in self.drain():
            yield "push", self.payload([row]), ts


def spot_order(order: Order) -> dict[str, str]:
    inst = order.instrument
    filled = Decimal(order.turnover) / 10 ** (inst.price_places + inst.size_places)
    blanks = "client_oid event_message last_amend_result last_request_id notional rebate rebate_currency".split()
    row = dict.fromkeys(blanks, "") | _last_fill(order)
    row |= {"client_oid": order.client_id, "created_at": iso(order.created), "event_code": "0"}
    row |= {"fee": text(order.fee) if order.filled else "", "fee_currency": order.fee_currency if order.filled else ""}
    row |= {"filled_notional": text(filled), "filled_size": inst.size(order.filled), "instrument_id": inst.inst}
    row |= {"margin_trading": "1", "order_id": str(order.id), "order_type": "0", "price": inst.price(order.price)}
    row |= {"side": order.side, "size": inst.size(order.lots), "state": _STATE[order.state]}
    row |= {"status": _STATUS[order.state], "timestamp": iso(order.updated)}
    return row | {"type": "market" if order.type == "market" else "limit"}


def contract_order(order: Order) -> dict[str, str]:
    inst = order.instrument
    row = _last_fill(order)
    row |= {"leverage": "10", "filled_qty": inst.size(order.filled), "fee": text(order.fee)}
    row |= {"price_avg": order.average() or "0", "type": "1" if order.side == "buy" else "2"}
    row |= {"client_oid": order.client_id, "instrument_id": inst.inst, "size": inst.size(order.lots)}
    row |= {"price": inst.price(order.price), "error_code": "0", "state": _STATE[order.state]}
    row |= {"contract_val": inst.ct_val, "order_id": str(order.id)}
    row |= {"order_type": "4" if order.type == "market" else "0", "timestamp": iso(order.updated)}
    return row | {"status": _STATE[order.state]}


def _last_fill(order: Order) -> dict[str, str]:
    inst, filled = order.instrument, order.fill_lots > 0
    return {
        "last_fill_id": str(order.trade_id) if filled else "0",
        "last_fill_px": inst.price(order.fill_price) if filled else "0",
        "last_fill_qty": inst.size(order.fill_lots) if filled else "0",
        "last_fill_time": iso(order.fill_time) if filled else _NEVER,
    }


class Account(Table, UserSubscription):
    """Spot: one currency. Futures: the coin, under its own name. Swap: one instrument."""

    def hear(self, what: str, item: Any) -> None:
        if what == "balance":
            self.waiting += [c for c in item if c not in self.waiting and self.arg.get("ccy", c) == c]

    def poll(self) -> Iterable[Push]:
        for ccy in self.drain():
            now = self.now_ms()
            yield "push", self.payload([self.fields(self.user, ccy, now)]), now

    def fields(self, user: User, ccy: str, now: int) -> dict[str, Any]:
        cash, hold = user.cash[ccy], user.frozen(ccy)
        business = self.channel.partition("/")[0]
        if business == "spot":
            row = {"available": text(cash - hold), "balance": text(cash), "currency": ccy, "hold": text(hold)}
            return {**row, "id": "", "timestamp": iso(now)}
        row = {"equity": text(cash), "total_avail_balance": text(cash - hold), "margin": "0", "margin_frozen": "0"}
        row |= {"margin_mode": "crossed", "margin_ratio": "10000", "realized_pnl": "0", "unrealized_pnl": "0"}
        row |= {"maint_margin_ratio": "0.005", "timestamp": iso(now)}
        if business == "swap":
            return {**row, "instrument_id": self.inst, "fixed_balance": "0"}
        return {ccy: {**row, "currency": ccy, "can_withdraw": text(cash), "liqui_mode": "tier"}}


class Positions(Table, UserSubscription):
    """One instrument's position, two-sided for futures, as a list of holdings for swaps."""

    def hear(self, what: str, item: Any) -> None:
        if what == "position" and self.inst in item:
            self.waiting.append(self.inst)

    def poll(self) -> Iterable[Push]:
        if self.drain():
            now = self.now_ms()
            yield "push", self.payload([self.fields(now)]), now

    def fields(self, now: int) -> dict[str, Any]:
        position = self.user.positions[self.inst]
        inst, cost = position.instrument, text(position.average)
        long, short = inst.size(max(0, position.lots)), inst.size(max(0, -position.lots))
        if inst.type == "SWAP":
            side, size = ("long", long) if position.lots >= 0 else ("short", short)
            holding = {"avail_position": size, "avg_cost": cost, "leverage": "10.00", "position": size, "side": side}
            holding |= {"realized_pnl": text(position.realized), "timestamp": iso(now)}
            head = {"holding": [holding], "instrument_id": inst.inst, "margin_mode": "crossed"}
            return {**head, "timestamp": iso(now)}
        row = {"long_qty": long, "long_avail_qty": long, "long_avg_cost": cost, "short_qty": short}
        row |= {"short_avail_qty": short, "short_avg_cost": cost, "realised_pnl": text(position.realized)}
        row |= {"liquidation_price": "0.0", "instrument_id": inst.inst, "leverage": "10", "margin_mode": "crossed"}
        return {**row, "created_at": iso(position.created), "updated_at": iso(position.updated), "timestamp": iso(now)}


_EVERY = {"ticker": Ticker, "trade": Trades, "depth": Depth, "depth5": Depth5, "depth_l2_tbt": DepthTbt}
_CONTRACT = {"mark_price": MarkPrice, "price_range": PriceRange}
_USER = {"order": Orders, "account": Account, "position": Positions}
TABLES: dict[str, dict[str, type]] = {
    "spot": {**_EVERY, "order": Orders, "account": Account},
    "futures": {**_EVERY, **_CONTRACT, **_USER},
    "swap": {**_EVERY, **_CONTRACT, **_USER, "funding_rate": FundingRate},
    "option": {**_EVERY, "order": Orders, "position": Positions},
    "index": {"ticker": IndexTicker},
    "system": {"status": Status},
}


def find(table: str) -> Any:
    """The class that serves "spot/depth5", None for a table there is not."""
    business, _, channel = table.partition("/")
    channels = TABLES.get(business, {})
    if channel.startswith("candle") and "ticker" in channels:
        return Candle if channel.removeprefix("candle").removesuffix("s") in BARS else None
    return channels.get(channel)


__all__ = ["TABLES", "UserSubscription", "find"]
