"""
The data of v1 as records; docs/records.md has the table of source keys.

    depth   {"asks":[["9343","1"],["9342","0.5"]],"bids":[["9341","2"],["9340","1"]],"timestamp":1532425265316}
            asks come with the best last; a contract's level goes on with coins and two running sums
    deals   [["425965263","9341.2","0.51","17:41:05","bid"]]            the time of day in UTC+8; bid: the taker bought
    kline   [["1532425260000","9340","9345","9339","9341","12.5"]]      or one such row without the outer array

Every number has become text before it arrives here.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from ..channels import Subscription
from ..records import (
    Balance,
    Book,
    Candle,
    DataRecord,
    IndexPrice,
    MarkPrice,
    Native,
    Order,
    Position,
    Row,
    Ticker,
    Trade,
)
from . import Decoder, integer, needed, rows, text, writable
from .okex_v1_names import Parts

Data = dict[str, Any]

_DAY = 86_400_000
_UTC8 = 8 * 3_600_000
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)", re.ASCII)
_GROUPED = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?", re.ASCII)


def decoder(parts: Parts | None, sub: Subscription, venue: str) -> Decoder:
    """Return what reads messages of the channel that `parts` describes; None is any other channel."""
    return _native(sub, venue) if parts is None else _DECODERS[parts.kind](parts, sub, venue)


def near(clock: Any, recv: int) -> int:
    """Return the ms since the epoch at which clocks in UTC+8 showed `clock` (HH:MM:SS) nearest to `recv` (ns)."""
    match = _CLOCK.fullmatch(needed(clock))
    if not match:
        raise ValueError(f"{clock!r} is not a time of day")
    hours, minutes, seconds = map(int, match.groups())
    now = recv // 1_000_000 + _UTC8
    behind = now % _DAY - ((hours * 60 + minutes) * 60 + seconds) * 1000
    if behind > _DAY // 2:
        behind -= _DAY
    elif behind < -_DAY // 2:
        behind += _DAY
    return now - behind - _UTC8


def _plain(value: Any) -> str | None:
    """Return text without the commas that once grouped its digits: 49,020.30 becomes 49020.30."""
    plain = text(value)
    return plain.replace(",", "") if plain and _GROUPED.fullmatch(plain) else plain


def _nested(data: Any) -> list[Any]:
    """Return `data` as a list of rows; single rows sometimes came without the outer array."""
    if type(data) is not list:
        raise TypeError("data is not an array")
    return data if not data or type(data[0]) is list else [data]


def _ticker(parts: Parts, sub: Subscription, venue: str) -> Decoder:
    def decode(message: Data, recv: int) -> list[DataRecord]:
        row = message["data"]
        return [
            Ticker(
                venue, sub.channel, parts.inst, integer(row.get("timestamp")), recv, _plain(row["last"]), None,
                _plain(row["buy"]), None, _plain(row["sell"]), None, _plain(row.get("open")),
                _plain(row.get("high")), _plain(row.get("low")), _plain(row["vol"]), None, None, None,
            )
        ]  # fmt: skip

    return decode


_TAKER = {"bid": "buy", "ask": "sell"}


def _trades(parts: Parts, sub: Subscription, venue: str) -> Decoder:
    def decode(message: Data, recv: int) -> list[DataRecord]:
        return [
            Trade(
                venue, sub.channel, parts.inst, near(row[3], recv), recv, needed(row[0]), needed(row[1]),
                needed(row[2]), _TAKER[row[4]], None,
            )
            for row in _nested(message["data"])
        ]  # fmt: skip

    return decode


def _best_first(levels: list[Row], best: Callable[[Decimal, Decimal], Decimal]) -> list[Row]:
    """Reverse `levels` where they come with the best last; other disorder is the exchange's and stays."""
    if len(levels) > 1:
        first, last = Decimal(levels[0][0]), Decimal(levels[-1][0])
        if best(first, last) != first:
            return levels[::-1]
    return levels


def _books(parts: Parts, sub: Subscription, venue: str) -> Decoder:
    action = "snapshot"

    def decode(message: Data, recv: int) -> list[DataRecord]:
        nonlocal action
        data = message["data"]
        if "asks" not in data and "bids" not in data:
            raise LookupError("neither asks nor bids")
        bids = _best_first(rows(data.get("bids")), max)
        asks = _best_first(rows(data.get("asks")), min)
        book = Book(
            venue, sub.channel, parts.inst, integer(data.get("timestamp")), recv, action, bids, asks, None, None
        )
        if parts.kind == "book":
            # Nothing in the messages says it: the first one after a subscribe is the whole book, the others change it.
            action = "update"
        return [book]

    return decode


def _candles(parts: Parts, sub: Subscription, venue: str) -> Decoder:
    def decode(message: Data, recv: int) -> list[DataRecord]:
        records: list[DataRecord] = []
        for row in _nested(message["data"]):
            ts, opened, high, low, close, volume, *rest = row
            (turnover,) = rest or (None,)
            records.append(
                Candle(
                    venue, sub.channel, parts.inst, integer(needed(ts)), recv, _plain(opened), _plain(high),
                    _plain(low), _plain(close), _plain(volume), _plain(turnover), None, None,
                )
            )  # fmt: skip
        return records

    return decode


def _index(parts: Parts, sub: Subscription, venue: str) -> Decoder:
    def decode(message: Data, recv: int) -> list[DataRecord]:
        row = message["data"]
        ts, price = integer(row.get("timestamp")), _plain(row["futureIndex"])
        return [IndexPrice(venue, sub.channel, parts.inst, ts, recv, price, None, None, None)]

    return decode


def _mark(parts: Parts, sub: Subscription, venue: str) -> Decoder:
    def decode(message: Data, recv: int) -> list[DataRecord]:
        data = message["data"]
        # The documentation misspells the time's key; what was on the wire is not known.
        return [
            MarkPrice(
                venue, sub.channel, parts.inst, integer(row.get("timestamp", row.get("timstamp"))), recv,
                _plain(row["mark_price"]),
            )
            for row in (data if isinstance(data, list) else [data])
        ]  # fmt: skip

    return decode


def _extra(row: Data, used: Iterable[str]) -> Data:
    extra: Data = writable({name: value for name, value in row.items() if name not in used})
    return extra


def _pair(symbol: Any) -> str:
    return needed(symbol).upper().replace("_", "-")


# Codes become the words that v5 uses; the codes themselves stay in `extra`.
_STATES = {"-1": "canceled", "0": "live", "1": "partially_filled", "2": "filled", "4": "canceling"}
_ENVELOPE = frozenset({"channel", "data", "binary"})
_ORDER_KEYS = frozenset(
    "symbol orderId tradeUnitPrice tradeAmount completedTradeAmount averagePrice sigTradePrice sigTradeAmount"
    " createdDate".split()
)


def _orders(parts: Parts, sub: Subscription, venue: str) -> Decoder:
    """Spot orders; `type` beside `data` says "balance" and means nothing."""

    def decode(message: Data, recv: int) -> list[DataRecord]:
        row = message["data"]
        status = needed(row["status"])
        side, _, market = needed(row["tradeType"]).partition("_")
        return [
            Order(
                venue, sub.channel, _pair(row["symbol"]), sub.account or "", None, recv, needed(row["orderId"]), None,
                side, None, market or "limit", text(row["tradeUnitPrice"]), text(row["tradeAmount"]),
                _STATES.get(status, status), text(row["completedTradeAmount"]), text(row.get("averagePrice")), None,
                text(row.get("sigTradePrice")), text(row.get("sigTradeAmount")), None, None, None,
                integer(row.get("createdDate")), _extra({**_outside(message), **row}, _ORDER_KEYS),
            )
        ]  # fmt: skip

    return decode


def _outside(message: Data) -> Data:
    return {name: value for name, value in message.items() if name not in _ENVELOPE}


def _balances(parts: Parts, sub: Subscription, venue: str) -> Decoder:
    """Spot balances: one record for each currency that is named, which are those that changed."""

    def decode(message: Data, recv: int) -> list[DataRecord]:
        data = message["data"]
        info = data["info"]
        free, frozen = info["free"], info.get("freezed", {})
        rest = {**_outside(message), **data, **info}
        return [
            Balance(
                venue, sub.channel, parts.inst, sub.account or "", None, recv, needed(currency).upper(), None, None,
                text(free.get(currency)), text(frozen.get(currency)), None, None, None,
                _extra(rest, {"info", "free", "freezed"}),
            )
            for currency in {**free, **frozen}
        ]  # fmt: skip

    return decode


_SIDES = {"1": ("buy", "long"), "2": ("sell", "short"), "3": ("sell", "long"), "4": ("buy", "short")}
_COIN = re.compile(r"[A-Z]+")
_CONTRACT_ORDER_KEYS = frozenset("orderid price amount deal_amount price_avg fee create_date".split())


def _contract_orders(parts: Parts, sub: Subscription, venue: str) -> Decoder:
    def one(row: Data, recv: int) -> DataRecord:
        side, position_side = _SIDES[row["type"]]
        status = needed(row["status"])
        coin = _COIN.match(needed(row["contract_name"]))  # LTC0928
        contract = needed(row["contract_type"]).replace("_", "-")
        return Order(
            venue, sub.channel, f"{coin[0]}-USD-{contract}".upper() if coin else None, sub.account or "", None, recv,
            needed(row["orderid"]), None, side, position_side, None, text(row["price"]), text(row["amount"]),
            _STATES.get(status, status), text(row["deal_amount"]), text(row.get("price_avg")), None, None, None, None,
            text(row.get("fee")), None, integer(row.get("create_date")), _extra(row, _CONTRACT_ORDER_KEYS),
        )  # fmt: skip

    return _each(one)


def _contract_balances(parts: Parts, sub: Subscription, venue: str) -> Decoder:
    """The account of one coin; `contracts`, of accounts with a margin for each contract, goes to `extra`."""

    def one(row: Data, recv: int) -> DataRecord:
        coin, _, _ = _pair(row["symbol"]).partition("-")
        return Balance(
            venue, sub.channel, None, sub.account or "", None, recv, needed(coin), None, text(row["balance"]), None,
            None, None, None, None, _extra(row, {"balance"}),
        )  # fmt: skip

    return _each(one)


def _each(build: Callable[[Data, int], DataRecord]) -> Decoder:
    def decode(message: Data, recv: int) -> list[DataRecord]:
        data = message["data"]
        return [build({**_outside(message), **row}, recv) for row in (data if isinstance(data, list) else [data])]

    return decode


_HELD = {"1": "long", "2": "short", None: None}
_POSITION_KEYS = frozenset(
    "position_id position hold_amount eveningup avgprice lever_rate forcedprice positions".split()
)


def _contract(pair: str, row: Data) -> str | None:
    """Return the contract's dated name, as in v3, where its id (20180928...) and name (LTC0928) tell one date."""
    day, name = text(row.get("contract_id")) or "", text(row.get("contract_name")) or ""
    try:
        date(int(day[:4]), int(day[4:6]), int(day[6:8]))
    except ValueError:
        return None
    return f"{pair}-{day[2:8]}" if name.endswith(day[4:8]) else None


def _positions(parts: Parts, sub: Subscription, venue: str) -> Decoder:
    """Each message lists all that is held of one coin: one record for each side, or leverage where it may differ."""

    def decode(message: Data, recv: int) -> list[DataRecord]:
        data = {**_outside(message), **message["data"]}
        pair = _pair(data["symbol"])
        coin, _, _ = pair.partition("-")
        # Nothing held is news too: one record without side and size.
        return [
            Position(
                venue, sub.channel, _contract(pair, row), sub.account or "", None, recv,
                text(row.get("position_id")), _HELD[row["position"]], text(row.get("hold_amount")),
                text(row.get("eveningup")), text(row.get("avgprice")), None, None, text(row.get("lever_rate")),
                None if not row["position"] else "fixed" if "fixmargin" in row else "crossed",
                text(row.get("forcedprice")), coin, "snapshot", None, None, _extra({**data, **row}, _POSITION_KEYS),
            )
            for row in data["positions"] or [{"position": None}]
        ]  # fmt: skip

    return decode


def _native(sub: Subscription, venue: str) -> Decoder:
    def decode(message: Data, recv: int) -> list[DataRecord]:
        data = message.get("data")
        ts = data.get("timestamp") if isinstance(data, dict) else message.get("timestamp")
        return [Native(venue, sub.channel, None, sub.account, integer(ts), recv, writable(message))]

    return decode


_DECODERS: Mapping[str, Callable[[Parts, Subscription, str], Decoder]] = {
    "ticker": _ticker,
    "trades": _trades,
    "book": _books,
    "levels": _books,
    "candle": _candles,
    "index": _index,
    "mark": _mark,
    "order": _orders,
    "balance": _balances,
    "contract-order": _contract_orders,
    "contract-balance": _contract_balances,
    "contract-position": _positions,
}
