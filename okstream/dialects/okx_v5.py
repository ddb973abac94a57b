"""
OKX v5, today's dialect: JSON text frames, `arg` and `data`.

    -> {"id":"7","op":"subscribe","args":[{"channel":"tickers","instId":"BTC-USDT"}]}
    <- {"id":"7","event":"subscribe","arg":{"channel":"tickers","instId":"BTC-USDT"},"connId":"accb8e21"}
    <- {"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","last":"63707.3",...}]}

Source: https://www.okx.com/docs-v5/en/ as of 2026-10, and recorded frames of 2022 to 2026.
This file asks and reads replies; okx_v5_rows.py reads the rows of data.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from ..channels import BARS, PUBLIC, USER, Subscription, no_channel
from ..errors import ConfigError, DecodeError
from ..freshness import Pace
from . import (
    Ack,
    Decoder,
    Dropped,
    LoginReply,
    Message,
    Notice,
    Op,
    Other,
    Pong,
    Push,
    Refusal,
    Traits,
    guard,
    okx_v5_rows,
    parsed,
    with_key,
)
from .signing import Credentials, hmac_sha256

NAME = "okx-v5"

_OWN = {
    "ticker": "tickers",
    "book": "books",
    "book5": "books5",
    "bbo": "bbo-tbt",
    "book-l2-tbt": "books-l2-tbt",
    "book50-l2-tbt": "books50-l2-tbt",
    "book-rpi": "books-rpi",
    "funding": "funding-rate",
    "index-price": "index-tickers",
    "liquidations": "liquidation-orders",
}
_LACKING = {"book10", "book20"}

CHANNELS: Mapping[str, str] = MappingProxyType(
    {name: _OWN.get(name, name) for name in (*PUBLIC, *USER) if name not in _LACKING}
    | {f"candle-{bar}": f"candle{bar}" for bar in BARS}
)

_BUSINESS = frozenset(
    "trades-all block-tickers public-block-trades public-struc-block-trades sprd-bbo-tbt sprd-books5"
    " sprd-books-l2-tbt sprd-public-trades sprd-tickers".split()
)
_BUSINESS_LOGIN = frozenset(
    "economic-calendar orders-algo algo-advance deposit-info withdrawal-info grid-orders-spot"
    " grid-orders-contract grid-positions grid-sub-orders algo-recurring-buy copytrading-lead-notification rfqs"
    " quotes struc-block-trades sprd-orders sprd-trades".split()
)
_PRIVATE = frozenset("account positions balance_and_position liquidation-warning account-greeks orders fills".split())
_PUBLIC_NATIVE = frozenset(
    "option-trades price-limit opt-summary estimated-price adl-warning call-auction-details"
    " event-contract-markets status".split()
)
_CANDLE = re.compile(rf"(mark-price-|index-|sprd-)?candle({'|'.join(BARS)})")
_NATIVE = _PUBLIC_NATIVE | _BUSINESS | _BUSINESS_LOGIN | _PRIVATE
_NORMALISED = frozenset(CHANNELS.values())
# Documented for tick-by-tick books on the public path, since 2026-04-07 with fee tier VIP4.
_PUBLIC_LOGIN = frozenset({"books-l2-tbt", "books50-l2-tbt"})
_DEEP = frozenset({"books", "books-l2-tbt", "books50-l2-tbt", "books-rpi", "sprd-books-l2-tbt"})
# Of one instrument on one connection: what is subscribed to later ends the other, or is itself not served.
_EXCLUDES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "books-l2-tbt": ("books", "books50-l2-tbt"),
        "books": ("books-l2-tbt",),
        "books50-l2-tbt": ("books-l2-tbt",),
    }
)
_PATHS = ("public", "private", "business")

_NEEDS_KIND = frozenset({"instruments", "liquidation-orders"})
_DEFAULT_ANY = frozenset({"orders", "positions"})
_SILENT = frozenset({"instruments", "liquidation-orders", "orders", "fills"})
_UNKEYED = frozenset({"uid", "extraParams"})

_QUIET_BOOK = Pace(due=60.0)
# Documented cadences; what REST is asked is in probing.py.
_PACES: Mapping[str, Pace] = MappingProxyType(
    {
        "tickers": Pace(asked=True),
        "trades": Pace(asked=True),
        "trades-all": Pace(asked=True),
        "books": Pace(due=60.0, asked=True),
        "books5": Pace(due=60.0, asked=True),
        "bbo-tbt": Pace(due=60.0, asked=True),
        "books-l2-tbt": Pace(due=60.0, asked=True),
        "books50-l2-tbt": _QUIET_BOOK,
        "books-rpi": _QUIET_BOOK,
        "candle": Pace(1.0, asked=True),
        "mark-price": Pace(0.2, due=10.0),
        "index-tickers": Pace(due=60.0),
        "funding-rate": Pace(60.0, due=90.0),
        "open-interest": Pace(3.0),
        "price-limit": Pace(0.2),
        "account": Pace(5.0, due=5.0),
        "positions": Pace(5.0),
    }
)


def _split(sub: Subscription) -> tuple[str, str]:
    """Return the exchange's own name of the channel and the path it rides on."""
    own = CHANNELS.get(sub.channel)
    if own is None:
        prefix, slash, rest = sub.channel.partition("/")
        if slash and prefix in _PATHS and rest:
            return rest, prefix
        own = sub.channel
        if own in _NORMALISED or not (own in _NATIVE or _CANDLE.fullmatch(own)):
            raise _no_channel(own)
    if own in _PRIVATE:
        return own, "private"
    if own in _BUSINESS or own in _BUSINESS_LOGIN or _CANDLE.fullmatch(own):
        return own, "business"
    return own, "public"


def _no_channel(name: str) -> ConfigError:
    for ours, own in CHANNELS.items():
        if own == name:
            return ConfigError(f"channel {name!r} is called {ours!r} here, in every dialect")
    error = no_channel(NAME, name, CHANNELS, _NATIVE)
    return ConfigError(
        f"{error}. The exchange's own go by their names; one newer than this okstream goes by its path: public/{name}"
    )


def _arg(sub: Subscription) -> dict[str, str]:
    own, _ = _split(sub)
    arg = {"channel": own}
    if own in _DEFAULT_ANY:
        arg["instType"] = "ANY"
    arg.update(sub.args)
    if sub.inst is not None:
        arg["instId"] = sub.inst
    return arg


def _key(arg: Mapping[str, Any]) -> str:
    if len(arg) == 2 and "instId" in arg:
        return f"{arg['channel']}:{arg['instId']}"
    rest = sorted((name, value) for name, value in arg.items() if name != "channel" and name not in _UNKEYED)
    if len(rest) == 1 and rest[0][0] == "instId":
        return f"{arg['channel']}:{rest[0][1]}"
    return ":".join([str(arg["channel"]), ",".join(f"{name}={value}" for name, value in rest)])


def traits(sub: Subscription) -> Traits:
    own, path = _split(sub)
    keys = {name for name, _ in sub.args}
    if sub.channel in CHANNELS:
        if own in _NEEDS_KIND and "instType" not in keys:
            raise ConfigError(f"{sub.channel} wants a kind of instrument: {sub.channel}:instType=SWAP")
        if own not in _NEEDS_KIND and own not in _PRIVATE and sub.inst is None:
            raise ConfigError(f"{sub.channel} wants an instrument: {sub.channel}:BTC-USDT")
    arg = _arg(sub)
    return Traits(
        key=_key(arg),
        path=path,
        login=path == "private" or own in _BUSINESS_LOGIN or own in _PUBLIC_LOGIN,
        first_push=sub.channel in CHANNELS and own not in _SILENT,
        cached=own in {"trades", "option-trades"},
        chained=own == "trades",
        incremental=own.startswith("books") and own != "books5",
        deep=own in _DEEP,
        excludes=tuple(_key({**arg, "channel": other}) for other in _EXCLUDES.get(own, ())),
        sequenced=own.startswith("books") and own != "books5",
        alternative="book" if own in _PUBLIC_LOGIN else None,
        stamp="pTime",
        pace=_pace(own, sub),
        canary=Subscription("account") if path == "private" else None,
    )


def subscription(key: str) -> Subscription | None:
    own, _, rest = key.partition(":")
    pairs = dict(item.split("=", 1) for item in rest.split(",") if "=" in item)
    inst = pairs.pop("instId", None) or (rest if rest and not pairs else None)
    args = tuple(sorted(pairs.items()))
    plain = tuple(pair for pair in args if pair != ("instType", "ANY"))
    channels = (*CHANNELS, own)
    return with_key(key, (Subscription(one, inst, kept) for one in channels for kept in (plain, args)), traits)


def _pace(own: str, sub: Subscription) -> Pace | None:
    if own == "account" and "updateInterval" in dict(sub.args).get("extraParams", ""):
        return None
    return _PACES.get("candle" if _CANDLE.fullmatch(own) and own.startswith("candle") else own)


def decoder(sub: Subscription, venue: str) -> Decoder:
    own = CHANNELS.get(sub.channel)
    decode = okx_v5_rows.decoder(own, sub, venue) if own else okx_v5_rows.native(sub, venue)
    return guard(decode, f"{sub.channel} of {NAME}")


def login(credentials: Credentials, wall_ms: int) -> bytes:
    if not credentials.passphrase:
        raise ConfigError(f"{NAME} wants a passphrase with the key and the secret")
    timestamp = str(wall_ms // 1000)
    arg = {
        "apiKey": credentials.key,
        "passphrase": credentials.passphrase,
        "timestamp": timestamp,
        "sign": hmac_sha256(credentials.secret, timestamp),
    }
    return orjson.dumps({"op": "login", "args": [arg]})


def request(op: Op, subs: Sequence[Subscription], request: str) -> bytes:
    return orjson.dumps({"id": request, "op": op, "args": [_arg(sub) for sub in subs]})


def size(sub: Subscription) -> int:
    return len(orjson.dumps(_arg(sub))) + 1


def ping() -> bytes:
    return b"ping"


def route(text: bytes) -> bytes | None:
    if not text.startswith(b'{"arg":'):
        return None
    end = text.find(b'"data":[')
    return text[:end] if end > 0 else None


_BOOKS = tuple(f'{{"arg":{{"channel":"{own}"'.encode() for own in okx_v5_rows.BOOKS)


def payload(text: bytes) -> Any:
    return text if text.startswith(_BOOKS) else parsed(text, NAME)  # books are cut by their decoder


def read(text: bytes) -> list[Message]:
    if text == b"pong":
        return [Pong()]
    try:
        message = orjson.loads(text)
        if "event" in message:
            return [_event(message)]
        if "data" in message:
            return [Push(_key(message["arg"]), message)]
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DecodeError(f"not a message of {NAME}: {type(error).__name__}: {error}") from None
    raise DecodeError(f"not a message of {NAME}: neither event nor data")


_RETRY = frozenset({"60014", "60023", "63999", "64007"})
_UNFIT = frozenset({"60011", "64003"})
_CLOCK = frozenset({"60004", "60006"})
_LOGIN = _CLOCK | {"60005", "60007", "60009", "60023", "60024", "60026", "60032", "63999"}


def _event(message: Any) -> Message:
    if not isinstance(message, dict):
        raise TypeError("not an object")
    event, code, text = message["event"], message.get("code"), str(message.get("msg", ""))
    code = None if code is None else str(code)
    request = message.get("id")
    if request is not None and not isinstance(request, str):
        raise TypeError("the id is not text")
    if event in ("subscribe", "unsubscribe"):
        return Ack(event, _key(message["arg"]), request)
    if event == "login":
        return LoginReply(code == "0", code, text)
    if event == "error":
        if code in _LOGIN:
            return LoginReply(False, code, text, clock=code in _CLOCK, retry=code in _RETRY)
        return Refusal(code, text, _named(text), request, retry=code in _RETRY, unfit=code in _UNFIT)
    if event == "notice":
        return Notice(code, text)
    if event == "channel-conn-count-error":
        channel = f"{message['channel']}:"
        count = message.get("connCount")
        return Dropped(f"{count} connections of this channel are open, no more are allowed",
                       lambda key: key.startswith(channel))  # fmt: skip
    return Other(str(event), known=event == "channel-conn-count")


_NAMED = re.compile(r"\b(channel|inst\w{1,20}|ccy|algoId|sprdId):\s*([^,\s]+)", re.IGNORECASE)
_EXCLUSIVE = re.compile(r"both (\S+) and books-l2-tbt for (\S+) is not")


def _named(text: str) -> str | None:
    """Find the argument that an error speaks of; it is in the text or nowhere."""
    if exclusive := _EXCLUSIVE.search(text):
        return f"{exclusive[1]}:{exclusive[2]}"
    named = dict(_NAMED.findall(text))
    return _key(named) if "channel" in named and len(named) > 1 else None
