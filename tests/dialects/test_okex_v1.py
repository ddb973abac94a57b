"""OKEx and OKCoin v1: what is asked, what is read, and that nothing else ever comes out."""

import copy
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args, get_type_hints

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from okstream.channels import parse
from okstream.dialects import Ack, LoginReply, Other, Pong, Push, Refusal, load
from okstream.dialects import okex_v1 as v1
from okstream.dialects.okex_v1_rows import near
from okstream.dialects.signing import Credentials
from okstream.encoding import encode
from okstream.errors import ConfigError, DecodeError
from okstream.inflate import inflate

FRAMES = {
    path.stem: path.read_bytes().strip() for path in (Path(__file__).parents[1] / "frames/okex-v1").glob("*.json")
}
# What each frame of data was asked for with, and how many records it holds.
ASKED = {
    "ticker": ("ticker:BTC-USDT", 1),
    "ticker-futures": ("ticker:BTC-USD-THIS-WEEK", 1),
    "trades": ("trades:BTC-USDT", 2),
    "trades-futures": ("trades:BTC-USD-QUARTER", 1),
    "book": ("book:BTC-USDT", 1),
    "book5": ("book5:BTC-USDT", 1),
    "book-futures-numbers": ("book:BTC-USD-QUARTER", 1),
    "candle-1m": ("candle-1m:BTC-USDT", 2),
    "candle-1D-futures": ("candle-1D:BTC-USD-THIS-WEEK", 1),
    "index-price": ("index-price:BTC-USD", 1),
    "mark-price": ("mark-price:BTC-USD-THIS-WEEK", 1),
    "orders": ("orders:BCH-BTC", 1),
    "account": ("account:BCH-BTC", 1),
    "orders-futures": ("orders:business=futures", 1),
    "account-futures": ("account:business=futures", 1),
    "account-futures-fixed": ("account:business=futures", 1),
    "positions-cross": ("positions:business=futures", 2),
    "positions-fixed": ("positions", 1),
    "positions-none": ("positions", 1),
    "native-trade-answer": ("ok_spotusd_trade", 1),
    "ticker-2014": ("ok_btcusd_ticker", 1),
    "book-2014": ("ok_btcusd_depth", 1),
    "trades-2014": ("ok_btcusd_trades_v1", 1),
    "candle-2014": ("ok_btcusd_kline_1min", 1),
}
TS = 1532425265316  # 2018-07-24 17:41:05.316 in UTC+8
RECV = 1_532_425_265_400_000_000


def subscription(text: str) -> Any:
    (sub,) = parse(text, "main")
    return sub


def assert_well_formed(record: Any) -> None:
    """Every field holds a type that its declaration allows, and the record can be written."""
    for name, hint in get_type_hints(type(record)).items():
        value = getattr(record, name, None)
        if name in {"bids", "asks"}:
            assert all(type(row) is list and {*map(type, row)} == {str} for row in value)
        elif name not in {"extra", "data"}:
            assert type(value) in (get_args(hint) or (hint,)), (name, value)
    assert orjson.loads(encode(record))["type"] == record.type


def records(frame: bytes, asked: str, recv: int = RECV) -> list[Any]:
    """Read one frame as data of `asked` and nothing else."""
    sub = subscription(asked)
    (push,) = v1.read(frame)
    assert isinstance(push, Push)
    assert push.key == v1.traits(sub).key
    found = v1.decoder(sub, "okex-v1")(push.payload, recv)
    for record in found:
        assert_well_formed(record)
    return found


def only(name: str) -> Any:
    (record,) = records(FRAMES[name], ASKED[name][0])
    return record


def field_values(record: Any, names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names.split()}


def push_of(name: str, data: Any) -> bytes:
    return json.dumps([{"binary": 0, "channel": name, "data": data}]).encode()


class TestRequests:
    def test_one_subscription_is_one_object_and_several_an_array(self) -> None:
        one, two = subscription("ticker:BTC-USDT"), subscription("trades:BTC-USD-THIS-WEEK")
        assert v1.request("subscribe", [one], "7") == b'{"event":"addChannel","channel":"ok_sub_spot_btc_usdt_ticker"}'
        assert orjson.loads(v1.request("unsubscribe", [one, two], "8")) == [
            {"event": "removeChannel", "channel": "ok_sub_spot_btc_usdt_ticker"},
            {"event": "removeChannel", "channel": "ok_sub_futureusd_btc_trade_this_week"},
        ]

    def test_sizes_are_no_less_than_a_request(self) -> None:
        subs = [subscription(text) for text in ("ticker:BTC-USDT", "trades:BTC-USD-THIS-WEEK")]
        for op in ("subscribe", "unsubscribe"):
            assert sum(map(v1.size, subs)) >= len(v1.request(op, subs, "")) - 1  # type: ignore[arg-type]

    def test_login_is_signed_with_md5(self) -> None:
        asked = orjson.loads(v1.login(Credentials("c821db84-6fbd-11e4-a9e3-c86000d26d7c", "secretKey"), 0))
        assert asked == {
            "event": "login",
            "parameters": {
                "api_key": "c821db84-6fbd-11e4-a9e3-c86000d26d7c",
                "sign": "E866BBB88E0E685D3F4BBC2723E2CAF9",
            },
        }

    def test_a_key_with_a_passphrase_signs_as_v3_does(self) -> None:
        asked = orjson.loads(v1.login(Credentials("K", "secret", "P"), 1538054050975))
        assert asked == {
            "event": "login",
            "parameters": {
                "api_key": "K",
                "timestamp": "1538054050.975",
                "passphrase": "P",
                "sign": "DgKNU9uKoPJG46YwbcAFln7Tc3z9O96ErLmt10USdMM=",
            },
        }

    def test_ping_is_an_event(self) -> None:
        assert v1.ping() == b'{"event":"ping"}'


class TestSubscriptions:
    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ("ticker:BTC-USDT", "ok_sub_spot_btc_usdt_ticker"),
            ("ticker:BTC-USD-NEXT-WEEK", "ok_sub_futureusd_btc_ticker_next_week"),
            ("trades:BTC-USDT", "ok_sub_spot_btc_usdt_deals"),
            ("trades:LTC-USD-QUARTER", "ok_sub_futureusd_ltc_trade_quarter"),
            ("book:BTC-USD-THIS-WEEK", "ok_sub_futureusd_btc_depth_this_week"),
            ("book20:BTC-USD-THIS-WEEK", "ok_sub_futureusd_btc_depth_this_week_20"),
            ("book10:BTC-USDT", "ok_sub_spot_btc_usdt_depth_10"),
            ("candle-3D:BTC-USDT", "ok_sub_spot_btc_usdt_kline_3day"),
            ("candle-1W:BTC-USD-QUARTER", "ok_sub_futureusd_btc_kline_quarter_week"),
            ("index-price:BTC-USD", "ok_sub_futureusd_btc_index"),
            ("mark-price:BTC-USD-QUARTER", "ok_sub_futureusd_btc_markprice_quarter"),
            ("orders:BTC-USDT", "ok_sub_spot_btc_usdt_order"),
            ("account:BTC-USDT", "ok_sub_spot_btc_usdt_balance"),
            ("orders:business=futures", "ok_sub_futureusd_trades"),
            ("account:business=futures", "ok_sub_futureusd_userinfo"),
            ("positions", "ok_sub_futureusd_positions"),
            ("ok_spotcny_userinfo", "ok_spotcny_userinfo"),
        ],
    )
    def test_the_key_is_the_name_of_the_channel(self, text: str, key: str) -> None:
        traits = v1.traits(subscription(text))
        assert (traits.key, traits.path) == (key, "main")

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("ticker", "write ticker:BTC-USDT"),
            ("ticker:BTC-USDT-191227", "does not exist"),
            ("ticker:btc_usdt", "write ticker:BTC-USDT"),
            ("ticker:BTC-USDT,foo=1", "nothing beside an instrument"),
            ("mark-price:BTC-USDT", "mark-price:BTC-USD-THIS-WEEK"),
            ("index-price:BTC-USD-QUARTER", "index-price:BTC-USD"),
            ("positions:BTC-USD-QUARTER", "positions:business=futures"),
            ("orders", "orders:business=futures"),
            ("account:business=option", "account:business=futures"),
            ("funding:BTC-USDT", "It has: account"),
            ("tickers:BTC-USDT", "Did you mean 'ticker'"),
            ("ok_btcusd_ticker:BTC-USD", "write it without BTC-USD"),
        ],
    )
    def test_what_cannot_be_asked_says_how_to_ask(self, text: str, part: str) -> None:
        with pytest.raises(ConfigError) as error:
            v1.traits(subscription(text))
        assert part in str(error.value)

    @pytest.mark.parametrize("asked", [asked for asked, _ in ASKED.values()])
    def test_user_channels_need_a_login_and_no_other_does(self, asked: str) -> None:
        assert v1.traits(subscription(asked)).login is asked.startswith(("orders", "account", "positions"))

    @pytest.mark.parametrize(
        ("text", "first", "cached", "incremental"),
        [
            ("book:BTC-USDT", True, False, True),
            ("book5:BTC-USDT", True, False, False),
            ("ok_btccny_depth", True, False, False),
            ("ok_sub_spotusd_btc_depth", True, False, True),
            ("trades:BTC-USDT", True, True, False),
            ("ticker:BTC-USDT", False, False, False),
            ("orders:BTC-USDT", False, False, False),
            ("ok_spotcny_trade", False, False, False),
        ],
    )
    def test_traits_of_channels(self, text: str, first: bool, cached: bool, incremental: bool) -> None:
        traits = v1.traits(subscription(text))
        assert (traits.first_push, traits.cached, traits.incremental) == (first, cached, incremental)

    @pytest.mark.parametrize(
        ("name", "kind", "inst"),
        [
            ("ok_ltccny_ticker", "ticker", "LTC-CNY"),
            ("ok_btccny_depth60", "book", "BTC-CNY"),
            ("ok_btccny_trades", "trade", "BTC-CNY"),
            ("ok_btccny_kline_12hour", "candle", "BTC-CNY"),
            ("ok_btcusd_future_ticker_this_week", "ticker", "BTC-USD-THIS-WEEK"),
            ("ok_btcusd_future_depth_next_week_20", "book", "BTC-USD-NEXT-WEEK"),
            ("ok_btcusd_future_trade_v1_quarter", "trade", "BTC-USD-QUARTER"),
            ("ok_future_btcusd_kline_this_week_1min", "candle", "BTC-USD-THIS-WEEK"),
            ("ok_btcusd_future_index", "index_price", "BTC-USD"),
            ("ok_sub_spotusd_btc_ticker", "ticker", "BTC-USD"),
            ("ok_sub_spotcny_btc_trades", "trade", "BTC-CNY"),
            ("ok_sub_spotusd_btc_depth_60", "book", "BTC-USD"),
            ("ok_sub_spotusd_btc_kline_1min", "candle", "BTC-USD"),
            ("ok_sub_futureusd_btc_depth_this_week_60", "book", "BTC-USD-THIS-WEEK"),
            ("ok_sub_spot_btc_usdt_ticker", "ticker", "BTC-USDT"),
        ],
    )
    def test_names_of_every_generation_have_their_normalised_form(self, name: str, kind: str, inst: str) -> None:
        data = {
            "ticker": {"last": 1, "buy": 1, "sell": 2, "vol": 3},
            "book": {"asks": [[2, 1], [1, 1]], "bids": []},
            "trade": [["1", "2", "3", "17:41:05", "bid"]],
            "candle": [1, 2, 3, 4, 5, 6],
            "index_price": {"futureIndex": "1"},
        }[kind]
        (record,) = records(push_of(name, data), name)
        assert (record.type, record.inst, record.channel) == (kind, inst, name)


class TestReplies:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("event-subscribe", Ack("subscribe", "ok_sub_spot_btc_usdt_ticker")),
            ("event-unsubscribe", Ack("unsubscribe", "ok_sub_spot_btc_usdt_ticker")),
            ("event-login", LoginReply(True)),
            ("event-login-refused", LoginReply(False, "20102", "Invalid logon.")),
            ("event-refused", Refusal("20116", "param not match.", "ok_sub_spot_btc_usd_tickr")),
            ("event-refused-nameless", Refusal("20103", "The subscription event type is invalid.")),
            ("event-pong", Pong()),
            ("event-success-2014", Ack("subscribe", "ok_usd_realtrades")),
            ("event-refused-2014", Refusal("10015", "", "ok_usd_realtrades")),
        ],
    )
    def test_what_each_reply_means(self, name: str, message: Any) -> None:
        assert v1.read(FRAMES[name]) == [message]

    def test_true_may_be_text(self) -> None:
        frame = FRAMES["event-subscribe"].replace(b"true", b'"true"')
        assert v1.read(frame) == v1.read(FRAMES["event-subscribe"])
        assert v1.read(b'[{"channel":"login","data":{"result":"true"}}]') == [LoginReply(True)]
        assert v1.read(b'[{"channel":"ok_sub_futureusd_trades","data":{"result":"true"}}]') == [
            Ack("subscribe", "ok_sub_futureusd_trades")
        ]

    def test_acknowledgements_come_twice_at_times(self) -> None:
        twice = b"[" + FRAMES["event-subscribe"][1:-1] + b"," + FRAMES["event-subscribe"][1:-1] + b"]"
        assert v1.read(twice) == [Ack("subscribe", "ok_sub_spot_btc_usdt_ticker")] * 2

    def test_an_acknowledgement_may_refuse(self) -> None:
        frame = push_of("addChannel", {"result": False, "channel": "ok_x", "error_code": 20116, "error_msg": "no"})
        assert v1.read(frame) == [Refusal("20116", "no", "ok_x")]

    def test_a_login_may_be_refused_with_its_channel(self) -> None:
        frame = push_of("login", {"result": False, "error_code": 10005})
        assert v1.read(frame) == [LoginReply(False, "10005")]

    def test_one_frame_may_hold_several_messages(self) -> None:
        frame = b"[" + b",".join(FRAMES[name][1:-1] for name in ("event-subscribe", "ticker", "nameless")) + b"]"
        assert [type(message) for message in v1.read(frame)] == [Ack, Push, Other]

    def test_an_element_without_channel_is_tolerated(self) -> None:
        (other,) = v1.read(FRAMES["nameless"])
        assert isinstance(other, Other)
        assert not other.known

    def test_an_empty_array_is_of_no_consequence(self) -> None:
        (other,) = v1.read(b"[]")
        assert isinstance(other, Other)
        assert other.known

    def test_a_forecast_is_pushed_under_its_own_name(self) -> None:
        (push,) = v1.read(FRAMES["native-forecast"])
        assert isinstance(push, Push)
        assert push.key == "btc_forecast_price"

    @pytest.mark.parametrize(
        "junk",
        [
            b"", b"pong", b"null", b"1", b'"x"', b"[1]", b"[[]]", b'[{"channel":1}]', b'[{"channel":[],"data":{}}]',
            b'[{"channel":"ok_x"}]', b'[{"channel":"addChannel","data":{"result":true}}]', b"\xff", b"[NaN]",
            b'[{"channel":"addChannel"}]', b"[" * 5000 + b"]" * 5000,
        ],
    )  # fmt: skip
    def test_junk_raises_decode_error(self, junk: bytes) -> None:
        with pytest.raises(DecodeError):
            v1.read(junk)


class TestData:
    @pytest.mark.parametrize("name", ASKED)
    def test_every_frame_decodes_to_its_records(self, name: str) -> None:
        asked, count = ASKED[name]
        assert len(records(FRAMES[name], asked)) == count

    def test_every_frame_has_a_test(self) -> None:
        rest = {name for name in FRAMES if name not in ASKED and not name.startswith("event-")}
        assert rest == {"nameless", "native-forecast"}

    def test_a_ticker(self) -> None:
        assert field_values(only("ticker"), "inst ts last bid ask open high low volume turnover last_size") == {
            "inst": "BTC-USDT", "ts": TS, "last": "8190.33", "bid": "8190", "ask": "8190.4", "open": "7890.23",
            "high": "8300", "low": "7700.5", "volume": "31800.92", "turnover": None, "last_size": None,
        }  # fmt: skip
        futures = only("ticker-futures")
        assert (futures.inst, futures.ts, futures.volume, futures.open) == ("BTC-USD-THIS-WEEK", None, "1563001", None)

    @pytest.mark.parametrize(
        ("sent", "delivered"),
        [
            ("49,020.30", "49020.30"), ("1,049,020", "1049020"), ("49020.30", "49020.30"), ("1E-8", "1E-8"),
            ("4,9020", "4,9020"), ("0.10", "0.10"),
        ],
    )  # fmt: skip
    def test_grouping_commas_are_the_only_change_to_text(self, sent: str, delivered: str) -> None:
        frame = push_of("ok_btcusd_ticker", {"last": "1", "buy": "1", "sell": "2", "vol": sent})
        (ticker,) = records(frame, "ok_btcusd_ticker")
        assert ticker.volume == delivered

    def test_trades_and_their_times(self) -> None:
        first, second = records(FRAMES["trades"], "trades:BTC-USDT")
        assert field_values(first, "inst ts id price size side count") == {
            "inst": "BTC-USDT", "ts": TS - 316, "id": "410020001", "price": "8190.3", "size": "0.0413",
            "side": "sell", "count": None,
        }  # fmt: skip
        assert (second.ts, second.side) == (TS - 316 + 1000, "buy")
        assert only("trades-futures").size == "2400.0"

    def test_books_come_out_best_first(self) -> None:
        book = only("book")
        assert book.asks == [["8190.4", "0.23"], ["8191.5", "1E-8"], ["8192", "3"]]
        assert book.bids == [["8190", "0.8"], ["8189.1", "0.17"]]
        assert (book.ts, book.seq, book.prev, book.checksum) == (TS, None, None, None)

    def test_prices_are_compared_as_decimals_not_as_text(self) -> None:
        book = only("book-futures-numbers")
        assert [row[0] for row in book.asks] == ["9199.20", "10000"]
        frame = push_of("ok_sub_spot_btc_usdt_depth", {"asks": [["2E-8", "1"], ["1.5E-7", "1"]], "bids": []})
        (kept,) = records(frame, "book:BTC-USDT")
        assert [row[0] for row in kept.asks] == ["2E-8", "1.5E-7"]

    def test_bids_that_come_with_the_best_last_are_turned_too(self) -> None:
        frame = push_of("ok_sub_spot_btc_usdt_depth", {"bids": [["9", "1"], ["10", "1"]]})
        (book,) = records(frame, "book:BTC-USDT")
        assert (book.bids, book.asks) == ([["10", "1"], ["9", "1"]], [])

    def test_numbers_keep_their_text(self) -> None:
        book = only("book-futures-numbers")
        assert book.asks[0] == ["9199.20", "150", "1.8", "3.6", "803"]
        assert book.bids == [["8193.10", "18", "0.21", "0.21", "18"]]

    def test_the_first_book_after_a_subscribe_is_the_snapshot(self) -> None:
        sub = subscription("book:BTC-USDT")
        (push,) = v1.read(FRAMES["book"])
        assert isinstance(push, Push)
        decode, again = v1.decoder(sub, "x"), v1.decoder(sub, "x")
        actions = [record.action for _ in range(3) for record in decode(push.payload, RECV)]  # type: ignore[union-attr]
        assert actions == ["snapshot", "update", "update"]
        assert again(push.payload, RECV)[0].action == "snapshot"  # type: ignore[union-attr]

    def test_a_bad_first_book_does_not_make_the_next_one_an_update(self) -> None:
        decode = v1.decoder(subscription("book:BTC-USDT"), "x")
        with pytest.raises(DecodeError):
            decode({"data": {"asks": [["x", "1"], ["y", "1"]]}}, RECV)
        assert decode({"data": {"asks": [["1", "1"]]}}, RECV)[0].action == "snapshot"  # type: ignore[union-attr]

    @pytest.mark.parametrize("name", ["book5", "book-2014"])
    def test_whole_books_are_always_snapshots(self, name: str) -> None:
        (push,) = v1.read(FRAMES[name])
        assert isinstance(push, Push)
        decode = v1.decoder(subscription(ASKED[name][0]), "x")
        actions = [decode(push.payload, RECV)[0].action for _ in range(2)]  # type: ignore[union-attr]
        assert actions == ["snapshot"] * 2

    def test_candles_nested_and_flat(self) -> None:
        first, _ = records(FRAMES["candle-1m"], "candle-1m:BTC-USDT")
        assert field_values(first, "ts open high low close volume turnover closed") == {
            "ts": 1532425200000, "open": "8180.1", "high": "8190.5", "low": "8180", "close": "8190.3",
            "volume": "52.7", "turnover": None, "closed": None,
        }  # fmt: skip
        assert only("candle-1D-futures").turnover == "6758.01"
        assert (only("candle-2014").ts, only("candle-2014").volume) == (1411718040000, "34.24")

    def test_index_and_mark(self) -> None:
        assert (only("index-price").inst, only("index-price").price, only("index-price").ts) == (
            "BTC-USD", "8188.04", TS,
        )  # fmt: skip
        assert (only("mark-price").inst, only("mark-price").price, only("mark-price").ts) == (
            "BTC-USD-THIS-WEEK", "8192.35", TS,
        )  # fmt: skip

    def test_natives_are_whole(self) -> None:
        native = only("native-trade-answer")
        assert (native.type, native.data) == ("native", json.loads(FRAMES["native-trade-answer"])[0])


class TestUserData:
    def test_a_spot_order_is_told_by_its_channel_not_its_type(self) -> None:
        order = only("orders")
        assert field_values(order, "inst account ts id side kind price size state filled average created_ts") == {
            "inst": "BCH-BTC", "account": "main", "ts": None, "id": "6200", "side": "buy", "kind": "limit",
            "price": "0.10000000", "size": "1.00000000", "state": "partially_filled", "filled": "0.25000000",
            "average": "0.1", "created_ts": TS,
        }  # fmt: skip
        assert order.extra == {
            "base": "bch", "product": "spot", "quote": "btc", "type": "balance", "tradePrice": "0.02500000",
            "tradeType": "buy", "status": "1",
        }  # fmt: skip

    def test_a_market_order(self) -> None:
        frame = FRAMES["orders"].replace(b'"tradeType":"buy"', b'"tradeType":"sell_market"')
        (order,) = records(frame, "orders:BCH-BTC")
        assert (order.side, order.kind) == ("sell", "market")

    def test_a_spot_balance_is_one_record_a_currency(self) -> None:
        balance = only("account")
        assert field_values(balance, "inst currency available frozen cash") == {
            "inst": "BCH-BTC", "currency": "BTC", "available": "5814.850605790395", "frozen": "7341", "cash": None,
        }  # fmt: skip

    def test_a_futures_order_says_its_side_by_type(self) -> None:
        order = only("orders-futures")
        assert field_values(order, "inst id side position_side price size state filled average fee created_ts") == {
            "inst": "LTC-USD-QUARTER", "id": "1058800000001", "side": "sell", "position_side": "long",
            "price": "82.5", "size": "3.0", "state": "partially_filled", "filled": "1.0", "average": "82.5",
            "fee": "-0.001", "created_ts": TS,
        }  # fmt: skip
        assert order.extra["lever_rate"] == "10.0"

    def test_futures_balances_cross_and_fixed(self) -> None:
        cross, fixed = only("account-futures"), only("account-futures-fixed")
        assert (cross.currency, cross.cash, cross.extra["keep_deposit"]) == ("LTC", "0.0809", "0.0142")
        assert (fixed.currency, fixed.cash, fixed.extra["contracts"][0]["available"]) == ("LTC", "10.16", "6.5")

    def test_positions_cross_and_fixed(self) -> None:
        names = "inst id side size available average leverage margin_mode liquidation currency action"
        cross = records(FRAMES["positions-cross"], "positions")
        assert [tuple(field_values(row, names).values()) for row in (*cross, only("positions-fixed"))] == [
            ("LTC-USD-180928", "938193000001", "long", "2.0", "1.0", "82.05", None, "crossed", None, "LTC", "snapshot"),
            ("LTC-USD-180928", "938193000002", "short", "0.0", "0.0", "0.0", None, "crossed", None, "LTC", "snapshot"),
            ("LTC-USD-180928", "27864001", "short", "4.0", "4.0", "80.0", "20", "fixed", "91.5", "LTC", "snapshot"),
        ]
        assert cross[0].extra["costprice"] == "73.4"

    def test_nothing_held_is_one_record_without_a_side(self) -> None:
        none = only("positions-none")
        assert (none.inst, none.side, none.size, none.currency) == (None, None, None, "LTC")

    def test_a_contract_whose_id_and_name_disagree_is_not_guessed(self) -> None:
        frame = FRAMES["positions-cross"].replace(b"LTC0928", b"LTC1228")
        assert {row.inst for row in records(frame, "positions")} == {None}


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


class TestTimesOfDay:
    @pytest.mark.parametrize(
        ("clock", "arrived", "meant"),
        [
            ("17:41:05", "2018-07-24T09:41:06", "2018-07-24T09:41:05"),
            ("23:59:59", "2018-07-24T16:00:01", "2018-07-24T15:59:59"),  # midnight in UTC+8 passed on the way
            ("00:00:01", "2018-07-24T15:59:59", "2018-07-24T16:00:01"),  # our clock is behind theirs
            ("08:00:00", "2018-07-24T00:00:00", "2018-07-24T00:00:00"),
            ("07:59:58", "2018-07-24T00:00:02", "2018-07-23T23:59:58"),
            ("21:00:00", "2018-07-24T20:00:00", "2018-07-24T13:00:00"),
            ("23:00:00", "2018-12-31T16:00:05", "2018-12-31T15:00:00"),
        ],
    )
    def test_the_date_is_the_one_nearest_to_the_arrival(self, clock: str, arrived: str, meant: str) -> None:
        assert near(clock, ns(arrived) + 250_000_000) == ns(meant) // 10**6

    @given(st.integers(0, 2**40), st.integers(-43_000, 43_000))
    def test_a_clock_within_half_a_day_is_found_again(self, second: int, off: int) -> None:
        shown = datetime.fromtimestamp(second % (86400 * 20000) + 8 * 3600 + 86400, tz=UTC)
        true = (second % (86400 * 20000) + 86400) * 1000
        assert near(f"{shown:%H:%M:%S}", (true + off * 1000) * 10**6) == true

    @pytest.mark.parametrize("clock", ["24:00:00", "17:41", "17:41:60", "", None, "7:41:05", "17:41:05Z", "+7:41:05"])
    def test_bad_times_are_decode_errors(self, clock: Any) -> None:
        with pytest.raises(DecodeError):
            records(push_of("ok_sub_spot_btc_usdt_deals", [["1", "2", "3", clock, "bid"]]), "trades:BTC-USDT")


class TestRoute:
    def test_a_route_is_the_channel(self) -> None:
        routed = {name: v1.route(frame) for name, frame in FRAMES.items()}
        for name, token in routed.items():
            if token is not None and name in ASKED:
                assert token.decode() == v1.traits(subscription(ASKED[name][0])).key
        assert {name for name in ASKED if routed[name] is None} == {"mark-price", "native-trade-answer"}

    @pytest.mark.parametrize("name", [name for name in FRAMES if name.startswith(("event-", "nameless"))])
    def test_replies_have_no_route(self, name: str) -> None:
        assert v1.route(FRAMES[name]) is None

    def test_several_messages_have_no_route(self) -> None:
        assert v1.route(b"[" + FRAMES["ticker"][1:-1] + b"," + FRAMES["book"][1:-1] + b"]") is None


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["1E-8", "1E+99999999", "NaN", "-1", "17:41:05", "true", "9" * 30, "BTC1"])
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
    v1.route(text)
    with suppress(DecodeError):
        for message in v1.read(text):
            if isinstance(message, Push):
                decode = v1.decoder(subscription(asked), "okex-v1")
                for _ in range(2):
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

    @pytest.mark.parametrize("name", ["book-futures-numbers", "trades", "orders-futures", "event-refused"])
    @given(data=st.data())
    def test_changed_bytes_are_records_or_a_decode_error(self, name: str, data: Any) -> None:
        frame = bytearray(FRAMES[name])
        for _ in range(data.draw(st.integers(1, 4))):
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        survive(bytes(frame[: data.draw(st.integers(1, len(frame)))]), ASKED.get(name, ("ticker:BTC-USDT", 0))[0])


# Captures of which only `data` was published, with the channel they belong to.
PARTIAL = {
    "ok_sub_futureusd_X_trade_Y (6 elements)": "ok_sub_futureusd_btc_trade_quarter",
    "ok_sub_futureusd_btc_ticker_* data": "ok_sub_futureusd_btc_ticker_quarter",
    "ok_sub_futureusd_bch_index data": "ok_sub_futureusd_bch_index",
    "ok_sub_futureusd_btc_depth_quarter_5 data (excerpt)": "ok_sub_futureusd_btc_depth_quarter_5",
}


class TestRecordings:
    def test_every_capture_decodes(self, recordings: Path) -> None:
        for item in json.loads((recordings / "okex-v1/captures.json").read_text()):
            if item["kind"] != "message":
                continue
            text = item["text"]
            if item["channel"] in PARTIAL:
                text = f'[{{"channel":"{PARTIAL[item["channel"]]}","data":{text}}}]'
            for message in v1.read(text.encode()):
                assert not isinstance(message, Other), text
                if isinstance(message, Push):
                    data = json.loads(text)[0]["data"]
                    held = data.get("positions", [data]) if isinstance(data, dict) else data
                    found = records(text.encode(), message.key)
                    assert [record.type == "native" for record in found] == [False] * len(held)

    def test_captured_frames_inflate_to_acknowledgements(self, recordings: Path) -> None:
        captures = json.loads((recordings / "okex-v1/captures.json").read_text())
        frames = [item for item in captures if item["kind"] == "raw_frame" and item["deflate_stream_complete"]]
        assert len(frames) == 2
        for item in frames:
            (ack,) = v1.read(inflate(bytes.fromhex(item["hex"])))
            assert isinstance(ack, Ack)
            assert ack.key in item["inflated"]

    def test_every_message_of_okcoin_decodes(self, recordings: Path) -> None:
        found: dict[str, list[str]] = {}
        for path in sorted((recordings / "okcoin-v1").glob("*.json")):
            (message,) = v1.read(path.read_bytes())
            if isinstance(message, Push):
                found[path.stem] = [record.type for record in records(path.read_bytes(), message.key)]
            else:
                assert message == Ack("subscribe", "ok_cny_realtrades")
        assert found == {
            "ok_btccny_depth": ["book"],
            "ok_btccny_kline_1min_first": ["candle", "candle"],
            "ok_btccny_kline_1min_follow": ["candle"],
            "ok_btccny_ticker": ["ticker"],
            "ok_btccny_trades_v1": ["trade"],
            "ok_cny_realtrades": ["order"],
            "ok_spotcny_cancel_order": ["native"],
            "ok_spotcny_order_info": ["native"],
            "ok_spotcny_trade": ["native"],
            "ok_spotcny_userinfo": ["native"],
        }


def test_the_dialect_is_in_the_table() -> None:
    assert load("okex-v1") is v1
