"""
OKEx and OKCoin v3 (2018 to 2022): JSON in one raw-Deflate stream a binary frame, `table` and `data`.

    -> {"op":"subscribe","args":["spot/ticker:BTC-USDT"]}
    <- {"event":"subscribe","channel":"spot/ticker:BTC-USDT"}
    <- {"table":"spot/ticker","data":[{"last":"9341.2","instrument_id":"BTC-USDT","timestamp":"2020-07-24T09:41:05.316Z",...}]}

One acknowledgement comes for each argument, and the argument's text is the key of the subscription. Which business
an instrument belongs to (spot, futures, swap, option) is told from its spelling; `business=` says it where there is
no instrument: `orders:business=option,underlying=BTC-USD`.

Source: the archived documentation of the time (June 2020), and recorded frames of 2019 to 2021.
This file asks and reads replies; okex_v3_rows.py reads the rows of data.
"""  # noqa: E501

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from ..book import COMPILED
from ..channels import Subscription, no_channel
from ..errors import ConfigError, DecodeError
from ..freshness import Pace
from . import (
    Ack,
    Decoder,
    LoginReply,
    Message,
    Op,
    Other,
    Pong,
    Push,
    Refusal,
    Traits,
    exact,
    guard,
    okex_v3_rows,
    parsed,
    with_key,
)
from .companions import companion
from .signing import Credentials, hmac_sha256

if COMPILED:
    from .. import _compiled

NAME = "okex-v3"

_BARS = {
    "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800, "1H": 3600, "2H": 7200, "4H": 14400, "6H": 21600,
    "12H": 43200, "1D": 86400, "1W": 604800,
}  # fmt: skip

CHANNELS: Mapping[str, str] = MappingProxyType(
    {
        "ticker": "ticker",
        "trades": "trade",
        "book": "depth",
        "book5": "depth5",
        "book-l2-tbt": "depth_l2_tbt",
        "funding": "funding_rate",
        "mark-price": "mark_price",
        "index-price": "index/ticker",
        "instruments": "instruments",
        "orders": "order",
        "account": "account",
        "positions": "position",
    }
    | {f"candle-{bar}": f"candle{seconds}s" for bar, seconds in _BARS.items()}
)

_BUSINESSES = ("spot", "futures", "swap", "option")
_OFFERED: Mapping[str, tuple[str, ...]] = {
    "funding": ("swap",),
    "mark-price": ("futures", "swap"),
    "instruments": ("futures", "option"),
    "account": (*_BUSINESSES, "margin"),
    "positions": ("futures", "swap", "option"),
}
# What a table is filtered by where that is not an instrument; None where it is not filtered at all.
_FILTERS: Mapping[tuple[str, str], str | None] = {
    ("instruments", "futures"): None,
    ("instruments", "option"): "underlying",
    ("orders", "option"): "underlying",
    ("positions", "option"): "underlying",
    ("account", "spot"): "currency",
    ("account", "futures"): "underlying",
    ("account", "option"): "underlying",
}
_EXAMPLES = {
    "funding": "funding:BTC-USD-SWAP",
    "mark-price": "mark-price:BTC-USD-SWAP",
    "index-price": "index-price:BTC-USD",
    "instruments": "instruments:business=futures or instruments:business=option,underlying=BTC-USD",
    "orders": "orders:BTC-USDT or orders:business=option,underlying=BTC-USD",
    "account": "account:business=spot,currency=BTC or account:business=futures,underlying=BTC-USD or"
    " account:business=margin,BTC-USDT or account:BTC-USD-SWAP",
    "positions": "positions:BTC-USD-SWAP or positions:business=option,underlying=BTC-USD",
}

_SPELLINGS = (
    ("swap", re.compile(r"\w+-\w+-SWAP")),
    ("option", re.compile(r"\w+-\w+-\d{6}-[\d.]+-[CP]")),
    ("futures", re.compile(r"\w+-\w+-\d{6}")),
    ("spot", re.compile(r"\w+-\w+")),
)

_NATIVE = (
    "futures/estimated_price", "futures/price_range", "swap/price_range", "option/summary", "system/status",
    "spot/order_algo", "futures/order_algo", "swap/order_algo", "index/candle60s", "swap/liquidation",
)  # fmt: skip
_OWN = re.compile(r"[a-z]+/[a-z0-9_]+")
_USER = re.compile(r"\w+/(order(_algo)?|position|(margin_)?account)")
_PUSHED_FIRST = frozenset({"ticker", "trades", "book", "book5", "book-l2-tbt"})

# Cadences of the documentation of the time; only these two come whatever happens.
_PACES: Mapping[str, Pace] = MappingProxyType(
    dict.fromkeys(("ticker", "trades", "book", "book5", "book-l2-tbt", "index-price"), Pace())
    | {"candle": Pace(0.5), "mark-price": Pace(0.2, due=60.0), "funding": Pace(60.0, due=60.0)}
)


def _business(inst: str) -> str | None:
    return next((business for business, spelling in _SPELLINGS if spelling.fullmatch(inst)), None)


def _split(sub: Subscription) -> tuple[str, str | None]:
    """Return the exchange's table and its filter."""
    if sub.channel not in CHANNELS:
        return _own(sub)
    args = dict(sub.args)
    if sub.channel == "index-price":
        business, table, wanted = args.pop("business", "index"), "index/ticker", None
        offered: tuple[str, ...] = ("index",)
    else:
        business = args.pop("business", "") or (_business(sub.inst) if sub.inst else None) or ""
        table = "spot/margin_account" if business == "margin" else f"{business}/{CHANNELS[sub.channel]}"
        offered = _OFFERED.get(sub.channel, _BUSINESSES)
        wanted = _FILTERS.get((sub.channel, business), "instrument")
    example = _EXAMPLES.get(sub.channel, f"{sub.channel}:BTC-USDT")
    if business not in offered:
        kinds = " or ".join(offered)
        raise ConfigError(f"{sub.channel} of {NAME} wants something of {kinds}; write {example}")
    if sub.channel == "index-price" or wanted == "instrument":
        value = sub.inst
        wanted = "an instrument"
    else:
        if sub.inst is not None:
            raise ConfigError(f"{sub.channel} of {business} takes no instrument in {NAME}; write {example}")
        value = _filter(wanted, business, args)
    if value is None and wanted is not None:
        raise ConfigError(f"{sub.channel} of {business} wants {wanted} in {NAME}; write {example}")
    if args:
        raise ConfigError(f"{sub.channel} of {NAME} has no argument {', '.join(args)}; write {example}")
    return table, value


def _filter(wanted: str | None, business: str, args: dict[str, str]) -> str | None:
    """Take the filter's value out of `args`."""
    if wanted is None:
        return None
    value = args.pop(wanted, None)
    if business == "futures":
        # Coin-margined futures accounts go by their coin, the others by their underlying.
        value = args.pop("currency", None) if value is None else value.removesuffix("-USD")
    return value


def _own(sub: Subscription) -> tuple[str, str | None]:
    """Take a channel by the exchange's own name; the filter is an instrument, or the value of one argument."""
    name = sub.channel
    for ours in CHANNELS:
        if name == CHANNELS[ours] or (name.partition("/")[2] == CHANNELS[ours] and not name.startswith("index/")):
            raise ConfigError(f"channel {name!r} is called {ours!r} here, in every dialect")
    if name == "spot/margin_account":
        raise ConfigError("channel 'spot/margin_account' is written account:business=margin,BTC-USDT")
    if not _OWN.fullmatch(name):
        raise no_channel(NAME, name, CHANNELS, _NATIVE)
    values = [value for _, value in sub.args] + ([sub.inst] if sub.inst is not None else [])
    if len(values) > 1:
        raise ConfigError(f"{sub} has several filters, {NAME} takes one: {name}:{values[-1]}")
    return name, values[0] if values else None


def _arg(sub: Subscription) -> str:
    table, value = _split(sub)
    return table if value is None else f"{table}:{value}"


def traits(sub: Subscription) -> Traits:
    table, _ = _split(sub)
    user = _USER.fullmatch(table) is not None
    return Traits(
        key=_arg(sub),
        path="main",
        login=user,
        # The recordings show it for these; for the others an acknowledgement has to do.
        first_push=sub.channel in _PUSHED_FIRST,
        cached=sub.channel == "trades",
        incremental=sub.channel in {"book", "book-l2-tbt"},
        checksums=sub.channel in {"book", "book-l2-tbt"},
        pace=_PACES.get("candle" if sub.channel.startswith("candle-") else sub.channel),
        canary=companion(sub) if user else None,
    )


def subscription(key: str) -> Subscription | None:
    table, _, value = key.partition(":")
    filters: list[tuple[str | None, tuple[tuple[str, str], ...]]] = [(value or None, ()), (None, ())]
    if value:
        filters += [(None, ((name, value),)) for name in ("currency", "underlying")]
    business = ("business", table.partition("/")[0])
    candidates = (
        Subscription(channel, inst, (*more, *args))
        for channel in (*CHANNELS, table) for inst, args in filters for more in ((), (business,))
    )  # fmt: skip
    return with_key(key, candidates, traits)


def decoder(sub: Subscription, venue: str) -> Decoder:
    table, _ = _split(sub)
    if sub.channel in CHANNELS:
        decode = okex_v3_rows.decoder(table, sub, venue)
    else:
        decode = okex_v3_rows.native(sub, venue)
    return guard(decode, f"{sub.channel} of {NAME}")


def login(credentials: Credentials, wall_ms: int) -> bytes:
    if not credentials.passphrase:
        raise ConfigError(f"{NAME} wants a passphrase with the key and the secret")
    timestamp = f"{wall_ms // 1000}.{wall_ms % 1000:03d}"
    sign = hmac_sha256(credentials.secret, timestamp)
    return orjson.dumps({"op": "login", "args": [credentials.key, credentials.passphrase, timestamp, sign]})


def request(op: Op, subs: Sequence[Subscription], request: str) -> bytes:
    return orjson.dumps({"op": op, "args": [_arg(sub) for sub in subs]})


def size(sub: Subscription) -> int:
    return len(orjson.dumps(_arg(sub))) + 1


def ping() -> bytes:
    return b"ping"


# What messages of these tables begin with: of them the decoders look at every value that they pass on.
_PUBLIC = frozenset(
    f'{{"table":"{business}/{name}'.encode()
    for business in (*_BUSINESSES, "index")
    for name in (
        "ticker", "trade", "depth", "depth5", "depth_l2_tbt", "mark_price", "funding_rate",
        *(f"candle{seconds}s" for seconds in _BARS.values()),
    )
)  # fmt: skip
_INST = b'"instrument_id":"'


def route(text: bytes) -> bytes | None:
    return _compiled.token(text, _PUBLIC, _INST) if COMPILED else _route(text)


def _route(text: bytes) -> bytes | None:
    start = text.rfind(_INST)
    # A message may hold rows of several instruments: only one name in the whole text settles it.
    if start < 0 or text.find(_INST) != start:
        return None
    head = text[: text.find(b'"', 10, 50)]
    if head not in _PUBLIC:
        return None
    start += len(_INST)
    inst = text[start : text.find(b'"', start)]
    return None if b"\\" in inst else head[10:] + b":" + inst


def payload(text: bytes) -> Any:
    # JSON numbers in place of text are the decoder's to find; what it refuses is read again by `read`. It cuts books.
    return text if text.find(b"/depth", 10, 24) > 0 else parsed(text, NAME)


def read(text: bytes) -> list[Message]:
    if text == b"pong":
        return [Pong()]
    try:
        message = orjson.loads(text)
        if "table" in message:
            if not _textual(message["data"]):
                message = exact.loads(text)
            return _pushes(message)
        if "event" in message:
            return [_event(message)]
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DecodeError(f"not a message of {NAME}: {type(error).__name__}: {error}") from None
    raise DecodeError(f"not a message of {NAME}: neither event nor table")


def _textual(value: Any) -> bool:
    """Whether `value` holds no JSON number but the checksum of a book; before 2019-04-26 it might."""
    kind = type(value)
    if kind is dict:
        for name, item in value.items():
            if type(item) is not str and name != "checksum" and not _textual(item):
                return False
        return True
    if kind is list:
        try:
            for row in value:
                if type(row) is not list:
                    return all(map(_textual, value))
                "".join(row)  # levels of a book; raises TypeError unless all are text
            return True
        except TypeError:
            return all(map(_textual, value))
    return kind is not int and kind is not float


_UNFILTERED = frozenset({"futures/instruments", "system/status"})


def _key(table: str, row: Any) -> str:
    """Return the argument that this row of `table` was asked for with."""
    if table in _UNFILTERED:
        return table
    if not isinstance(row, dict):
        raise TypeError("a row is not an object")
    if table.startswith("option/") and table in okex_v3_rows.BY_UNDERLYING:
        # Positions name the instrument alone: BTC-USD-190927-12500-C.
        value = row.get("underlying") or "-".join(row["instrument_id"].split("-")[:2])
    elif "instrument_id" in row:
        value = row["instrument_id"]
        if table == "spot/order_algo":  # which spells it ltc_usdt
            value = value.upper().replace("_", "-")
    elif table == "futures/account":
        (value,) = row
    else:
        value = row.get("underlying") or row.get("currency")
    if value is None:
        return table
    if type(value) is not str:
        raise TypeError("a row is named by something else than text")
    return f"{table}:{value}"


def _pushes(message: Any) -> list[Message]:
    table, data = message["table"], message["data"]
    if type(table) is not str or type(data) is not list:
        raise TypeError("table is not text or data is not an array")
    if table == "futures/account":  # {"BTC":{...}}, perhaps with a second one beside it
        data = [{name: held} for row in data for name, held in row.items()]
    elif len(data) == 1:
        return [Push(_key(table, data[0]), message)]
    by_key: dict[str, list[Any]] = {}
    for row in data:
        by_key.setdefault(_key(table, row), []).append(row)
    if not by_key:
        return [Other(f"{table} without rows", known=True)]
    return [Push(key, {**message, "data": found}) for key, found in by_key.items()]


_CLOCK = frozenset({"30005", "30008"})
_RETRY = frozenset({"30009", "30014", "30026", "30030", "30038", "30043"})
_LOGIN = frozenset({*map(str, range(30001, 30014)), "30015", "30027"})
_LOGGED_IN = "30042"
_NAMED = re.compile(r"Channel\s*:?\s*([a-z]+/\S+) doesn't exist", re.IGNORECASE)


def _event(message: Any) -> Message:
    if not isinstance(message, dict):
        raise TypeError("not an object")
    event = message["event"]
    if event in ("subscribe", "unsubscribe"):
        channel = message["channel"]
        if type(channel) is not str:
            raise TypeError("the channel is not text")
        return Ack(event, channel)
    if event == "login":
        return LoginReply(message.get("success") in (True, "true"))
    if event != "error":
        return Other(str(event))
    code = message.get("errorCode")
    code = None if code is None else str(code)
    text = str(message.get("message", ""))
    if code == _LOGGED_IN:
        return LoginReply(True, code, text)
    if code in _LOGIN:
        return LoginReply(False, code, text, clock=code in _CLOCK, retry=code in _RETRY)
    named = _NAMED.search(text)
    return Refusal(code, text, named[1] if named else None, retry=code in _RETRY)
