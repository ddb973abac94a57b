"""
The rows of OKX v5 data as records; docs/records.md has the table of source keys.

    trades        {"instId":"BTC-USDT","tradeId":"130639474","px":"42219.9","sz":"0.12060306","side":"buy",
                   "ts":"1630048897897","count":"3","source":"0","seqId":1234}
    books         {"asks":[["8476.98","415","0","13"]],"bids":[],"ts":"1597026383085","checksum":0,
                   "prevSeqId":123456,"seqId":123457}                       with "action" beside "data"
    candle1m      ["1597026383085","8533.02","8553.74","8527.17","8548.26","45247","529.58","5529.58","0"]
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from ..channels import Subscription
from ..records import (
    Balance,
    Book,
    Candle,
    DataRecord,
    Fill,
    Funding,
    IndexPrice,
    Instrument,
    Liquidation,
    MarkPrice,
    Native,
    OpenInterest,
    Order,
    Position,
    Ticker,
    Trade,
)
from . import Decoder, hot, integer, needed, rows, text, writable

Row = dict[str, Any]


def decoder(own: str, sub: Subscription, venue: str) -> Decoder:
    """Return what reads messages of a normalised channel, which the exchange calls `own`."""
    return _candles(sub, venue) if own.startswith("candle") else _DECODERS[own](sub, venue)


def _tickers(sub: Subscription, venue: str) -> Decoder:
    channel = sub.channel

    def decode(message: Row, recv: int) -> list[DataRecord]:
        return [
            Ticker(
                venue, channel, needed(row["instId"]), integer(row["ts"]), recv,
                text(row["last"]), text(row["lastSz"]), text(row["bidPx"]), text(row["bidSz"]),
                text(row["askPx"]), text(row["askSz"]), text(row["open24h"]), text(row["high24h"]),
                text(row["low24h"]), text(row["vol24h"]), text(row["volCcy24h"]),
                text(row.get("sodUtc0")), text(row.get("sodUtc8")),
            )
            for row in message["data"]
        ]  # fmt: skip

    return decode


def _trades(sub: Subscription, venue: str) -> Decoder:
    channel = sub.channel

    def decode(message: Row, recv: int) -> list[DataRecord]:
        return [
            Trade(
                venue, channel, needed(row["instId"]), integer(row["ts"]), recv,
                needed(row["tradeId"]), needed(row["px"]), needed(row["sz"]), text(row["side"]),
                integer(row.get("count")), text(row.get("source")), integer(row.get("seqId")),
            )
            for row in message["data"]
        ]  # fmt: skip

    return decode


BOOKS = ("books", "books5", "bbo-tbt", "books-l2-tbt", "books50-l2-tbt", "books-rpi")
_NAMES = hot.Names("ts", None, "seqId", "prevSeqId", "checksum")


def _action(message: Any) -> str:
    action = message.get("action", "snapshot")
    if action != "update" and action != "snapshot":
        raise ValueError(f"action {action!r}")
    return str(action)


@lru_cache(1024)
def _heads(text: bytes) -> str | None:
    try:
        return _action(hot.head(text))
    except (AttributeError, ValueError):
        return None


def _books(sub: Subscription, venue: str) -> Decoder:
    channel, inst = sub.channel, sub.inst
    cut = hot.cutter(sub, venue, _NAMES, integer, _heads)

    def decode(payload: Any, recv: int) -> list[DataRecord]:
        if type(payload) is bytes:
            if (book := cut(payload, recv)) is not None:
                return [book]
            payload = orjson.loads(payload)
        action = _action(payload)
        return [
            Book(
                venue, channel, inst, integer(row["ts"]), recv, action, rows(row["bids"]), rows(row["asks"]),
                integer(row.get("seqId")), integer(row.get("prevSeqId")), integer(row.get("checksum")),
            )
            for row in payload["data"]
        ]  # fmt: skip

    return decode


_CONFIRM = {"0": False, "1": True, None: None}


def _candles(sub: Subscription, venue: str) -> Decoder:
    def decode(message: Row, recv: int) -> list[DataRecord]:
        records: list[DataRecord] = []
        for row in message["data"]:
            if type(row) is not list:
                raise TypeError(f"{row!r} is not a bar")
            # Rows of before 2022-10 end after the turnover.
            ts, opened, high, low, close, volume, turnover, *rest = row
            turnover_quote, confirm = rest or (None, None)
            records.append(
                Candle(
                    venue, sub.channel, sub.inst, integer(needed(ts)), recv, text(opened), text(high), text(low),
                    text(close), text(volume), text(turnover), text(turnover_quote), _CONFIRM[confirm],
                )
            )  # fmt: skip
        return records

    return decode


def _each(
    build: Callable[[Row, Subscription, str, int], DataRecord],
) -> Callable[[Subscription, str], Decoder]:
    """Make a decoder of channels with one record a row."""

    def make(sub: Subscription, venue: str) -> Decoder:
        return lambda message, recv: [build(row, sub, venue, recv) for row in message["data"]]

    return make


def _funding(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    return Funding(
        venue, sub.channel, needed(row["instId"]), integer(row.get("ts")), recv,
        text(row["fundingRate"]), integer(row["fundingTime"]),
        text(row.get("nextFundingRate")), integer(row.get("nextFundingTime")),
        text(row.get("minFundingRate")), text(row.get("maxFundingRate")),
        text(row.get("premium")), text(row.get("interestRate")),
        text(row.get("settFundingRate")), text(row.get("settState")),
    )  # fmt: skip


def _mark(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    return MarkPrice(venue, sub.channel, needed(row["instId"]), integer(row["ts"]), recv, text(row["markPx"]))


def _index(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    return IndexPrice(
        venue, sub.channel, needed(row["instId"]), integer(row["ts"]), recv,
        text(row["idxPx"]), text(row.get("open24h")), text(row.get("high24h")), text(row.get("low24h")),
    )  # fmt: skip


def _open_interest(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    return OpenInterest(
        venue, sub.channel, needed(row["instId"]), integer(row["ts"]), recv,
        text(row["oi"]), text(row.get("oiCcy")), text(row.get("oiUsd")),
    )  # fmt: skip


def _liquidations(sub: Subscription, venue: str) -> Decoder:
    def decode(message: Row, recv: int) -> list[DataRecord]:
        return [
            Liquidation(
                venue, sub.channel, needed(row["instId"]), integer(detail["ts"]), recv,
                text(detail["side"]), text(detail.get("posSide")), text(detail["bkPx"]), text(detail["sz"]),
                text(detail.get("bkLoss")), text(detail.get("ccy")),
            )
            for row in message["data"]
            for detail in row["details"]
        ]  # fmt: skip

    return decode


def _instrument(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    return Instrument(
        venue, sub.channel, needed(row["instId"]), None, recv,
        text(row["instType"]), text(row["state"]), text(row.get("baseCcy")), text(row.get("quoteCcy")),
        text(row.get("settleCcy")), text(row.get("instFamily")), text(row.get("ctVal")), text(row.get("ctValCcy")),
        text(row.get("ctType")), text(row.get("optType")), text(row.get("stk")), text(row.get("tickSz")),
        text(row.get("lotSz")), text(row.get("minSz")), integer(row.get("listTime")), integer(row.get("expTime")),
        integer(row.get("instIdCode")),
    )  # fmt: skip


def _extra(row: Row, used: Iterable[str]) -> dict[str, Any]:
    extra: dict[str, Any] = writable({name: value for name, value in row.items() if name not in used})
    return extra


_ORDER_KEYS = frozenset(
    "instId ordId clOrdId side posSide ordType px sz state accFillSz avgPx tradeId fillPx fillSz fillTime fee"
    " feeCcy cTime uTime".split()
)


def _order(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    return Order(
        venue, sub.channel, needed(row["instId"]), sub.account or "", integer(row["uTime"]), recv,
        needed(row["ordId"]), text(row.get("clOrdId")), text(row["side"]), text(row.get("posSide")),
        text(row["ordType"]), text(row["px"]), text(row["sz"]), text(row["state"]), text(row["accFillSz"]),
        text(row.get("avgPx")), text(row.get("tradeId")), text(row.get("fillPx")), text(row.get("fillSz")),
        integer(row.get("fillTime")), text(row.get("fee")), text(row.get("feeCcy")), integer(row.get("cTime")),
        _extra(row, _ORDER_KEYS),
    )  # fmt: skip


_FILL_KEYS = frozenset("instId fillSz fillPx side ts ordId clOrdId tradeId execType count".split())


def _fill(row: Row, sub: Subscription, venue: str, recv: int) -> DataRecord:
    return Fill(
        venue, sub.channel, needed(row["instId"]), sub.account or "", integer(row["ts"]), recv,
        needed(row["tradeId"]), needed(row["ordId"]), text(row.get("clOrdId")), text(row["side"]),
        text(row["fillPx"]), text(row["fillSz"]), text(row.get("execType")), integer(row.get("count")),
        _extra(row, _FILL_KEYS),
    )  # fmt: skip


_ACTIONS = {"snapshot": "snapshot", "event_update": "update", None: None}


def _paging(message: Row) -> tuple[str | None, int | None, bool | None]:
    """`eventType`, `curPage` and `lastPage`; the pages up to `lastPage` true are one full state."""
    last = message.get("lastPage")
    if last is not None and type(last) is not bool:
        raise TypeError("lastPage is not a boolean")
    return _ACTIONS[message.get("eventType")], integer(message.get("curPage")), last


_BALANCE_KEYS = frozenset("ccy eq cashBal availBal frozenBal uTime".split())
_ACCOUNT_KEYS = frozenset("totalEq availEq uTime details".split())


def _balances(sub: Subscription, venue: str) -> Decoder:
    account = sub.account or ""

    def decode(message: Row, recv: int) -> list[DataRecord]:
        action, page, last = _paging(message)
        records: list[DataRecord] = []
        for whole in message["data"]:
            records += [
                Balance(
                    venue, sub.channel, None, account, integer(row.get("uTime")), recv, needed(row["ccy"]),
                    text(row.get("eq")), text(row.get("cashBal")), text(row.get("availBal")),
                    text(row.get("frozenBal")), action, page, last, _extra(row, _BALANCE_KEYS),
                )
                for row in whole["details"]
            ]  # fmt: skip
            records.append(
                Balance(
                    venue, sub.channel, None, account, integer(whole.get("uTime")), recv, None,
                    text(whole.get("totalEq")), None, text(whole.get("availEq")), None, action, page, last,
                    _extra(whole, _ACCOUNT_KEYS),
                )
            )  # fmt: skip
        return records

    return decode


_POSITION_KEYS = frozenset("instId posId posSide pos availPos avgPx markPx upl lever mgnMode liqPx ccy uTime".split())


def _positions(sub: Subscription, venue: str) -> Decoder:
    account = sub.account or ""

    def decode(message: Row, recv: int) -> list[DataRecord]:
        action, page, last = _paging(message)
        return [
            Position(
                venue, sub.channel, needed(row["instId"]), account, integer(row.get("uTime")), recv,
                text(row.get("posId")), text(row.get("posSide")), text(row["pos"]), text(row.get("availPos")),
                text(row.get("avgPx")), text(row.get("markPx")), text(row.get("upl")), text(row.get("lever")),
                text(row.get("mgnMode")), text(row.get("liqPx")), text(row.get("ccy")), action, page, last,
                _extra(row, _POSITION_KEYS),
            )
            for row in message["data"]
        ]  # fmt: skip

    return decode


def native(sub: Subscription, venue: str) -> Decoder:
    """Return what passes the messages of any other channel on, whole."""

    def decode(message: Row, recv: int) -> list[DataRecord]:
        data = message["data"]
        first = data[0] if isinstance(data, list) and len(data) == 1 else None
        ts = first.get("ts") if isinstance(first, dict) else None
        inst = sub.inst
        if inst is None and isinstance(first, dict):
            inst = text(first.get("instId"))
        return [Native(venue, sub.channel, inst, sub.account, integer(ts), recv, writable(message))]

    return decode


_DECODERS: Mapping[str, Callable[[Subscription, str], Decoder]] = {
    "tickers": _tickers,
    "trades": _trades,
    "trades-all": _trades,
    **dict.fromkeys(BOOKS, _books),
    "funding-rate": _each(_funding),
    "mark-price": _each(_mark),
    "index-tickers": _each(_index),
    "open-interest": _each(_open_interest),
    "liquidation-orders": _liquidations,
    "instruments": _each(_instrument),
    "orders": _each(_order),
    "fills": _each(_fill),
    "account": _balances,
    "positions": _positions,
}
