"""
The channel names of v1, whose parts say what they are: business, pair, kind, contract, depth, bar.

    ok_sub_spot_btc_usdt_deals      ok_sub_futureusd_btc_kline_this_week_1min      ok_sub_futureusd_positions
    ok_sub_spotusd_btc_trades       ok_btccny_trades_v1      ok_future_btcusd_kline_this_week_1min      (before 2017)

Contracts had no date but a place in the calendar: BTC-USD-THIS-WEEK, BTC-USD-NEXT-WEEK, BTC-USD-QUARTER.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..channels import Subscription, no_channel
from ..errors import ConfigError

_BARS = {
    "1m": "1min", "3m": "3min", "5m": "5min", "15m": "15min", "30m": "30min", "1H": "1hour", "2H": "2hour",
    "4H": "4hour", "6H": "6hour", "12H": "12hour", "1D": "day", "3D": "3day", "1W": "week",
}  # fmt: skip

_SPOT: Mapping[str, str] = {
    "ticker": "ok_sub_spot_{pair}_ticker",
    "trades": "ok_sub_spot_{pair}_deals",
    "book": "ok_sub_spot_{pair}_depth",
    "book5": "ok_sub_spot_{pair}_depth_5",
    "book10": "ok_sub_spot_{pair}_depth_10",
    "book20": "ok_sub_spot_{pair}_depth_20",
    "orders": "ok_sub_spot_{pair}_order",
    "account": "ok_sub_spot_{pair}_balance",
} | {f"candle-{bar}": f"ok_sub_spot_{{pair}}_kline_{own}" for bar, own in _BARS.items()}

_FUTURES: Mapping[str, str] = {
    "ticker": "ok_sub_futureusd_{coin}_ticker_{contract}",
    "trades": "ok_sub_futureusd_{coin}_trade_{contract}",
    "book": "ok_sub_futureusd_{coin}_depth_{contract}",
    "book5": "ok_sub_futureusd_{coin}_depth_{contract}_5",
    "book10": "ok_sub_futureusd_{coin}_depth_{contract}_10",
    "book20": "ok_sub_futureusd_{coin}_depth_{contract}_20",
    "mark-price": "ok_sub_futureusd_{coin}_markprice_{contract}",
} | {f"candle-{bar}": f"ok_sub_futureusd_{{coin}}_kline_{{contract}}_{own}" for bar, own in _BARS.items()}

_INDEX: Mapping[str, str] = {"index-price": "ok_sub_futureusd_{coin}_index"}

_ALL_FUTURES: Mapping[str, str] = {
    "orders": "ok_sub_futureusd_trades",
    "account": "ok_sub_futureusd_userinfo",
    "positions": "ok_sub_futureusd_positions",
}

CHANNELS: Mapping[str, str] = {**_ALL_FUTURES, **_INDEX, **_FUTURES, **_SPOT}
"""okstream's names with the exchange's own; both spellings of a channel exist where spot and futures differ."""

_EXAMPLES = {
    "orders": "orders:BTC-USDT or orders:business=futures",
    "account": "account:BTC-USDT or account:business=futures",
    "positions": "positions:business=futures",
    "mark-price": "mark-price:BTC-USD-THIS-WEEK",
    "index-price": "index-price:BTC-USD",
}
_CONTRACT = re.compile(r"(?P<coin>[A-Z0-9]+)-USD-(?P<contract>THIS-WEEK|NEXT-WEEK|QUARTER)")
_COIN = re.compile(r"(?P<coin>[A-Z0-9]+)-USD")
_PAIR = re.compile(r"(?P<pair>[A-Z0-9]+-[A-Z0-9]+)")
_OWN = re.compile(r"ok_\w+", re.ASCII)


def name(sub: Subscription) -> str:
    """
    Return the exchange's name of `sub`.

    Raises:
        ConfigError: there is no such channel, or it lacks an instrument.
    """
    if sub.channel not in CHANNELS:
        if not _OWN.fullmatch(sub.channel):
            error = no_channel("okex-v1", sub.channel, CHANNELS)
            raise ConfigError(f"{error}. Any other goes by the exchange's name, which begins with ok_")
        if sub.inst is not None or sub.args:
            raise ConfigError(f"{sub.channel} says all in its name; write it without {str(sub).partition(':')[2]}")
        return sub.channel
    example = _EXAMPLES.get(sub.channel, f"{sub.channel}:BTC-USDT or {sub.channel}:BTC-USD-THIS-WEEK")
    if sub.inst is None:
        whole = sub.args == (("business", "futures"),) or (sub.channel == "positions" and not sub.args)
        if whole and sub.channel in _ALL_FUTURES:
            return _ALL_FUTURES[sub.channel]
        raise ConfigError(f"{sub} does not say what of; write {example}")
    if sub.args:
        raise ConfigError(f"{sub.channel} takes nothing beside an instrument; write {example}")
    for spelling, names in ((_CONTRACT, _FUTURES), (_COIN, _INDEX), (_PAIR, _SPOT)):
        match = spelling.fullmatch(sub.inst)
        if match and sub.channel in names:
            words = {key: text.lower().replace("-", "_") for key, text in match.groupdict().items()}
            return names[sub.channel].format_map(words)
    raise ConfigError(f"{sub.channel} of {sub.inst!r} does not exist; write {example}")


def spellings(name: str) -> Iterator[Subscription]:
    """Yield what may have this name, those in okstream's words first."""
    known = parts(name)
    for channel in CHANNELS:
        if known is not None and known.inst is not None:
            yield Subscription(channel, known.inst)
        yield Subscription(channel, None, (("business", "futures"),))
    yield Subscription(name)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a name says. `kind` is one of KINDS; `inst` is None where the rows name the instrument."""

    kind: str
    inst: str | None


_WHAT = {
    "ticker": "ticker", "deals": "trades", "trade": "trades", "trades": "trades", "trade_v1": "trades",
    "trades_v1": "trades", "kline": "candle", "depth": "book", "index": "index", "markprice": "mark",
    "order": "order", "balance": "balance",
}  # fmt: skip
USER = frozenset({"order", "balance", "contract-order", "contract-balance", "contract-position"})
"""Kinds of the channels that need a login."""

_WHOLE = (
    (re.compile(r"ok_sub_futureusd_trades|ok_usd_future_realtrades"), "contract-order"),
    (re.compile(r"ok_sub_futureusd_userinfo"), "contract-balance"),
    (re.compile(r"ok_sub_futureusd_positions"), "contract-position"),
    (re.compile(r"ok_(usd|cny)_realtrades|ok_sub_spot(usd|cny)_trades"), "order"),
    (re.compile(r"ok_sub_spot(usd|cny)_userinfo"), "balance"),
)
_COIN_PART, _LEVELS, _BAR = r"(?P<base>[a-z0-9]+)", r"(?P<levels>\d+)", r"\d*(min|hour|day|week)"
_WEEK = r"(?P<contract>this_week|next_week|quarter)"
_NAMES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"ok_sub_spot_{_COIN_PART}_(?P<quote>[a-z0-9]+)_(?P<what>ticker|deals|order|balance|depth)",
        rf"ok_sub_spot_{_COIN_PART}_(?P<quote>[a-z0-9]+)_(?P<what>depth)_{_LEVELS}",
        rf"ok_sub_spot_{_COIN_PART}_(?P<quote>[a-z0-9]+)_(?P<what>kline)_{_BAR}",
        rf"ok_sub_future(?P<quote>usd)_{_COIN_PART}_(?P<what>index)",
        rf"ok_sub_future(?P<quote>usd)_{_COIN_PART}_(?P<what>ticker|trade|markprice|depth)_{_WEEK}",
        rf"ok_sub_future(?P<quote>usd)_{_COIN_PART}_(?P<what>depth)_{_WEEK}_{_LEVELS}",
        rf"ok_sub_future(?P<quote>usd)_{_COIN_PART}_(?P<what>kline)_{_WEEK}_{_BAR}",
        # 2015 to 2017
        rf"ok_sub_spot(?P<quote>usd|cny)_{_COIN_PART}_(?P<what>ticker|trades|depth)",
        rf"ok_sub_spot(?P<quote>usd|cny)_{_COIN_PART}_(?P<what>depth)_{_LEVELS}",
        rf"ok_sub_spot(?P<quote>usd|cny)_{_COIN_PART}_(?P<what>kline)_{_BAR}",
        # before 2015; books were whole each time
        rf"ok_{_COIN_PART}(?P<quote>usd|cny)_(?P<what>ticker|trades|trades_v1)",
        rf"ok_{_COIN_PART}(?P<quote>usd|cny)_(?P<what>depth)(?P<levels>\d*)",
        rf"ok_{_COIN_PART}(?P<quote>usd|cny)_(?P<what>kline)_{_BAR}",
        rf"ok_{_COIN_PART}(?P<quote>usd)_future_(?P<what>index)",
        rf"ok_{_COIN_PART}(?P<quote>usd)_future_(?P<what>ticker|trade|trade_v1)_{_WEEK}",
        rf"ok_{_COIN_PART}(?P<quote>usd)_future_(?P<what>depth)_{_WEEK}(_(?P<levels>\d+))?",
        rf"ok_future_{_COIN_PART}(?P<quote>usd)_(?P<what>kline)_{_WEEK}_{_BAR}",
    )
)


def parts(name: str) -> Parts | None:
    """Take `name` apart; None for one without a normalised form."""
    for spelling, kind in _WHOLE:
        if spelling.fullmatch(name):
            return Parts(kind, None)
    for pattern in _NAMES:
        match = pattern.fullmatch(name)
        if match:
            found = match.groupdict()
            kind = _WHAT[found["what"]]
            if kind == "book" and found.get("levels") is not None:
                kind = "levels"
            inst = f"{found['base']}-{found['quote']}"
            if "contract" in found:
                inst += f"-{found['contract'].replace('_', '-')}"
            return Parts(kind, inst.upper())
    return None
