"""OKEx and OKCoin v3: what is asked, what is read, and that nothing else ever comes out."""

import base64
import copy
import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints
from zlib import crc32

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from okstream.channels import parse
from okstream.dialects import Ack, LoginReply, Other, Pong, Push, Refusal, load
from okstream.dialects import okex_v3 as v3
from okstream.dialects.okex_v3_rows import millis
from okstream.dialects.signing import Credentials
from okstream.encoding import encode
from okstream.errors import ConfigError, DecodeError, InflateError
from okstream.inflate import inflate

FRAMES = {
    path.stem: path.read_bytes().strip() for path in (Path(__file__).parents[1] / "frames/okex-v3").glob("*.json")
}
# What each frame of data was asked for with, and how many records it holds.
ASKED = {
    "ticker": ("ticker:BTC-USDT", 1),
    "ticker-swap": ("ticker:BTC-USD-SWAP", 1),
    "ticker-option": ("ticker:BTC-USD-200925-9000-C", 1),
    "ticker-2019-numbers": ("ticker:BTC-USD-190329", 1),
    "trades": ("trades:BTC-USDT", 2),
    "trades-option": ("trades:BTC-USD-200925-9000-C", 1),
    "book-snapshot": ("book:BTC-USDT", 1),
    "book-update": ("book:BTC-USDT", 1),
    "book-empty-update": ("book:BTC-USDT", 1),
    "book-2019-numbers": ("book:BTC-USD-190329", 1),
    "book-l2-tbt": ("book-l2-tbt:BTC-USD-SWAP", 1),
    "book5": ("book5:BTC-USDT", 1),
    "candle-1m": ("candle-1m:BTC-USDT", 1),
    "candle-1D": ("candle-1D:BTC-USD-200925", 1),
    "funding": ("funding:BTC-USD-SWAP", 1),
    "mark-price": ("mark-price:BTC-USD-200925", 1),
    "index-price": ("index-price:BTC-USD", 1),
    "instruments-futures": ("instruments:business=futures", 2),
    "instruments-option": ("instruments:business=option,underlying=BTC-USD", 1),
    "orders-spot": ("orders:BTC-USDT", 1),
    "orders-2019": ("orders:BTC-USDT", 1),
    "orders-futures": ("orders:BTC-USD-200925", 1),
    "orders-option": ("orders:business=option,underlying=BTC-USD", 1),
    "account-spot": ("account:business=spot,currency=ETH", 1),
    "account-margin": ("account:business=margin,ETH-USDT", 3),
    "account-futures": ("account:business=futures,underlying=BTC-USD", 1),
    "account-futures-fixed": ("account:business=futures,currency=BTC", 1),
    "account-swap": ("account:BCH-USD-SWAP", 1),
    "account-option": ("account:business=option,underlying=BTC-USD", 1),
    "positions-futures": ("positions:BTC-USD-200925", 2),
    "positions-futures-fixed": ("positions:BTC-USD-200925", 2),
    "positions-swap": ("positions:BCH-USD-SWAP", 1),
    "positions-swap-none": ("positions:BCH-USD-SWAP", 1),
    "positions-option": ("positions:business=option,underlying=BTC-USD", 1),
    "native-estimated-price": ("futures/estimated_price:BTC-USD-200724", 1),
    "native-status": ("system/status", 1),
    "native-summary": ("option/summary:BTC-USD", 1),
    "native-order-algo": ("spot/order_algo:LTC-USDT", 1),
}
TS = 1595583665316
RECV = 1_595_583_665_400_000_000


def subscription(text: str) -> Any:
    (sub,) = parse(text, "main")
    return sub


def records(frame: bytes, asked: str) -> list[Any]:
    """Read one frame as data of `asked` and nothing else."""
    sub = subscription(asked)
    (push,) = v3.read(frame)
    assert isinstance(push, Push)
    assert push.key == v3.traits(sub).key
    found = v3.decoder(sub, "okex-v3")(push.payload, RECV)
    for record in found:
        assert_well_formed(record)
    return found


def only(name: str) -> Any:
    (record,) = records(FRAMES[name], ASKED[name][0])
    return record


def assert_well_formed(record: Any) -> None:
    """Every field holds a type that its declaration allows, and the record can be written."""
    for name, hint in get_type_hints(type(record)).items():
        value = getattr(record, name, None)
        if name in {"bids", "asks"}:
            assert all(type(row) is list and {*map(type, row)} == {str} for row in value)
        elif name not in {"extra", "data", "STATES"}:
            assert type(value) in (get_args(hint) or (hint,)), (name, value)
    assert orjson.loads(encode(record))["type"] == record.type


def field_values(record: Any, names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names.split()}


class TestRequests:
    def test_subscribe_names_every_argument(self) -> None:
        subs = [subscription(text) for text in ("ticker:BTC-USDT", "candle-1m:ETH-USDT", "book-l2-tbt:BTC-USD-SWAP")]
        assert v3.request("subscribe", subs, "7") == (
            b'{"op":"subscribe","args":["spot/ticker:BTC-USDT","spot/candle60s:ETH-USDT",'
            b'"swap/depth_l2_tbt:BTC-USD-SWAP"]}'
        )
        assert v3.request("unsubscribe", subs[:1], "8") == b'{"op":"unsubscribe","args":["spot/ticker:BTC-USDT"]}'

    def test_sizes_add_up_to_the_arguments_of_a_request(self) -> None:
        subs = [subscription(text) for text in ("ticker:BTC-USDT", "trades:BTC-USD-200925-9000-C")]
        args = v3.request("subscribe", subs, "")[len('{"op":"subscribe","args":[') : -len("]}")]
        assert sum(map(v3.size, subs)) == len(args) + 1

    @pytest.mark.parametrize(
        ("secret", "wall", "timestamp", "sign"),
        [
            (
                "22582BD0CFF14C41EDBF1AB98506286D", 1538054050975, "1538054050.975",
                "kxeu+amF0VVK30XKQqFTQMEsL9eE/t/a+gWQLoE/9rI=",
            ),
            ("secret", 1538054050975, "1538054050.975", "DgKNU9uKoPJG46YwbcAFln7Tc3z9O96ErLmt10USdMM="),
            ("secret", 1585403514843, "1585403514.843", "rSrtnzKJdHrc23BdRh7hQ4gfMo6qhRZbJASc3J68L4U="),
        ],
    )  # fmt: skip
    def test_login_signs_seconds_with_three_decimals(self, secret: str, wall: int, timestamp: str, sign: str) -> None:
        asked = orjson.loads(v3.login(Credentials("key", secret, "words"), wall))
        assert asked == {"op": "login", "args": ["key", "words", timestamp, sign]}

    def test_login_keeps_leading_zeros_of_the_milliseconds(self) -> None:
        assert orjson.loads(v3.login(Credentials("k", "s", "p"), 1538054050007))["args"][2] == "1538054050.007"

    def test_ping_is_bare_text(self) -> None:
        assert v3.ping() == b"ping"


class TestSubscriptions:
    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ("ticker:BTC-USD-191227", "futures/ticker:BTC-USD-191227"),
            ("trades:BTC-USDT-SWAP", "swap/trade:BTC-USDT-SWAP"),
            ("book:BTC-USD-210423-64000-C", "option/depth:BTC-USD-210423-64000-C"),
            ("book5:EOS-USD-210625-8.00-P", "option/depth5:EOS-USD-210625-8.00-P"),
            ("candle-1W:MNBTC-MNUSDT", "spot/candle604800s:MNBTC-MNUSDT"),
            ("funding:BTC-USD-SWAP", "swap/funding_rate:BTC-USD-SWAP"),
            ("mark-price:BTC-USD-SWAP", "swap/mark_price:BTC-USD-SWAP"),
            ("index-price:BTC-USD", "index/ticker:BTC-USD"),
            ("instruments:business=futures", "futures/instruments"),
            ("orders:BTC-USDT", "spot/order:BTC-USDT"),
            ("orders:business=swap,XYZ", "swap/order:XYZ"),
            ("account:business=futures,underlying=BTC-USD", "futures/account:BTC"),
            ("account:business=futures,underlying=BTC-USDT", "futures/account:BTC-USDT"),
            ("account:business=spot,currency=BTC", "spot/account:BTC"),
            ("option/summary:underlying=BTC-USD", "option/summary:BTC-USD"),
            ("index/candle60s:BTC-USD", "index/candle60s:BTC-USD"),
        ],
    )
    def test_the_key_is_the_argument_of_the_exchange(self, text: str, key: str) -> None:
        traits = v3.traits(subscription(text))
        assert (traits.key, traits.path) == (key, "main")

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("ticker", "write ticker:BTC-USDT"),
            ("ticker:nonsense", "write ticker:BTC-USDT"),
            ("ticker:BTC-USDT,foo=1", "no argument foo"),
            ("funding:BTC-USDT", "funding:BTC-USD-SWAP"),
            ("mark-price:BTC-USDT", "mark-price:BTC-USD-SWAP"),
            ("index-price", "index-price:BTC-USD"),
            ("instruments", "instruments:business=futures"),
            ("instruments:business=option", "underlying=BTC-USD"),
            ("orders", "orders:BTC-USDT"),
            ("orders:BTC-USD-210423-64000-C", "orders:business=option,underlying=BTC-USD"),
            ("orders:business=margin,BTC-USDT", "write orders:"),
            ("account:BTC-USDT", "account:business=spot,currency=BTC"),
            ("account:currency=BTC", "account:business=spot,currency=BTC"),
            ("account:business=spot", "wants currency"),
            ("account:business=futures", "wants underlying"),
            ("positions:BTC-USDT", "positions:BTC-USD-SWAP"),
            ("bbo:BTC-USDT", "It has: account"),
            ("fills:BTC-USDT", "It has: account"),
            ("tickers:BTC-USDT", "Did you mean 'ticker'"),
            ("spot/ticker:BTC-USDT", "called 'ticker'"),
            ("index/ticker:BTC-USD", "called 'index-price'"),
            ("swap/funding_rate:BTC-USD-SWAP", "called 'funding'"),
            ("spot/margin_account:BTC-USDT", "account:business=margin,BTC-USDT"),
            ("option/summary:BTC-USD,underlying=BTC-USD", "takes one"),
        ],
    )
    def test_what_cannot_be_asked_says_how_to_ask(self, text: str, part: str) -> None:
        sub = subscription(text)
        for ask in (v3.traits, v3.size):
            with pytest.raises(ConfigError) as error:
                ask(sub)
            assert part in str(error.value)

    @pytest.mark.parametrize("asked", [asked for asked, _ in ASKED.values()])
    def test_user_channels_need_a_login_and_no_other_does(self, asked: str) -> None:
        user = asked.startswith(("orders", "account", "positions", "spot/order_algo"))
        assert v3.traits(subscription(asked)).login is user

    def test_first_pushes_are_those_of_the_recordings(self) -> None:
        first = {asked for asked, _ in ASKED.values() if v3.traits(subscription(asked)).first_push}
        assert {asked.partition(":")[0] for asked in first} == {"ticker", "trades", "book", "book5", "book-l2-tbt"}

    def test_only_trades_are_cached_and_only_books_of_changes_incremental(self) -> None:
        traits = {asked.partition(":")[0]: v3.traits(subscription(asked)) for asked, _ in ASKED.values()}
        assert [name for name in traits if traits[name].cached] == ["trades"]
        assert [name for name in traits if traits[name].incremental] == ["book", "book-l2-tbt"]
        assert not any(found.chained for found in traits.values())


class TestReplies:
    def test_acknowledgements_name_what_was_asked(self) -> None:
        assert v3.read(FRAMES["event-subscribe"]) == [Ack("subscribe", "spot/ticker:BTC-USDT")]
        assert v3.read(FRAMES["event-unsubscribe"]) == [Ack("unsubscribe", "spot/ticker:BTC-USDT")]

    def test_pong_is_bare_text(self) -> None:
        assert v3.read(b"pong") == [Pong()]
        assert v3.read(inflate(bytes.fromhex("2bc8cf4b0700"))) == [Pong()]

    def test_login_is_accepted(self) -> None:
        assert v3.read(FRAMES["event-login"]) == [LoginReply(True)]
        assert v3.read(b'{"event":"login","success":false}') == [LoginReply(False)]

    def test_a_bad_signature_refuses_the_login(self) -> None:
        assert v3.read(FRAMES["event-error-sign"]) == [LoginReply(False, "30013", "Invalid sign")]

    @pytest.mark.parametrize("code", [30005, "30008"])
    def test_a_refused_timestamp_is_a_matter_of_the_clock(self, code: Any) -> None:
        (reply,) = v3.read(orjson.dumps({"event": "error", "message": "timestamp", "errorCode": code}))
        assert isinstance(reply, LoginReply)
        assert (reply.ok, reply.clock, reply.code) == (False, True, str(code))

    @pytest.mark.parametrize("code", [30001, 30002, 30004, 30006, 30011, 30015, 30027])
    def test_login_codes_are_answers_to_a_login(self, code: int) -> None:
        (reply,) = v3.read(orjson.dumps({"event": "error", "message": "no", "errorCode": code}))
        assert reply == LoginReply(False, str(code), "no")

    def test_a_second_login_finds_the_connection_logged_in(self) -> None:
        (reply,) = v3.read(b'{"event":"error","message":"already logged in","errorCode":30042}')
        assert isinstance(reply, LoginReply)
        assert reply.ok

    def test_an_unknown_channel_is_named_in_the_refusal(self) -> None:
        text = "Channel spot/tickr:BTC-USDT doesn't exist"
        assert v3.read(FRAMES["event-error-channel"]) == [Refusal("30040", text, "spot/tickr:BTC-USDT")]
        (other,) = v3.read(b'{"event":"error","message":"x Channel : spot/t:A-B doesn\'t exist","errorCode":"30040"}')
        assert isinstance(other, Refusal)
        assert (other.code, other.key) == ("30040", "spot/t:A-B")

    @pytest.mark.parametrize(
        ("code", "retry"), [(30014, True), (30026, True), (30043, True), (30038, True), (30041, False), (30039, False)]
    )
    def test_refusals_say_whether_asking_again_may_help(self, code: int, retry: bool) -> None:
        (reply,) = v3.read(orjson.dumps({"event": "error", "message": "m", "errorCode": code}))
        assert reply == Refusal(str(code), "m", retry=retry)

    def test_an_event_without_meaning_is_unknown(self) -> None:
        assert v3.read(b'{"event":"weather"}') == [Other("weather")]

    def test_a_table_without_rows_is_of_no_consequence(self) -> None:
        (other,) = v3.read(b'{"table":"spot/trade","data":[]}')
        assert isinstance(other, Other)
        assert other.known

    @pytest.mark.parametrize(
        "junk",
        [
            b"", b"ping", b"[]", b"null", b"1", b'"table"', b"{}", b'{"table":null}', b'{"table":"a"}', b"\xff",
            b'{"table":"spot/trade","data":{}}', b'{"table":"spot/trade","data":[1]}', b'{"event":"subscribe"}',
            b'{"table":"spot/trade","data":[{"instrument_id":[1]}]}', b'{"event":"subscribe","channel":1}',
            b'{"table":"spot/trade","data":[' + b"[" * 1000 + b"]" * 1000 + b"]}",
        ],
    )  # fmt: skip
    def test_junk_raises_decode_error(self, junk: bytes) -> None:
        with pytest.raises(DecodeError):
            v3.read(junk)


class TestData:
    @pytest.mark.parametrize("name", ASKED)
    def test_every_frame_decodes_to_its_records(self, name: str) -> None:
        asked, count = ASKED[name]
        assert len(records(FRAMES[name], asked)) == count

    def test_every_frame_has_a_test(self) -> None:
        rest = {name for name in FRAMES if name not in ASKED and not name.startswith("event-")}
        assert rest == {"trades-two-instruments"}

    def test_a_spot_ticker(self) -> None:
        assert only("ticker").__class__.__name__ == "Ticker"
        assert field_values(only("ticker"), "inst ts last last_size bid bid_size ask ask_size open high low") == {
            "inst": "BTC-USDT", "ts": TS, "last": "9341.5", "last_size": "0.02", "bid": "9341.2", "bid_size": "1.25",
            "ask": "9342", "ask_size": "0.50", "open": "9300.1", "high": "9402", "low": "9255.30",
        }  # fmt: skip
        assert field_values(only("ticker"), "volume turnover open_utc0 open_utc8") == {
            "volume": "20411.07", "turnover": "190553112.4", "open_utc0": "9333", "open_utc8": "9321",
        }  # fmt: skip

    def test_volumes_of_contracts(self) -> None:
        assert field_values(only("ticker-swap"), "volume turnover") == {"volume": "786000", "turnover": "8414.41"}

    def test_trades_are_sized_by_size_or_qty(self) -> None:
        first, second = records(FRAMES["trades"], "trades:BTC-USDT")
        assert field_values(first, "inst ts id price size side count") == {
            "inst": "BTC-USDT", "ts": TS, "id": "4100200", "price": "9341.2", "size": "0.51", "side": "sell",
            "count": None,
        }  # fmt: skip
        assert (second.id, second.ts) == ("4100201", TS + 1)
        assert only("trades-option").size == "7"

    def test_rows_of_several_instruments_are_parted(self) -> None:
        pushes = v3.read(FRAMES["trades-two-instruments"])
        assert [push.key for push in pushes] == ["futures/trade:BTC-USD-200925", "futures/trade:BTC-USD-200731"]
        found = [
            record.id
            for push in pushes
            for record in v3.decoder(subscription(f"trades:{push.key.partition(':')[2]}"), "x")(push.payload, RECV)
        ]
        assert found == ["11", "12"]

    def test_accounts_that_share_a_row_are_parted(self) -> None:
        held = json.loads(FRAMES["account-futures"])["data"][0]["BTC"]
        frame = {"table": "futures/account", "data": [{"BTC": held, "BTC-USDT": {**held, "currency": "USDT"}}]}
        pushes = v3.read(orjson.dumps(frame))
        assert [push.key for push in pushes] == ["futures/account:BTC", "futures/account:BTC-USDT"]
        decode = v3.decoder(subscription("account:business=futures,underlying=BTC-USDT"), "x")
        assert [record.currency for record in decode(pushes[1].payload, RECV)] == ["USDT"]

    def test_a_book_is_a_snapshot_and_changes(self) -> None:
        snapshot, update, empty = only("book-snapshot"), only("book-update"), only("book-empty-update")
        assert [book.action for book in (snapshot, update, empty)] == ["snapshot", "update", "update"]
        assert snapshot.asks == [["9342", "0.50", "0", "2"], ["9342.5", "1E-8", "0", "1"]]
        assert update.asks == [["9342", "0", "0", "0"]]
        assert (empty.bids, empty.asks, empty.checksum) == ([], [], update.checksum)
        assert (snapshot.ts, snapshot.seq, snapshot.prev) == (TS, None, None)

    def test_checksums_fit_the_levels_as_sent(self) -> None:
        text = "9341.2:1.25:9342:0.50:9340:0.75:9342.5:1E-8"
        assert only("book-snapshot").checksum & 0xFFFFFFFF == crc32(text.encode())

    def test_book5_is_whole_and_without_checksum(self) -> None:
        book = only("book5")
        assert (book.action, book.checksum, book.asks) == ("snapshot", None, [["9342", "0.50", "2"]])

    def test_numbers_of_2019_keep_their_text(self) -> None:
        book, ticker = only("book-2019-numbers"), only("ticker-2019-numbers")
        assert book.asks == [["3880.10", "5", "0", "2"]]
        assert book.bids == [["3880.0", "1E-8", "0", "1"], ["12345678901234567890.5", "1", "0", "1"]]
        assert (book.action, book.checksum) == ("update", -77)
        assert (ticker.last, ticker.low, ticker.volume, ticker.last_size) == ("3880.10", "3799.9", "1000400", None)

    @pytest.mark.parametrize("number", ["0.10", "1E-8", "12345678901234567890", "-0.0", "1.50e+2"])
    @pytest.mark.parametrize("name", ["trades", "orders-spot", "account-spot", "native-status", "positions-swap"])
    def test_a_number_anywhere_keeps_its_text(self, name: str, number: str) -> None:
        place = {"trades": "price", "orders-spot": "notional", "account-spot": "hold", "native-status": "href",
                 "positions-swap": "margin"}[name]  # fmt: skip
        frame = json.loads(FRAMES[name])
        row = frame["data"][0]
        (row["holding"][0] if "holding" in row else row)[place] = "HERE"
        text = json.dumps(frame).replace('"HERE"', number)
        lines = [encode(record) for record in records(text.encode(), ASKED[name][0])]
        assert f'"{number}"'.encode() in lines[0]

    def test_a_depth_without_action_is_an_error(self) -> None:
        frame = FRAMES["book-snapshot"].replace(b'"action":"partial",', b"")
        with pytest.raises(DecodeError):
            records(frame, "book:BTC-USDT")

    def test_candles_of_spot_and_contracts(self) -> None:
        spot, futures = only("candle-1m"), only("candle-1D")
        assert field_values(spot, "inst ts open high low close volume turnover closed") == {
            "inst": "BTC-USDT", "ts": 1595583660000, "open": "9340", "high": "9345.5", "low": "9339",
            "close": "9341.5", "volume": "12.51", "turnover": None, "closed": None,
        }  # fmt: skip
        assert (futures.volume, futures.turnover) == ("45100", "480.5210")

    def test_funding_mark_and_index(self) -> None:
        assert field_values(only("funding"), "rate funding_ts next_rate next_ts interest premium") == {
            "rate": "0.00022", "funding_ts": 1595577600000, "next_rate": "0.00018", "next_ts": 1595606400000,
            "interest": "0", "premium": None,
        }  # fmt: skip
        assert (only("mark-price").price, only("mark-price").ts) == ("9401.55", TS)
        assert field_values(only("index-price"), "inst price open high low") == {
            "inst": "BTC-USD", "price": "9340.76", "open": "9301.68", "high": "9400.4", "low": "9250",
        }  # fmt: skip

    def test_instruments_come_out_of_their_nested_array(self) -> None:
        inverse, linear = records(FRAMES["instruments-futures"], "instruments:business=futures")
        assert field_values(inverse, "inst kind family contract_value contract_currency contract_type lot_size") == {
            "inst": "BTC-USD-200731", "kind": "FUTURES", "family": "BTC-USD", "contract_value": "100",
            "contract_currency": "USD", "contract_type": "inverse", "lot_size": "1",
        }  # fmt: skip
        assert (linear.contract_type, linear.settle, linear.expires_ts) == ("linear", "USDT", 1596153600000)
        option = only("instruments-option")
        assert field_values(option, "kind state option_type strike tick_size lot_size expires_ts") == {
            "kind": "OPTION", "state": "2", "option_type": "C", "strike": "9000", "tick_size": "0.0005",
            "lot_size": "1.0000", "expires_ts": 1601020800000,
        }  # fmt: skip

    def test_natives_are_whole(self) -> None:
        price = only("native-estimated-price")
        assert (price.channel, price.inst, price.ts) == ("futures/estimated_price", "BTC-USD-200724", TS)
        assert price.data == json.loads(FRAMES["native-estimated-price"])
        summary = only("native-summary")
        assert (summary.inst, len(summary.data["data"])) == ("BTC-USD", 2)


class TestUserData:
    def test_a_spot_order_between_two_fills(self) -> None:
        order = only("orders-spot")
        assert field_values(order, "inst account ts id client_id side position_side kind price size state filled") == {
            "inst": "BTC-USDT", "account": "main", "ts": TS, "id": "5479000001", "client_id": "mine1", "side": "sell",
            "position_side": None, "kind": "post_only", "price": "9341.2", "size": "0.02",
            "state": "partially_filled", "filled": "0.01",
        }  # fmt: skip
        assert field_values(order, "average trade_id fill_price fill_size fill_ts fee fee_currency created_ts") == {
            "average": None, "trade_id": "33400", "fill_price": "9341.2", "fill_size": "0.01", "fill_ts": TS,
            "fee": "-0.0066", "fee_currency": "USDT", "created_ts": TS - 16,
        }  # fmt: skip
        assert order.extra == {
            "event_code": "0", "filled_notional": "93.412", "margin_trading": "1", "notional": "", "order_type": "1",
            "state": "1", "status": "part_filled", "type": "limit",
        }  # fmt: skip

    def test_an_order_of_before_states_had_numbers(self) -> None:
        order = only("orders-2019")
        assert (order.state, order.kind, order.trade_id, order.created_ts) == ("canceled", "limit", None, None)

    def test_a_contract_order_says_its_side_by_type(self) -> None:
        order = only("orders-futures")
        assert (order.side, order.position_side, order.kind, order.state) == ("buy", "short", "limit", "live")
        assert (order.trade_id, order.fill_price, order.fill_ts, order.filled) == (None, None, None, "0")
        assert (order.extra["type"], order.extra["leverage"], order.extra["status"]) == ("4", "20", "0")

    def test_an_option_order_says_its_side_itself(self) -> None:
        order = only("orders-option")
        assert (order.inst, order.side, order.state) == ("BTC-USD-200925-9000-C", "buy", "canceled")

    def test_balances_of_each_business(self) -> None:
        names = "inst currency equity cash available frozen"
        assert {name: tuple(field_values(only(name), names).values()) for name in ASKED if name in {
            "account-spot", "account-futures", "account-futures-fixed", "account-swap", "account-option",
        }} == {
            "account-spot": (None, "ETH", None, "2.67", "2.57", "0.1"),
            "account-futures": (None, "BTC", "0.012", "0.0115", "0.011", "0.001"),
            "account-futures-fixed": (None, "BTC", "0.01", "0.01", None, None),
            "account-swap": ("BCH-USD-SWAP", "BCH", "31.7", "31.5", "30.01", "0.2000"),
            "account-option": (None, "BTC", "108.6", "108.5", None, "0.1"),
        }  # fmt: skip
        assert only("account-futures-fixed").extra["contracts"][0]["available_qty"] == "0.01"

    def test_a_margin_account_is_two_currencies_and_a_whole(self) -> None:
        usdt, eth, whole = records(FRAMES["account-margin"], "account:business=margin,ETH-USDT")
        assert [(r.inst, r.currency, r.cash) for r in (usdt, eth, whole)] == [
            ("ETH-USDT", "USDT", "10.3"), ("ETH-USDT", "ETH", "0.02"), ("ETH-USDT", None, None),
        ]  # fmt: skip
        assert eth.extra == {"borrowed": "0.01", "lending_fee": "0.0000001"}
        assert whole.extra == {"liquidation_price": "4.6", "tiers": "1", "maint_margin_ratio": "0.08"}

    def test_a_futures_position_is_parted_in_long_and_short(self) -> None:
        names = "side size available average unrealized leverage margin_mode liquidation"
        cross = records(FRAMES["positions-futures"], ASKED["positions-futures"][0])
        fixed = records(FRAMES["positions-futures-fixed"], ASKED["positions-futures-fixed"][0])
        assert [tuple(field_values(position, names).values()) for position in (*cross, *fixed)] == [
            ("long", "3", "1", "9195.6", "0.25", "10", "crossed", "7011.5"),
            ("short", "0", "0", "9868", "0.0", "10", "crossed", "7011.5"),
            ("long", "3", "1", "9195.6", "0.25", "10", "fixed", "8011.5"),
            ("short", "2", "2", "9868", "-0.1", "20", "fixed", "10800"),
        ]
        assert cross[0].extra == {
            "long_settlement_price": "9195.6", "realised_pnl": "0.1", "created_at": "2020-07-06T03:39:50.019Z",
            "updated_at": "2020-07-24T09:41:05.316Z", "long_margin": "0.1", "long_pnl": "0.2", "last": "9400.1",
        }  # fmt: skip

    def test_a_swap_position_is_one_record_a_holding(self) -> None:
        held, none = only("positions-swap"), only("positions-swap-none")
        assert (held.inst, held.side, held.size, held.margin_mode, held.ts) == (
            "BCH-USD-SWAP", "long", "1501", "crossed", TS,
        )  # fmt: skip
        assert (none.inst, none.side, none.size) == ("BCH-USD-SWAP", None, None)

    def test_an_option_position_is_found_by_its_underlying(self) -> None:
        position = only("positions-option")
        assert (position.inst, position.size, position.available, position.ts) == (
            "BTC-USD-200925-9000-C", "20", "19", TS,
        )  # fmt: skip


class TestTimes:
    def test_times_are_exact(self) -> None:
        assert millis("2021-04-17T16:49:46.174Z") == 1618678186174
        assert millis("1970-01-01T00:00:00.000Z") == 0
        assert millis("2020-02-29T23:59:59.999Z") == 1583020799999
        assert millis("2019-01-15T13:55:29Z") == 1547560529000
        assert millis("2019-11-15") == 1573776000000
        assert millis("") is None
        assert millis(None) is None

    @given(st.integers(min_value=-(10**12), max_value=4 * 10**12))
    def test_every_time_comes_back(self, ms: int) -> None:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
        assert millis(moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z") == ms

    @pytest.mark.parametrize(
        "value",
        [
            "2021-04-17T16:49:46.1 4Z", "2021-04-17T16:49:46.+14Z", "2021-04-17T16:49:61.174Z",
            "2021-02-30T16:49:46.174Z", "2021-04-17 16:49:46.174Z", "2021-04-17T16:49:46.174+", "yesterday",
            "2021-04-17T16:49:46.1\u0664\u0664Z", "+021-04-17T16:49:46.174Z", "2021-W15-6T16:49:46.174Z",
        ],
    )  # fmt: skip
    def test_bad_times_are_decode_errors(self, value: str) -> None:
        with pytest.raises(ValueError):
            millis(value)
        frame = FRAMES["trades-option"].replace(b"2020-07-24T09:41:05.316Z", value.encode())
        with pytest.raises(DecodeError):
            records(frame, ASKED["trades-option"][0])


class TestRoute:
    def test_a_route_is_equal_for_one_subscription_and_different_between_two(self) -> None:
        routes = {name: v3.route(frame) for name, frame in FRAMES.items()}
        assert routes["book-snapshot"] == routes["book-update"] == routes["book-empty-update"] is not None
        keys = {route: v3.traits(subscription(ASKED[name][0])).key for name, route in routes.items() if route}
        assert len({*keys.values()}) == len(keys)

    @pytest.mark.parametrize(
        "name", ["event-subscribe", "trades-two-instruments", "orders-spot", "account-spot", "native-status"]
    )
    def test_what_takes_a_full_read_has_no_route(self, name: str) -> None:
        assert v3.route(FRAMES[name]) is None

    def test_pong_has_no_route(self) -> None:
        assert v3.route(b"pong") is None


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def replaced(frame: Any, path: tuple[Any, ...], value: Any) -> Any:
    frame = copy.deepcopy(frame)
    inner = frame
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return frame


def survive(text: bytes, asked: str) -> None:
    """Records or DecodeError, and every record encodes."""
    v3.route(text)
    with suppress(DecodeError):
        for message in v3.read(text):
            if isinstance(message, Push):
                decode = v3.decoder(subscription(asked), "okex-v3")
                with suppress(DecodeError):
                    for record in decode(message.payload, RECV):
                        assert_well_formed(record)


class TestFuzz:
    @given(JSON)
    def test_any_json_is_messages_or_a_decode_error(self, value: Any) -> None:
        survive(json.dumps(value).encode(), "ticker:BTC-USDT")

    @given(st.binary(max_size=60))
    def test_any_bytes_are_messages_or_a_decode_error(self, text: bytes) -> None:
        survive(text, "ticker:BTC-USDT")

    @settings(max_examples=200)
    @given(name=st.sampled_from(sorted(ASKED)), data=st.data())
    def test_a_changed_frame_is_records_or_a_decode_error(self, name: str, data: Any) -> None:
        frame = json.loads(FRAMES[name])
        for _ in range(data.draw(st.integers(1, 3))):
            frame = replaced(frame, data.draw(st.sampled_from(places(frame))), data.draw(JSON))
        survive(json.dumps(frame).encode(), ASKED[name][0])

    @pytest.mark.parametrize("name", ["book-snapshot", "book-2019-numbers", "orders-spot", "event-error-channel"])
    @given(data=st.data())
    def test_changed_bytes_are_records_or_a_decode_error(self, name: str, data: Any) -> None:
        frame = bytearray(FRAMES[name])
        for _ in range(data.draw(st.integers(1, 4))):
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        survive(bytes(frame[: data.draw(st.integers(1, len(frame)))]), ASKED.get(name, ("ticker:BTC-USDT", 0))[0])


OURS = {own: ours for ours, own in v3.CHANNELS.items()}


class TestRecordings:
    @pytest.mark.parametrize("folder", ["okex-v3", "okcoin-v3"])
    def test_every_public_frame_inflates_and_decodes(self, recordings: Path, folder: str) -> None:
        """Counts of records equal what the frames hold, channel by channel; nothing is unknown."""
        held: Counter[str] = Counter()
        found: Counter[str] = Counter()
        decoders: dict[str, Any] = {}
        for line in (recordings / folder / "2021-04-public.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["dir"] != "recv":
                continue
            text = inflate(base64.b64decode(event["b64"]))
            assert text.decode() == event["text"]
            plain = json.loads(text)
            for message in v3.read(text):
                assert isinstance(message, (Push, Ack))
                if isinstance(message, Ack):
                    assert plain == {"event": "subscribe", "channel": message.key}
                    continue
                held[plain["table"]] += len(plain["data"])
                assert v3.route(text) == message.key.encode()
                table, _, inst = message.key.partition(":")
                sub = subscription(f"{OURS[table.partition('/')[2]]}:{inst}")
                assert v3.traits(sub).key == message.key
                decode = decoders.setdefault(message.key, v3.decoder(sub, folder))
                for record in decode(message.payload, RECV):
                    assert_well_formed(record)
                    assert record.inst == inst
                    found[table] += 1
        assert found == held
        assert sum(held.values()) > 300

    @pytest.mark.parametrize("name", ["okex-v3/2019-01-orders.jsonl", "okcoin-v3/2020-08-user.jsonl"])
    def test_every_user_push_decodes(self, recordings: Path, name: str) -> None:
        lines = [line for line in (recordings / name).read_text().splitlines() if line]
        assert lines
        for line in lines:
            (push,) = v3.read(line.encode())
            assert isinstance(push, Push)
            table, _, item = push.key.partition(":")
            asked = f"orders:{item}" if table.endswith("order") else f"account:business=spot,currency={item}"
            (record,) = records(line.encode(), asked)
            row = json.loads(line)["data"][0]
            assert getattr(record, "id", None) == row.get("order_id")

    def test_the_malformed_frame_is_one_declared_error(self, recordings: Path) -> None:
        captures = json.loads((recordings / "okex-v1/captures.json").read_text())
        (frame,) = [bytes.fromhex(item["hex"]) for item in captures if not item.get("deflate_stream_complete", True)]
        with pytest.raises((InflateError, DecodeError)):
            v3.read(inflate(frame))


def test_the_dialect_is_in_the_table() -> None:
    assert load("okex-v3") is v3
