"""
OKEx v1 (2016 to 2019) and OKCoin v1 (2014 to 2018): arrays of objects, in text or raw-Deflate frames.

    -> {"event":"addChannel","channel":"ok_sub_spot_btc_usdt_ticker"}
    <- [{"binary":0,"channel":"addChannel","data":{"result":true,"channel":"ok_sub_spot_btc_usdt_ticker"}}]
    <- [{"binary":0,"channel":"ok_sub_spot_btc_usdt_ticker","data":{"last":"9341.2","buy":"9341","sell":"9342",...}}]

The channel's name is the key of the subscription, and okex_v1_names.py the only place that takes names apart.
Every number is read as the text it was sent as: prices, ids and times come as JSON numbers or as text, by the year.

Source: the archived documentation of the time, and messages that users published.
This file asks and reads replies; okex_v1_rows.py reads the data.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from ..channels import Subscription
from ..errors import DecodeError
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
    needed,
    okex_v1_names,
    okex_v1_rows,
    text,
    with_key,
)
from .companions import companion
from .signing import Credentials, hmac_sha256, md5

NAME = "okex-v1"

CHANNELS: Mapping[str, str] = MappingProxyType(okex_v1_names.CHANNELS)


def traits(sub: Subscription) -> Traits:
    name = okex_v1_names.name(sub)
    parts = okex_v1_names.parts(name)
    kind = parts.kind if parts else ""
    user = kind in okex_v1_names.USER
    return Traits(
        key=name,
        path="main",
        login=user,
        # Documented for these: recent trades, and the whole book.
        first_push=kind in {"trades", "book", "levels"},
        cached=kind == "trades",
        incremental=kind == "book",
        pace=Pace() if kind in {"ticker", "trades", "book", "levels"} else None,
        canary=companion(sub) if user else None,
    )


def subscription(key: str) -> Subscription | None:
    return with_key(key, okex_v1_names.spellings(key), traits)


def decoder(sub: Subscription, venue: str) -> Decoder:
    parts = okex_v1_names.parts(okex_v1_names.name(sub))
    return guard(okex_v1_rows.decoder(parts, sub, venue), f"{sub.channel} of {NAME}")


def login(credentials: Credentials, wall_ms: int) -> bytes:
    parameters = {"api_key": credentials.key}
    if credentials.passphrase:
        # A key with a passphrase is one of v3, which v1 accepted in its last half year, signed as v3 does.
        timestamp = f"{wall_ms // 1000}.{wall_ms % 1000:03d}"
        sign = hmac_sha256(credentials.secret, timestamp)
        parameters |= {"timestamp": timestamp, "passphrase": credentials.passphrase, "sign": sign}
    else:
        parameters["sign"] = md5(credentials.secret, parameters)
    return orjson.dumps({"event": "login", "parameters": parameters})


_EVENTS: Mapping[Op, str] = {"subscribe": "addChannel", "unsubscribe": "removeChannel"}
_OPS: Mapping[str, Op] = {event: op for op, event in _EVENTS.items()}


def _ask(op: Op, sub: Subscription) -> dict[str, str]:
    return {"event": _EVENTS[op], "channel": okex_v1_names.name(sub)}


def request(op: Op, subs: Sequence[Subscription], request: str) -> bytes:
    asked = [_ask(op, sub) for sub in subs]
    return orjson.dumps(asked[0] if len(asked) == 1 else asked)


def size(sub: Subscription) -> int:
    return len(orjson.dumps(_ask("unsubscribe", sub))) + 1


def ping() -> bytes:
    return b'{"event":"ping"}'


_CHANNEL = b'"channel":"'
_REPLIES = (b'"result":', b'"success":', b'"error_code":', b'"errorcode":')


def route(text: bytes) -> bytes | None:
    start = text.find(_CHANNEL)
    # Several messages in one frame, and replies, take a full read.
    if start < 0 or not text.startswith(b"[{") or text.find(_CHANNEL, start + 1) >= 0:
        return None
    start += len(_CHANNEL)
    channel = text[start : text.find(b'"', start)]
    if b"\\" in channel or b'"data":' not in text or any(reply in text for reply in _REPLIES):
        return None
    return channel


def payload(text: bytes) -> Any:
    raise DecodeError(f"{NAME} gives no tokens")


def read(text: bytes) -> list[Message]:
    try:
        message = exact.loads(text)
        elements = message if isinstance(message, list) else [message]
        if not elements:
            return [Other("an empty array", known=True)]
        return [_element(element) for element in elements]
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DecodeError(f"not a message of {NAME}: {type(error).__name__}: {error}") from None


def _element(element: Any) -> Message:
    if not isinstance(element, dict):
        raise TypeError("not an object")
    if element.get("event") == "pong":
        return Pong()
    channel, data = element.get("channel"), element.get("data")
    if channel is not None and not isinstance(channel, str):
        raise TypeError("the channel is not text")
    answer: dict[str, Any] = data if isinstance(data, dict) else {}
    result = answer.get("result")
    refused = "result" in answer and not _true(result)
    op = _OPS.get(channel or "")
    if op:
        return _refusal(answer, text(answer.get("channel"))) if refused else Ack(op, needed(answer.get("channel")))
    if channel == "login":
        return LoginReply(_true(result), _code(answer), _message(answer), retry=_code(answer) in _RETRY)
    if refused:
        return _refusal(answer, channel)
    if channel is None:
        return _nameless(element)
    if data is None:
        return _generation_0(element, channel)
    if answer.keys() == {"result"}:
        return Ack("subscribe", channel)  # how subscriptions with `parameters` were answered
    return Push(channel, element)


def _nameless(element: dict[str, Any]) -> Message:
    """Read what came without a channel: the documentation shows mark prices so."""
    coin, contract = element.get("symbol"), element.get("contract_type")
    if "mark_price" in element and type(coin) is str and type(contract) is str:
        return Push(f"ok_sub_futureusd_{coin}_markprice_{contract}", {"data": element})
    return Other(f"no channel, but {', '.join(sorted(element))}")


def _generation_0(element: dict[str, Any], channel: str) -> Message:
    if "success" not in element:
        raise LookupError("neither data nor success")
    return Ack("subscribe", channel) if _true(element["success"]) else _refusal(element, channel)


def _true(value: Any) -> bool:
    return value is True or value == "true"


_LOGIN = frozenset({"10002", "10005", "10017", "20020", "20024", "20102"})
_RETRY = frozenset({"20014", "20100"})


def _code(data: dict[str, Any]) -> str | None:
    for name in ("error_code", "errorcode", "errorCode"):
        if name in data:
            return text(data[name])
    return None


def _message(data: dict[str, Any]) -> str:
    return text(data.get("error_msg")) or ""


def _refusal(data: dict[str, Any], key: str | None) -> Message:
    code = _code(data)
    message = _message(data)
    if key is None and code in _LOGIN:
        return LoginReply(False, code, message)
    return Refusal(code, message, key, retry=code in _RETRY)
