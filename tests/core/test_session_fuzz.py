"""Whatever arrives in a living session, of each dialect: deliveries come out, and what they promise holds."""

import re
import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from exchange import (
    LOGIN,
    RECV,
    V1,
    V3,
    V5,
    Call,
    Consistent,
    ack,
    book,
    error,
    order,
    push,
    ticker,
    trades,
    v1,
    v1_book,
    v1_order,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from okstream.venues import V1_LIMITS, V3_LIMITS, V5_LIMITS

TRADES, BOOK, TICKER = "trades:BTC-USDT", "book:BTC-USDT", "ticker:BTC-USDT"
LIQUIDATIONS, ORDERS = "liquidations:instType=SWAP", "orders:instType=ANY"
FRAMES = Path(__file__).parent.parent / "frames"

V5_WANTED = [TRADES, BOOK, TICKER, LIQUIDATIONS, ORDERS, "public/status", "candle-1m:BTC-USDT"]
WANTED = {V5.NAME: V5_WANTED, V3.NAME: [TICKER, TRADES, BOOK, "orders:BTC-USDT"]}
WANTED[V1.NAME] = WANTED[V3.NAME]
DIALECTS = {V5.NAME: (V5, V5_LIMITS), V3.NAME: (V3, V3_LIMITS), V1.NAME: (V1, V1_LIMITS)}

V5_REAL: list[Any] = [
    trades(8), trades(12), trades(13, 14), book("update", 5, 6), book("snapshot", -1, 9), ticker(2), ticker(1),
    ack("subscribe", TRADES), ack("subscribe", BOOK, "1"), ack("unsubscribe", BOOK), ack("unsubscribe", BOOK, "2"),
    ack("unsubscribe", TICKER, "2"), error("60018", "Wrong URL or channel:tickers,instId:BTC-USDT doesn't exist", "1"),
    error("60012", "Invalid request"), error("60014", "Requests too frequent"), LOGIN, error("60005", "Invalid"),
    {"event": "notice", "code": "64008", "msg": "soon"},
    {"event": "channel-conn-count-error", "channel": "tickers", "connCount": "1"}, order(), order("canceled"),
    push(LIQUIDATIONS, {"instId": "A", "details": [{"ts": "1", "side": "buy", "bkPx": "1", "sz": "1"}]}),
]  # fmt: skip


def framed(dialect: str, *patterns: str) -> list[Any]:
    """The dialect's own frames, as they were written from the documentation."""
    paths = sorted({path for pattern in patterns for path in (FRAMES / dialect).glob(pattern + ".json")})
    assert len(paths) >= len(patterns)
    return [orjson.loads(path.read_bytes()) for path in paths]


def v3_acks() -> list[Any]:
    channels = [f"spot/{table}:BTC-USDT" for table in ("ticker", "trade", "depth", "order")]
    return [{"event": op, "channel": channel} for op in ("subscribe", "unsubscribe") for channel in channels]


def v3_book(action: str, second: int) -> Any:
    row = {"instrument_id": "BTC-USDT", "asks": [["11", "1", "1"]], "bids": [["9", "1", "1"]], "checksum": 1}
    return {"table": "spot/depth", "action": action, "data": [{**row, "timestamp": f"2020-01-01T00:00:{second}.000Z"}]}


V1_NAMES = [f"ok_sub_spot_btc_usdt_{kind}" for kind in ("ticker", "deals", "depth", "order")]
REAL: dict[str, list[Any]] = {
    V5.NAME: V5_REAL,
    V3.NAME: [
        *framed(V3.NAME, "ticker", "trades", "book-*", "orders-spot"),
        v3_book("partial", 10), v3_book("update", 11), v3_book("update", 12), *framed(V3.NAME, "event-*"), *v3_acks(),
    ],
    V1.NAME: [
        *framed(V1.NAME, "ticker", "trades", "book", "book5", "orders", "nameless"),
        v1_book(1000), v1_book(1100, "8"), v1_book(1100) + v1_book(1200), v1_order(0), v1_order(4),
        *framed(V1.NAME, "event-*"),
        *(v1({"result": True, "channel": name}, op) for op in ("addChannel", "removeChannel") for name in V1_NAMES),
        v1({"result": False, "error_msg": "no", "error_code": 20116, "channel": V1_NAMES[0]}, "addChannel"),
    ],
}  # fmt: skip

EVENT = re.compile(rb'"event":|addChannel|removeChannel|"result":|"success":')
WORDS = "trades books snapshot update partial 60014 64003 subscribe unsubscribe error addChannel removeChannel login"
KEYS = "arg data event code msg id action channel instId ts seqId prevSeqId asks bids table timestamp result error_code"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(WORDS.split()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(KEYS.split()) | st.text(max_size=4), inner, max_size=5
    ),
    max_leaves=12,
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, real: list[Any]) -> bytes:
    """A real message, with a value replaced or a byte changed."""
    message = orjson.loads(orjson.dumps(draw(st.sampled_from(real))))
    place: Any = message
    for _ in range(draw(st.integers(0, 5))):
        inside = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not inside:
            break
        key = draw(st.sampled_from(inside))
        if not isinstance(place[key], dict | list) or draw(st.booleans()):
            place[key] = draw(JSON)
            break
        place = place[key]
    try:
        text = bytearray(orjson.dumps(message))
    except TypeError:
        text = bytearray(b'{"data":' + b"[" * 2000)
    if draw(st.integers(0, 3)) == 0:
        text[draw(st.integers(0, len(text) - 1))] = draw(st.integers(0, 255))
    return bytes(text)


@st.composite
def encoded(draw: st.DrawFn) -> bytes:
    try:
        return orjson.dumps(draw(JSON))
    except TypeError:
        return b"[[[["


def steps_of(dialect: str) -> st.SearchStrategy[list[tuple[str, bytes]]]:
    real = REAL[dialect]
    text = encoded() | mutated(real) | st.sampled_from(real).map(orjson.dumps)
    return st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["text", "binary"]), st.binary(max_size=60)),
            st.tuples(st.sampled_from(["text", "deflated"]), text),
            st.tuples(st.sampled_from(["text", "deflated"]), text),
            st.tuples(st.sampled_from(["wait", "reconnect", "accept", "accept", "leave"]), st.just(b"")),
        ),
        max_size=30,
    )


@pytest.mark.parametrize("parsed", [True, False])
@pytest.mark.parametrize("name", REAL)
@settings(max_examples=200)
@given(data=st.data())
def test_whatever_arrives_the_answer_is_deliveries(name: str, parsed: bool, data: st.DataObject):
    dialect, limits = DIALECTS[name]
    options: dict[str, Any] = {"dialect": dialect, "limits": limits, "parsed": parsed, "raw": not parsed}
    call, check = Call(WANTED[name], **options), Consistent()

    def takes(frame: bytes, binary: bool) -> None:
        deliveries = call.session.receive(frame, binary, call.now, RECV)
        check(deliveries)
        assert all(delivery.statements or delivery.records or delivery.text is not None for delivery in deliveries)

    for step, frame in data.draw(steps_of(name)):
        if step == "wait":
            call.tick(11.0)
        elif step == "leave" and call.feeds:
            key = min(call.feeds)
            call.session.unwant(key)
            check.open.pop(call.feeds.pop(key), None)
        elif step == "accept":
            for answer in call.answers():
                takes(orjson.dumps(answer), False)
        elif step == "reconnect":
            check(call.session.closed(RECV))
            call = Call(feeds=call.feeds, now=call.now, **options)
        elif step == "deflated":
            packer = zlib.compressobj(wbits=-15)
            takes(packer.compress(frame) + packer.flush(), True)
        else:
            takes(frame, step == "binary")
        call.sent()
        assert call.session.deadline(call.now) > call.now or call.session.ending is not None


@pytest.mark.parametrize("name", REAL)
def test_the_real_messages_reach_the_records(name: str):
    """So that what is fuzzed above is not dropped at the door."""
    dialect, limits = DIALECTS[name]
    call = Call(WANTED[name], dialect=dialect, limits=limits)
    call.accept()
    pushed = [message for message in REAL[name] if not EVENT.search(orjson.dumps(message))]
    kinds = {record.type for message in pushed for record in call.records(message)}
    assert {"trade", "ticker", "book", "order"} <= kinds
