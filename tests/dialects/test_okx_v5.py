"""OKX v5: frames of the documented shapes, decoded into the records they stand for."""

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from okstream.channels import BARS, PUBLIC, USER, Subscription, parse
from okstream.dialects import Ack, Dropped, LoginReply, Notice, Other, Pong, Push, Refusal, okx_v5
from okstream.dialects.signing import Credentials
from okstream.encoding import encode
from okstream.errors import ConfigError, DecodeError

FRAMES = Path(__file__).parents[1] / "frames" / "okx-v5"
RECV = 1_780_000_002_000_000_000


def frame(name):
    return (FRAMES / f"{name}.json").read_bytes()


def read_one(text):
    [message] = okx_v5.read(text)
    return message


def decode(name, text):
    """Return the records of one frame, decoded for the subscription `text`, whose key it must have."""
    [sub] = parse(text, "main" if text.partition(":")[0] in {*USER, "balance_and_position"} else None)
    push = read_one(frame(name))
    assert isinstance(push, Push)
    assert push.key == okx_v5.traits(sub).key
    return okx_v5.decoder(sub, "okx")(push.payload, RECV)


def values(record):
    """Return what stands in a record after its head."""
    account = record.account is not None if hasattr(record, "account") else False
    return list(json.loads(encode(record)).values())[7 if account else 6 :]


HEADS = [
    ("ticker", "ticker:BTC-USDT", "ticker", "BTC-USDT", 1780000000123),
    ("ticker-empty", "ticker:NEW-USDT", "ticker", "NEW-USDT", 1780000000124),
    ("trades", "trades:BTC-USDT", "trade", "BTC-USDT", 1780000000200),
    ("trades-2022", "trades:BTC-USDT", "trade", "BTC-USDT", 1652459226000),
    ("trades-all", "trades-all:BTC-USDT", "trade", "BTC-USDT", 1780000000199),
    ("book-snapshot", "book:BTC-USDT", "book", "BTC-USDT", 1780000000300),
    ("book-update", "book:BTC-USDT", "book", "BTC-USDT", 1780000000400),
    ("book-quiet", "book:BTC-USDT", "book", "BTC-USDT", 1780000060400),
    ("book-2022", "book:BTC-USDT", "book", "BTC-USDT", 1652459226100),
    ("book5", "book5:ETH-USDT-SWAP", "book", "ETH-USDT-SWAP", 1780000000500),
    ("bbo", "bbo:ETH-USDT-SWAP", "book", "ETH-USDT-SWAP", 1780000000510),
    ("book-l2-tbt", "book-l2-tbt:ETH-USDT-SWAP", "book", "ETH-USDT-SWAP", 1780000000520),
    ("book50-l2-tbt", "book50-l2-tbt:ETH-USDT-SWAP", "book", "ETH-USDT-SWAP", 1780000000530),
    ("book-rpi", "book-rpi:ETH-USDT-SWAP", "book", "ETH-USDT-SWAP", 1780000000540),
    ("candle-1m", "candle-1m:BTC-USDT", "candle", "BTC-USDT", 1779999960000),
    ("candle-1m-2022", "candle-1m:BTC-USDT", "candle", "BTC-USDT", 1652459220000),
    ("funding", "funding:ETH-USDT-SWAP", "funding", "ETH-USDT-SWAP", 1780000000600),
    ("mark-price", "mark-price:ETH-USDT-SWAP", "mark_price", "ETH-USDT-SWAP", 1780000000610),
    ("index-price", "index-price:ETH-USD", "index_price", "ETH-USD", 1780000000620),
    ("open-interest", "open-interest:ETH-USDT-SWAP", "open_interest", "ETH-USDT-SWAP", 1780000000630),
    ("liquidations", "liquidations:instType=SWAP", "liquidation", "ETH-USDT-SWAP", 1780000000640),
    ("instruments", "instruments:instType=SWAP", "instrument", "ETH-USDT-SWAP", None),
    ("orders", "orders", "order", "BTC-USDT", 1780000000705),
    ("fills", "fills", "fill", "BTC-USDT", 1780000000700),
    ("account", "account", "balance", None, 1780000000790),
    ("account-event", "account:ccy=USDT", "balance", None, 1780000000899),
    ("positions", "positions", "position", "ETH-USDT-SWAP", 1780000000810),
    ("positions-closed", "positions:ETH-USDT-SWAP,instType=SWAP", "position", "ETH-USDT-SWAP", 1780000000999),
    ("price-limit", "price-limit:ETH-USDT-SWAP", "native", "ETH-USDT-SWAP", 1780000001000),
    ("opt-summary", "opt-summary:instFamily=BTC-USD", "native", None, None),
    ("status", "status", "native", None, 1780000001020),
    ("mark-price-candle1H", "mark-price-candle1H:ETH-USDT-SWAP", "native", "ETH-USDT-SWAP", None),
    ("balance_and_position", "balance_and_position", "native", None, None),
    ("sprd-books5", "sprd-books5:sprdId=BTC-USDT_BTC-USDT-SWAP", "native", None, 1780000001040),
]


@pytest.mark.parametrize(("name", "sub", "kind", "inst", "ts"), HEADS, ids=[head[0] for head in HEADS])
def test_every_frame_becomes_records_with_the_right_head(name, sub, kind, inst, ts):
    first, *_ = decode(name, sub)
    assert (first.type, first.venue, first.channel) == (kind, "okx", sub.partition(":")[0])
    assert (first.inst, first.ts, first.recv, first.origin) == (inst, ts, RECV, None)


def test_every_frame_has_its_test():
    data = {path.stem for path in FRAMES.glob("*.json") if not path.stem.startswith("event-")}
    assert data == {head[0] for head in HEADS}


def test_every_normalised_channel_has_its_frame():
    channels = {head[1].partition(":")[0] for head in HEADS}
    assert {name for name in okx_v5.CHANNELS if not name.startswith("candle-")} <= channels


BODIES = {
    ("ticker", "ticker:BTC-USDT"): [
        ["71250.10", "0.0012", "71250.1", "1.050", "71250.2", "0.75", "70100", "71999.9", "69850.5", "3260.01",
         "231000456.1", "70500", "70432.7"],
    ],
    ("ticker-empty", "ticker:NEW-USDT"): [[None] * 9 + ["0", "0", None, None]],
    ("trades", "trades:BTC-USDT"): [
        ["801234567", "71250.10", "0.00034000", "sell", 4, "0", 91500000017],
        ["801234568", "71250", "1", "buy", 1, "1", 91500000017],
    ],
    ("trades-2022", "trades:BTC-USDT"): [["336000001", "30500.1", "0.02", "buy", None, None, None]],
    ("trades-all", "trades-all:BTC-USDT"): [["801234564", "71250.1", "0.0001", "sell", None, "0", None]],
    ("book-snapshot", "book:BTC-USDT"): [
        ["snapshot", [["71250.1", "1.050", "0", "6"], ["71249.9", "0.1", "0", "1"]],
         [["71250.2", "0.75", "0", "3"], ["71251", "2", "0", "1"]], 91500000020, -1, 0],
    ],
    ("book-update", "book:BTC-USDT"): [
        ["update", [], [["71251", "0", "0", "0"]], 91500000025, 91500000020, -1404728636],
    ],
    ("book-quiet", "book:BTC-USDT"): [["update", [], [], 91500000025, 91500000025, 0]],
    ("book-2022", "book:BTC-USDT"): [
        ["snapshot", [["30500.1", "0.7", "0", "2"]], [["30500.2", "0.5", "0", "1"]], None, None, 1855037313],
    ],
    ("book5", "book5:ETH-USDT-SWAP"): [
        ["snapshot", [["3010.01", "40", "0", "5"], ["3010", "7", "0", "1"]], [["3010.02", "12", "0", "2"]], 77100,
         None, None],
    ],
    ("bbo", "bbo:ETH-USDT-SWAP"): [["snapshot", [["3010.01", "40", "0", "5"]], [], 77101, None, None]],
    ("book-l2-tbt", "book-l2-tbt:ETH-USDT-SWAP"): [
        ["update", [], [["3010.02", "11", "0", "2"]], 77103, 77101, 0],
    ],
    ("book50-l2-tbt", "book50-l2-tbt:ETH-USDT-SWAP"): [
        ["snapshot", [["3010.01", "40", "0", "5"]], [["3010.02", "11", "0", "2"]], 77104, -1, 0],
    ],
    ("book-rpi", "book-rpi:ETH-USDT-SWAP"): [
        ["snapshot", [["3010.01", "40", "40", "5"]], [["3010.02", "11", "8", "2"]], 77105, -1, None],
    ],
    ("candle-1m", "candle-1m:BTC-USDT"): [
        ["71200", "71260.5", "71190.1", "71250", "12.5", "889000.2", "889000.2", True],
        ["71250", "71250", "71250", "71250", "0", "0", "0", False],
    ],
    ("candle-1m-2022", "candle-1m:BTC-USDT"): [["30490", "30510", "30480.5", "30500", "3.25", "99125", None, None]],
    ("funding", "funding:ETH-USDT-SWAP"): [
        ["0.00012500", 1780012800000, None, 1780041600000, "-0.0075", "0.0075", "-0.00031", "0.0001", "0.00009",
         "settled"],
    ],
    ("mark-price", "mark-price:ETH-USDT-SWAP"): [["3010.10"]],
    ("index-price", "index-price:ETH-USD"): [["3009.85", "3001", "3055", "2980.4"]],
    ("open-interest", "open-interest:ETH-USDT-SWAP"): [["6100200.000000001", "610020.0000000001", "1836000000.5"]],
    ("liquidations", "liquidations:instType=SWAP"): [
        ["sell", "long", "2950.1", "42", "0", None],
        ["sell", "net", "2949", "3", "1.5", "USDT"],
    ],
    ("instruments", "instruments:instType=SWAP"): [
        ["SWAP", "live", None, None, "USDT", "ETH-USDT", "0.1", "ETH", "linear", None, None, "0.01", "0.01", "0.01",
         1611907686000, None, 2021032601102994],
        ["OPTION", "preopen", None, None, "BTC", "BTC-USD", "0.01", "BTC", None, "C", "90000", "0.0001", "1", "1",
         1766649600000, 1782460800000, None],
    ],
    ("orders", "orders"): [
        ["700000000000000017", "mine17", "buy", None, "post_only", "71000.50", "0.020", "partially_filled", "0.005",
         "71000.5", "801234999", "71000.5", "0.005", 1780000000700, "-0.000005", "BTC", 1780000000001],
    ],
    ("fills", "fills"): [
        ["801234999", "700000000000000017", "0", "buy", "71000.50", "0.005", "M", 1, {}],
    ],
    ("account", "account"): [
        ["USDT", "20000.5", "20000.5", "18579.99", "1420.51", "snapshot", 1, True,
         {"upl": "0", "collateralEnabled": False}],
        ["BTC", "0.07", "0.07", "0.07", "0", "snapshot", 1, True, {"upl": "", "collateralEnabled": True}],
        [None, "25000.75", None, None, None, "snapshot", 1, True, {"imr": ""}],
    ],
    ("account-event", "account:ccy=USDT"): [
        ["USDT", "20000.75", "20000.75", "18580.24", "1420.51", "update", None, None, {}],
        [None, "25001", None, None, None, "update", None, None, {}],
    ],
    ("positions", "positions"): [
        ["500000000000000003", "short", "12", "10", "3022.4", "3010.10", "14.76", "10", "isolated", "3300.12", "USDT",
         "snapshot", 2, False],
    ],
    ("positions-closed", "positions:ETH-USDT-SWAP,instType=SWAP"): [
        ["500000000000000003", "short", "0", None, None, None, None, "10", "isolated", None, "USDT", "update", None,
         None, {"instType": "SWAP"}],
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "sub", "bodies"), [(*key, body) for key, body in BODIES.items()])
def test_every_field_of_a_row_arrives_in_its_place(name, sub, bodies):
    """Texts exactly as sent, integers for times and counts, null for what was left empty."""
    decoded = [values(record) for record in decode(name, sub)]
    if name in {"orders", "positions"}:
        decoded = [body[:-1] for body in decoded]  # `extra`, below
    assert decoded == bodies


def test_what_has_no_field_of_its_own_is_kept_in_extra_as_it_was_sent():
    [order] = decode("orders", "orders")
    row = json.loads(frame("orders"))["data"][0]
    assert order.extra["linkedAlgoOrd"] == {"algoId": ""}
    assert order.extra["reduceOnly"] == "false"
    assert order.extra["fillFee"] == "-0.000005"
    assert not order.extra.keys() & {"instId", "ordId", "px", "uTime", "cTime"}
    assert {**row, **order.extra} == row
    [position] = decode("positions", "positions")
    assert position.extra["closeOrderAlgo"] == [{"algoId": "8", "closeFraction": "1"}]


def test_user_records_carry_the_configured_name_of_the_account():
    for name, sub in [("orders", "orders"), ("fills", "fills"), ("account", "account"), ("positions", "positions")]:
        assert {record.account for record in decode(name, sub)} == {"main"}
    [native] = decode("balance_and_position", "balance_and_position")
    assert native.account == "main"


def test_a_channel_without_a_form_of_its_own_is_delivered_whole():
    for name, sub in [("price-limit", "price-limit:ETH-USDT-SWAP"), ("opt-summary", "opt-summary:instFamily=BTC-USD")]:
        [native] = decode(name, sub)
        assert native.data == json.loads(frame(name))


# --- replies ---


def test_an_acknowledgement_names_the_argument_and_the_request():
    assert read_one(frame("event-subscribe")) == Ack("subscribe", "tickers:BTC-USDT", "21")
    assert read_one(frame("event-unsubscribe")) == Ack("unsubscribe", "books:ETH-USDT-SWAP", "22")


def test_an_acknowledgement_of_2022_has_no_id():
    text = b'{"event":"subscribe","arg":{"channel":"tickers","instId":"BTC-USDT"}}'
    assert read_one(text) == Ack("subscribe", "tickers:BTC-USDT", None)


@pytest.mark.parametrize(
    "text",
    ["ticker:BTC-USDT", "orders", "positions:instFamily=BTC-USD,instType=SWAP",
     'account:extraParams={"updateInterval":"0"}',
     "instruments:instType=SPOT", "status", "candle-1Dutc:BTC-USDT", "public/new-thing:instId=A-B,x=1"],
)  # fmt: skip
def test_the_key_of_an_acknowledgement_is_the_key_of_what_was_asked(text):
    [sub] = parse(text)
    asked = json.loads(okx_v5.request("subscribe", [sub], "5"))
    assert (asked["id"], asked["op"]) == ("5", "subscribe")
    ack = {"event": "subscribe", "arg": asked["args"][0], "id": "5", "connId": "a"}
    assert read_one(json.dumps(ack).encode()) == Ack("subscribe", okx_v5.traits(sub).key, "5")
    assert okx_v5.size(sub) == len(json.dumps(asked["args"][0], separators=(",", ":"))) + 1


def test_the_key_ignores_uid_and_extra_params_and_the_order_of_the_rest():
    keys = set()
    for arg in (
        {"channel": "positions", "instType": "SWAP", "instId": "BTC-USDT-SWAP"},
        {"uid": "1", "instId": "BTC-USDT-SWAP", "channel": "positions", "instType": "SWAP"},
        {
            "channel": "positions",
            "extraParams": '{"updateInterval":"0"}',
            "instId": "BTC-USDT-SWAP",
            "instType": "SWAP",
        },
    ):
        keys.add(read_one(json.dumps({"arg": arg, "data": []}).encode()).key)
    assert keys == {"positions:instId=BTC-USDT-SWAP,instType=SWAP"}


def test_the_key_of_one_instrument_is_the_same_with_and_without_a_uid():
    plain = read_one(b'{"arg":{"channel":"fills","instId":"A-B"},"data":[]}')
    assert plain.key == "fills:A-B"
    assert read_one(b'{"arg":{"channel":"fills","instId":"A-B","uid":"1"},"data":[]}').key == plain.key


def test_an_error_names_the_request_where_the_exchange_echoes_it():
    refusal = read_one(frame("event-error-60012"))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.request, refusal.key, refusal.retry) == ("60012", "23", None, False)


@pytest.mark.parametrize(
    ("name", "key"),
    [("event-error-60018", "candle1s:ETH-USDT-SWAP"), ("event-error-60018-spaced", "index-tickers:NEAR-USDT-SWAP")],
)
def test_an_unknown_channel_is_found_in_the_text_with_and_without_a_space(name, key):
    refusal = read_one(frame(name))
    assert (refusal.code, refusal.key, refusal.request, refusal.retry) == ("60018", key, None, False)


def test_a_refused_kind_of_instrument_is_found_in_the_text():
    text = b'{"event":"error","code":"60018","msg":"Wrong URL or channel:orders,instType:ANY doesn\'t exist."}'
    [sub] = parse("orders")
    assert read_one(text).key == okx_v5.traits(sub).key


def test_books_that_exclude_each_other_are_found_in_the_text():
    refusal = read_one(frame("event-error-64004"))
    assert (refusal.code, refusal.key) == ("64004", "books:BTC-USDT")


def test_too_frequent_requests_may_succeed_later():
    refusal = read_one(frame("event-error-60014"))
    assert (refusal.code, refusal.request, refusal.retry) == ("60014", "24", True)


@pytest.mark.parametrize("word", ["inst", "channel:", "both ", "instId:a,"])
def test_a_long_error_text_takes_no_long_time(word):
    """It is searched in one pass; a pattern that backtracks would take minutes here."""
    read_one(json.dumps({"event": "error", "code": "60018", "msg": word * 100_000}).encode())


def test_a_login_is_answered():
    assert read_one(frame("event-login")) == LoginReply(True, "0", "")


@pytest.mark.parametrize(
    ("code", "clock", "retry"),
    [("60004", True, False), ("60005", False, False), ("60006", True, False), ("60007", False, False),
     ("60009", False, False), ("60023", False, True), ("60024", False, False), ("60026", False, False),
     ("60032", False, False), ("63999", False, True)],
)  # fmt: skip
def test_a_refused_login_says_whether_the_clock_was_wrong_or_it_may_succeed_later(code, clock, retry):
    text = json.dumps({"event": "error", "msg": "no", "code": code, "connId": "a"}).encode()
    assert read_one(text) == LoginReply(False, code, "no", clock=clock, retry=retry)


def test_refused_logins_as_captured_and_as_documented():
    assert read_one(frame("event-login-unknown-key")) == LoginReply(False, "60032", "API key doesn't exist")
    assert read_one(frame("event-login-expired")).clock


@pytest.mark.parametrize("code", ["60008", "60011", "60028", "60031", "64003"])
def test_other_errors_are_refusals_for_good(code):
    refusal = read_one(json.dumps({"event": "error", "msg": "no", "code": code}).encode())
    assert refusal == Refusal(code, "no", unfit=code in {"60011", "64003"})


def test_a_notice_says_that_the_connection_will_be_closed():
    notice = read_one(frame("event-notice"))
    assert isinstance(notice, Notice)
    assert notice.code == "64008"
    assert "reconnect" in notice.message


def test_a_count_of_connections_is_of_no_consequence():
    assert read_one(frame("event-channel-conn-count")) == Other("channel-conn-count", known=True)


def test_too_many_connections_end_every_subscription_of_that_channel():
    dropped = read_one(frame("event-channel-conn-count-error"))
    assert isinstance(dropped, Dropped)
    assert "31" in dropped.message
    assert dropped.covers(okx_v5.traits(Subscription("orders")).key)
    assert dropped.covers("orders:instId=A-B,instType=SPOT")
    assert not dropped.covers("orders-algo:instType=ANY")
    assert not dropped.covers("positions:instType=ANY")


def test_an_event_of_the_future_is_told_and_survived():
    assert read_one(b'{"event":"party","msg":"hello"}') == Other("party")


def test_ping_and_pong_are_four_letters():
    assert okx_v5.ping() == b"ping"
    assert read_one(b"pong") == Pong()


def test_the_login_request_is_signed_for_the_second():
    credentials = Credentials("985d5b66-57ce-40fb-b714-afc0b9787083", "22582BD0CFF14C41EDBF1AB98506286D", "123456")
    assert json.loads(okx_v5.login(credentials, 1704876947123)) == {
        "op": "login",
        "args": [
            {
                "apiKey": "985d5b66-57ce-40fb-b714-afc0b9787083",
                "passphrase": "123456",
                "timestamp": "1704876947",
                "sign": "5/36BgGV6m/6pmdc20zdqk0mzF5ZalmzzPD2fo3wavU=",
            }
        ],
    }


# --- channels ---


@pytest.mark.parametrize(
    ("text", "path", "login"),
    [
        ("ticker:BTC-USDT", "public", False),
        ("book:BTC-USDT", "public", False),
        ("book-l2-tbt:BTC-USDT", "public", True),
        ("book50-l2-tbt:BTC-USDT", "public", True),
        ("trades-all:BTC-USDT", "business", False),
        ("candle-1m:BTC-USDT", "business", False),
        ("index-candle30m:BTC-USD", "business", False),
        ("economic-calendar", "business", True),
        ("orders-algo:instType=SPOT", "business", True),
        ("orders", "private", True),
        ("fills", "private", True),
        ("account", "private", True),
        ("positions", "private", True),
        ("balance_and_position", "private", True),
        ("price-limit:BTC-USDT", "public", False),
        ("public/new-thing", "public", False),
        ("business/new-thing", "business", False),
        ("private/new-thing", "private", True),
    ],
)
def test_a_channel_rides_on_its_kind_of_connection(text, path, login):
    [sub] = parse(text)
    traits = okx_v5.traits(sub)
    assert (traits.path, traits.login) == (path, login)


def test_traits_tell_what_to_expect():
    def traits(text):
        return okx_v5.traits(parse(text)[0])

    assert traits("trades:A-B").chained
    assert traits("trades:A-B").cached
    assert not traits("trades-all:A-B").chained
    incremental = {name for name in PUBLIC if name in okx_v5.CHANNELS and traits(f"{name}:A,instType=X").incremental}
    assert incremental == {"book", "book-l2-tbt", "book50-l2-tbt", "book-rpi"}
    silent = ["orders", "fills", "liquidations:instType=SWAP", "instruments:instType=SPOT", "orders-algo"]
    assert not any(traits(text).first_push for text in silent)
    assert all(traits(text).first_push for text in ["ticker:A-B", "book:A-B", "account", "positions", "candle-1m:A-B"])


def test_all_of_okstreams_channels_but_two_exist():
    assert {*PUBLIC, *USER} - okx_v5.CHANNELS.keys() == {"book10", "book20"}
    assert {f"candle-{bar}" for bar in BARS} <= okx_v5.CHANNELS.keys()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tiker:BTC-USDT", "Did you mean 'ticker'"),
        ("candle-1min:BTC-USDT", "Did you mean 'candle-1m'"),
        ("candle:BTC-USDT", "Did you mean 'candle-1m'"),
        ("BTC-USDT", "no channel 'BTC-USDT'. Write channel:instrument, for example ticker:BTC-USDT. It has: "),
        ("zzz:BTC-USDT", "no channel 'zzz'. It has: "),
        ("pricelimit:BTC-USDT", "Did you mean 'price-limit'"),
        ("tickers:BTC-USDT", "is called 'ticker' here"),
        ("books:BTC-USDT", "is called 'book' here"),
        ("candle1H:BTC-USDT", "is called 'candle-1H' here"),
        ("new-thing", "goes by its path: public/new-thing"),
        ("elsewhere/new-thing", "okx-v5 has no channel"),
        ("public/", "okx-v5 has no channel"),
        ("ticker", "wants an instrument: ticker:BTC-USDT"),
        ("ticker:instType=SPOT", "wants an instrument"),
        ("instruments", "wants a kind of instrument: instruments:instType=SWAP"),
        ("liquidations:BTC-USDT-SWAP", "wants a kind of instrument"),
    ],
)
def test_what_does_not_exist_is_answered_with_what_was_meant(text, says):
    [sub] = parse(text)
    with pytest.raises(ConfigError, match=says):
        okx_v5.traits(sub)


# --- what must not hurt ---


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{}", b"[]", b"null", b"1", b'"event"', b'"data"', b"ping", b"\xff", b'{"data":[]}',
        b'{"arg":{},"data":[]}',
        b'{"arg":null,"data":[]}', b'{"arg":[1,"instId"],"data":[]}', b'{"event":"subscribe"}',
        b'{"event":"subscribe","arg":[]}', b'{"event":"login","id":7}', b'{"event":"channel-conn-count-error"}',
        b"[" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_message_raises_a_decode_error(text):
    with pytest.raises(DecodeError):
        okx_v5.read(text)


@pytest.mark.parametrize("text", [b'{"event":"error","msg":%b}', b'{"arg":{"channel":%b},"data":[]}'])
def test_what_is_nested_deep_is_read_or_raises_a_decode_error(text):
    """Pythons differ in how deep they go."""
    with suppress(DecodeError):
        okx_v5.read(text % (b"[" * 1000 + b"]" * 1000))


@pytest.mark.parametrize(
    ("sub", "data"),
    [
        ("ticker:A", [{}]),
        ("ticker:A", {"instId": "A"}),
        ("ticker:A", None),
        ("trades:A", [{"instId": "A", "tradeId": "", "px": "1", "sz": "1", "side": "buy", "ts": "1"}]),
        ("trades:A", [{"instId": "A", "tradeId": "1", "px": 1.5, "sz": "1", "side": "buy", "ts": "1"}]),
        ("trades:A", [{"instId": "A", "tradeId": "1", "px": "1", "sz": "1", "side": "buy", "ts": "soon"}]),
        ("trades:A", [{"instId": "A", "tradeId": "1", "px": "1", "sz": "1", "side": "buy", "ts": "9" * 30}]),
        ("book:A", [{"bids": [["1"]], "asks": [], "ts": "1"}]),
        ("book:A", [{"bids": [["1", 2]], "asks": [], "ts": "1"}]),
        ("book:A", [{"bids": ["12"], "asks": [], "ts": "1"}]),
        ("book:A", [{"bids": [], "ts": "1"}]),
        ("candle-1m:A", [["1", "2"]]),
        ("candle-1m:A", ["123456780"]),
        ("candle-1m:A", [["1", "2", "3", "4", "5", "6", "7", "8", "maybe"]]),
        ("candle-1m:A", [["", "2", "3", "4", "5", "6", "7", "8", "0"]]),
    ],
)
def test_rows_of_another_shape_raise_a_decode_error(sub, data):
    with pytest.raises(DecodeError, match="of okx-v5"):
        okx_v5.decoder(parse(sub)[0], "okx")({"data": data}, RECV)


def test_an_unknown_action_raises_a_decode_error():
    with pytest.raises(DecodeError, match="action"):
        okx_v5.decoder(Subscription("book", "A"), "okx")({"action": "merge", "data": []}, RECV)


# --- recordings ---


def test_the_recording_of_2022_decodes_without_a_doubt(recordings):
    """Every frame is understood, and there are as many records of each channel as rows in the frames."""
    lines = (recordings / "okx-v5" / "2022-05-public.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    ours = {own: name for name, own in okx_v5.CHANNELS.items()}
    decoders, rows, decoded, acks = {}, Counter(), Counter(), 0
    for event in events:
        if event["dir"] != "recv":
            continue
        message = json.loads(event["text"])
        got = read_one(event["text"].encode())
        if "event" in message:
            assert isinstance(got, Ack)
            acks += 1
            continue
        arg = message["arg"]
        sub = Subscription(ours[arg["channel"]], arg["instId"])
        assert got.key == okx_v5.traits(sub).key
        if sub not in decoders:
            decoders[sub] = okx_v5.decoder(sub, "okx")
        rows[sub.channel] += len(message["data"])
        for record in decoders[sub](got.payload, RECV):
            assert record.inst == sub.inst
            assert json.loads(encode(record))["ts"] == record.ts
            decoded[sub.channel] += 1
    assert acks > 0
    assert decoded == rows
    assert set(rows) == {"ticker", "trades", "book"}
