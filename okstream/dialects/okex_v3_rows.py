"""
The rows of OKEx v3 data as records; docs/records.md has the table of source keys.

    trade     {"side":"sell","trade_id":"4100","price":"9341.2","size":"0.51","instrument_id":"BTC-USDT",
               "timestamp":"2020-07-24T09:41:05.316Z"}                   futures and options say "qty" for "size"
    depth     {"instrument_id":"BTC-USDT","asks":[["9342","0.5","0","2"]],"bids":[],"checksum":-123,
               "timestamp":"2020-07-24T09:41:05.316Z"}                   with "action" beside "data"
    candle60s {"candle":["2020-07-24T09:41:00.000Z","9340","9345","9339","9341","12.5"],"instrument_id":"BTC-USDT"}

Numbers of before 2019-04-26, which were JSON numbers, arrive here as the text they were sent as.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from ..channels import Subscription
from ..records import (
    Balance,
    Book,
    Candle,
    DataRecord,
    Funding,
    IndexPrice,
    Instrument,
    MarkPrice,
    Native,
    Order,
    Position,
    Ticker,
    Trade,
)
from . import Decoder, hot, integer, needed, rows, text, writable

Row = dict[str, Any]

BY_UNDERLYING = frozenset({"option/instruments", "option/summary", "option/account", "option/position", "option/order"})
"""Tables that are filtered by underlying, though their rows name instruments."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_FRACTIONS = {f"{number:03d}": number for number in range(1000)}
_SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)(T\d\d:\d\d:\d\d(\.\d{1,6})?Z)?", re.ASCII)


@lru_cache(maxsize=1024)
def _whole(second: str) -> int:
    """Return the ms of `2020-07-24T09:41:05`; many messages share a second."""
    if not _SECOND.fullmatch(second):
        raise ValueError(f"{second!r} is not a time")
    return (datetime.fromisoformat(second + "+00:00") - _EPOCH) // _MS


def millis(value: Any) -> int | None:
    """Return ms since the epoch of `2020-07-24T09:41:05.316Z`, None for what was left empty."""
    if type(value) is not str:
        if value is None:
            return None
        raise TypeError(f"{value!r} is not a time")
    if len(value) == 24 and value[19] == "." and value[23] == "Z":
        fraction = _FRACTIONS.get(value[20:23])
        if fraction is not None:
            return _whole(value[:19]) + fraction
    if not value:
        return None
    # Listings may be a day without a time, which is taken as its beginning in UTC.
    if not _INSTANT.fullmatch(value):
        raise ValueError(f"{value!r} is not a time")
    return (datetime.fromisoformat(value).replace(tzinfo=UTC) - _EPOCH) // _MS


def decoder(table: str, sub: Subscription, venue: str) -> Decoder:
    """Return what reads messages of `table`, which has a normalised form."""
    name = table.partition("/")[2]
    if table == "index/ticker":
        build: Build = _index
    elif name.startswith("candle"):
        build = _candle
    elif name in _BOOKS:
        return _books(sub, venue)
    elif name == "instruments":
        return _instruments(table, sub, venue)
    elif table in _MANY:
        many = _MANY[table]
        return lambda message, recv: [
            record for row in message["data"] for record in many(row, sub, venue, recv)
        ]  # fmt: skip
    else:
        build = _ONE[name]
    return lambda message, recv: [build(row, sub, venue, recv) for row in message["data"]]


Build = Callable[[Row, Subscription, str, int], DataRecord]
Builds = Callable[[Row, Subscription, str, int], list[DataRecord]]


def _ticker(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    spot = "base_volume_24h" in row
    return Ticker(
        venue, sub.channel, needed(row["instrument_id"]), millis(row["timestamp"]), recv,
        text(row["last"]), text(row.get("last_qty")), text(row["best_bid"]), text(row.get("best_bid_size")),
        text(row["best_ask"]), text(row.get("best_ask_size")), text(row.get("open_24h")), text(row.get("high_24h")),
        text(row.get("low_24h")), text(row.get("base_volume_24h" if spot else "volume_24h")),
        text(row.get("quote_volume_24h" if spot else "volume_token_24h")),
        text(row.get("open_utc0")), text(row.get("open_utc8")),
    )  # fmt: skip


def _trade(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    return Trade(
        venue, sub.channel, needed(row["instrument_id"]), millis(row["timestamp"]), recv, needed(row["trade_id"]),
        needed(row["price"]), needed(row["size"] if "size" in row else row["qty"]), text(row["side"]), None,
    )  # fmt: skip


_BOOKS = frozenset({"depth", "depth5", "depth_l2_tbt"})
_ACTIONS = {"partial": "snapshot", "update": "update"}


_NAMES = hot.Names("timestamp", "instrument_id", None, None, "checksum")


@lru_cache(1024)
def _heads(text: bytes) -> str | None:
    try:
        return _ACTIONS[hot.head(text)["action"]]
    except (LookupError, TypeError, ValueError):
        return None


@lru_cache(1024)
def _whole_heads(text: bytes) -> str | None:
    try:
        hot.head(text)
    except ValueError:
        return None
    return "snapshot"


def _books(sub: Subscription, venue: str) -> Decoder:
    channel = sub.channel
    cut = hot.cutter(sub, venue, _NAMES, millis, _whole_heads if channel == "book5" else _heads)

    def decode(payload: Any, recv: int) -> list[DataRecord]:
        if type(payload) is bytes:
            if (book := cut(payload, recv)) is not None:
                return [book]
            payload = orjson.loads(payload)
        action = "snapshot" if channel == "book5" else _ACTIONS[payload["action"]]
        return [
            Book(
                venue, channel, needed(row["instrument_id"]), millis(row["timestamp"]), recv, action,
                rows(row["bids"]), rows(row["asks"]), None, None, integer(row.get("checksum")),
            )
            for row in payload["data"]
        ]  # fmt: skip

    return decode


def _candle(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    ts, opened, high, low, close, volume, *rest = row["candle"]
    (turnover,) = rest or (None,)
    return Candle(
        venue, sub.channel, needed(row["instrument_id"]), millis(needed(ts)), recv, text(opened), text(high),
        text(low), text(close), text(volume), text(turnover), None, None,
    )  # fmt: skip


def _funding(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    return Funding(
        venue, sub.channel, needed(row["instrument_id"]), None, recv, text(row["funding_rate"]),
        millis(row["funding_time"]), text(row.get("estimated_rate")), millis(row.get("settlement_time")),
        None, None, None, text(row.get("interest_rate")), None, None,
    )  # fmt: skip


def _mark(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    return MarkPrice(
        venue, sub.channel, needed(row["instrument_id"]), millis(row["timestamp"]), recv, text(row["mark_price"])
    )


def _index(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    return IndexPrice(
        venue, sub.channel, needed(row["instrument_id"]), millis(row["timestamp"]), recv,
        text(row["last"]), text(row.get("open_24h")), text(row.get("high_24h")), text(row.get("low_24h")),
    )  # fmt: skip


_INVERSE = {"true": "inverse", "false": "linear", True: "inverse", False: "linear"}


def _instruments(table: str, sub: Subscription, venue: str) -> Decoder:
    kind = table.partition("/")[0].upper()

    def decode(message: Row, recv: int) -> list[DataRecord]:
        # `data` of futures/instruments is an array of arrays.
        found = [row for item in message["data"] for row in (item if type(item) is list else [item])]
        return [
            Instrument(
                venue, sub.channel, needed(row["instrument_id"]), None, recv, kind, text(row.get("state")),
                text(row.get("base_currency")), text(row.get("quote_currency")), text(row.get("settlement_currency")),
                text(row.get("underlying")), text(row.get("contract_val")), text(row.get("contract_val_currency")),
                _INVERSE.get(row.get("is_inverse")), text(row.get("option_type")), text(row.get("strike")),
                text(row.get("tick_size")), text(row.get("lot_size", row.get("trade_increment"))), None,
                millis(row.get("listing")), millis(row.get("delivery")), None,
            )
            for row in found
        ]  # fmt: skip

    return decode


def _extra(row: Row, used: Iterable[str]) -> dict[str, Any]:
    extra: dict[str, Any] = writable({name: value for name, value in row.items() if name not in used})
    return extra


# Codes become the words that v5 uses; the codes themselves stay in `extra`.
_STATES = {
    "-2": "failed", "-1": "canceled", "0": "live", "1": "partially_filled", "2": "filled", "3": "submitting",
    "4": "canceling", "5": "amending", "failure": "failed", "cancelled": "canceled", "open": "live",
    "part_filled": "partially_filled", "ordering": "submitting", "canceling": "canceling",
}  # fmt: skip
_KINDS = {"1": "post_only", "2": "fok", "3": "ioc", "4": "market"}
_SIDES = {"1": ("buy", "long"), "2": ("sell", "short"), "3": ("sell", "long"), "4": ("buy", "short")}
_ORDER_KEYS = frozenset(
    "instrument_id order_id client_oid side price size filled_size filled_qty price_avg last_fill_id last_fill_px"
    " last_fill_qty last_fill_time fee fee_currency created_at timestamp".split()
)


def _order(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    state = text(row["state"] if "state" in row else row["status"])
    kind = text(row.get("type"))
    if "side" in row:
        side, position_side = text(row["side"]), None
    else:
        side, position_side = _SIDES[needed(kind)]
    plain = kind if kind in {"limit", "market"} else "limit"
    fill_ts = millis(row.get("last_fill_time"))
    # An order without a fill says so with the year 1970, and zeros for all else.
    fill = {name: None if fill_ts == 0 else text(row.get(f"last_fill_{name}")) for name in ("id", "px", "qty")}
    return Order(
        venue, sub.channel, needed(row["instrument_id"]), sub.account or "", millis(row["timestamp"]), recv,
        needed(row["order_id"]), text(row.get("client_oid")), side, position_side,
        _KINDS.get(row.get("order_type", ""), plain), text(row["price"]), text(row["size"]),
        _STATES.get(state or "", state), text(row["filled_size"] if "filled_size" in row else row["filled_qty"]),
        text(row.get("price_avg")), fill["id"], fill["px"], fill["qty"], fill_ts or None, text(row.get("fee")),
        text(row.get("fee_currency")), millis(row.get("created_at")), _extra(row, _ORDER_KEYS),
    )  # fmt: skip


_SPOT_KEYS = frozenset("currency balance available hold timestamp".split())


def _spot_account(row: Row, sub: Subscription, venue: str, recv: int) -> list[DataRecord]:
    return [
        Balance(
            venue, sub.channel, None, sub.account or "", millis(row.get("timestamp")), recv, needed(row["currency"]),
            None, text(row["balance"]), text(row["available"]), text(row.get("hold")), None, None, None,
            _extra(row, _SPOT_KEYS),
        )
    ]  # fmt: skip


_MARGIN_KEYS = frozenset("balance available hold".split())


def _margin_account(row: Row, sub: Subscription, venue: str, recv: int) -> list[DataRecord]:
    """Read one pair: `currency:USDT` and `currency:ETH` are objects, the rest speaks of the pair as a whole."""
    inst, account, ts = needed(row["instrument_id"]), sub.account or "", millis(row.get("timestamp"))
    currencies = {name: value for name, value in row.items() if name.startswith("currency:")}
    records: list[DataRecord] = [
        Balance(
            venue, sub.channel, inst, account, ts, recv, needed(name.removeprefix("currency:")), None,
            text(held["balance"]), text(held["available"]), text(held.get("hold")), None, None, None,
            _extra(held, _MARGIN_KEYS),
        )
        for name, held in currencies.items()
    ]  # fmt: skip
    extra = _extra(row, {*currencies, "instrument_id", "timestamp"})
    records.append(
        Balance(venue, sub.channel, inst, account, ts, recv, None, None, None, None, None, None, None, None, extra)
    )
    return records


_CONTRACT_KEYS = frozenset(
    "instrument_id currency equity total_avail_balance available available_qty margin_frozen timestamp".split()
)


def _contract_account(row: Row, sub: Subscription, venue: str, recv: int) -> list[DataRecord]:
    inst = text(row.get("instrument_id"))
    currency = text(row.get("currency"))
    if currency is None and inst is not None:
        base, quote, *_ = inst.split("-")
        currency = base if quote == "USD" else quote
    # Two names of one thing; where both came, the second must not be lost.
    used = _CONTRACT_KEYS - {"available_qty"} if "available" in row else _CONTRACT_KEYS
    return [
        Balance(
            venue, sub.channel, inst, sub.account or "", millis(row.get("timestamp")), recv, needed(currency),
            text(row["equity"]), text(row.get("total_avail_balance")),
            text(row.get("available", row.get("available_qty"))), text(row.get("margin_frozen")), None, None, None,
            _extra(row, used),
        )
    ]  # fmt: skip


def _futures_account(row: Row, sub: Subscription, venue: str, recv: int) -> list[DataRecord]:
    """Unwrap `{"BTC":{...}}`; a USDT-margined account goes by its underlying."""
    return [record for held in row.values() for record in _contract_account(held, sub, venue, recv)]


def _futures_position(row: Row, sub: Subscription, venue: str, recv: int) -> list[DataRecord]:
    """Part one row in its long and its short position; what is said of both stands in both."""
    inst, ts, mode = needed(row["instrument_id"]), millis(row["timestamp"]), text(row.get("margin_mode"))
    records: list[DataRecord] = []
    for side, other in (("long", "short_"), ("short", "long_")):
        used = {f"{side}_{name}" for name in ("qty", "avail_qty", "avg_cost", "unrealised_pnl")}
        fixed = f"{side}_leverage" in row
        leverage = f"{side}_leverage" if fixed else "leverage"
        liquidation = f"{side}_liqui_price" if fixed else "liquidation_price"
        used |= {"instrument_id", "timestamp", "margin_mode", leverage, liquidation}
        own = {name: value for name, value in row.items() if not name.startswith(other)}
        records.append(
            Position(
                venue, sub.channel, inst, sub.account or "", ts, recv, None, side, text(row[f"{side}_qty"]),
                text(row.get(f"{side}_avail_qty")), text(row.get(f"{side}_avg_cost")), None,
                text(row.get(f"{side}_unrealised_pnl")), text(row.get(leverage)), mode, text(row.get(liquidation)),
                None, None, None, None, _extra(own, used),
            )
        )  # fmt: skip
    return records


_HOLDING_KEYS = frozenset(
    "instrument_id side position avail_position avg_cost unrealized_pnl leverage margin_mode liquidation_price"
    " timestamp".split()
)


def _position(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    return Position(
        venue, sub.channel, needed(row["instrument_id"]), sub.account or "",
        millis(row.get("timestamp", row.get("updated_at"))), recv, None, text(row.get("side")),
        text(row["position"]), text(row.get("avail_position")), text(row.get("avg_cost")), None,
        text(row.get("unrealized_pnl")), text(row.get("leverage")), text(row.get("margin_mode")),
        text(row.get("liquidation_price")), None, None, None, None, _extra(row, _HOLDING_KEYS),
    )  # fmt: skip


def _swap_position(row: Row, sub: Subscription, venue: str, recv: int) -> list[DataRecord]:
    outer = {name: value for name, value in row.items() if name != "holding"}
    # Nothing held is news too: one record without side and size.
    return [_position({**outer, **held}, sub, venue, recv) for held in row["holding"] or [{"position": None}]]


def native(sub: Subscription, venue: str) -> Decoder:
    """Return what passes the messages of any other channel on, whole."""

    def decode(message: Row, recv: int) -> list[DataRecord]:
        data = message["data"]
        first = data[0] if len(data) == 1 and isinstance(data[0], dict) else {}
        inst = sub.inst or text(first.get("instrument_id"))
        ts = millis(first.get("timestamp"))
        return [Native(venue, sub.channel, inst, sub.account, ts, recv, writable(message))]

    return decode


_ONE: Mapping[str, Build] = {
    "ticker": _ticker,
    "trade": _trade,
    "mark_price": _mark,
    "funding_rate": _funding,
    "order": _order,
    "position": _position,
}
_MANY: Mapping[str, Builds] = {
    "spot/account": _spot_account,
    "spot/margin_account": _margin_account,
    "futures/account": _futures_account,
    "swap/account": _contract_account,
    "option/account": _contract_account,
    "futures/position": _futures_position,
    "swap/position": _swap_position,
}
