"""One conversation: two of them side by side, silence, what cannot be read, and whatever else arrives."""

import zlib
from dataclasses import replace
from typing import Any

import orjson
import pytest
from airing import BOOK, BREAK, LIQUIDATIONS, ORDERS, TICKER, TRADES, on_air
from exchange import (
    CREDENTIALS,
    LOGIN,
    RECV,
    V1,
    V3,
    Call,
    Consistent,
    ack,
    arg,
    book,
    gaps,
    push,
    records,
    ticker,
    trade,
    trades,
    v1_book,
    v3_book,
    words,
)

from okstream.errors import LinkError
from okstream.venues import V1_LIMITS, V3_LIMITS, V5_LIMITS


class TestTwoSessions:
    """Two connections that carry the same feeds."""

    def both(self, *subs: str) -> tuple[Call, Call]:
        one = on_air(*subs)
        other = Call(feeds=one.feeds)
        other.accept()
        return one, other

    @pytest.mark.parametrize("refused", [0, 1])
    def test_what_one_is_refused_while_the_other_carries_it_goes_on(self, refused: int):
        calls = self.both(TICKER)
        calls[1].hears(ticker(1))
        (key,) = calls[0].feeds
        denied, carries = calls[refused], calls[1 - refused]
        denied.session.settled.clear()
        assert denied.records(ack("unsubscribe", TICKER)) == []
        assert denied.session.settled == []
        (remark,) = denied.session.remarks
        assert TICKER in remark
        assert carries.feeds[key].state == "live"
        assert words(carries.records(ticker(2)) or carries.tick(60.0)) == ["ticker"]
        assert words(carries.records(ack("unsubscribe", TICKER))) == ["open refused", "refused"]

    def test_one_is_closed_and_nothing_is_said(self):
        one, other = self.both(TRADES, TICKER, BOOK)
        assert other.hears(trades(7), ticker(1), book("snapshot", -1, 5)) == []
        assert one.session.closed(one.wall) == []
        assert words(other.records(trades(8), ticker(2), book("update", 5, 6))) == ["trade", "ticker", "book update"]

    def test_a_book_that_breaks_on_one_is_healed_there_unseen(self):
        one, other = self.both(BOOK)
        other.hears(book("snapshot", -1, 5))
        assert one.hears(BREAK) == []
        assert words(other.records(book("update", 5, 9))) == ["book update"]
        one.accept()
        assert one.records(book("snapshot", -1, 9)) == []
        assert other.session.closed(other.wall) == []
        assert words(one.records(book("update", 9, 10))) == ["book update"]


class TestUnasked:
    def test_the_exchange_ends_a_subscription(self):
        call = on_air(TRADES, TICKER)
        said = call.records(ack("unsubscribe", TRADES))
        assert words(said) == ["open refused", "refused"]
        assert call.hears(trades(8)) == []
        assert words(call.records(ticker(2))) == ["ticker"]

    def test_too_many_connections_of_one_channel(self):
        call = Call([ORDERS, "account"], credentials=CREDENTIALS)
        call.hears(LOGIN)
        call.accept()
        denied = {"event": "channel-conn-count-error", "channel": "orders", "connCount": "30", "connId": "a4d3ae55"}
        assert words(call.records(denied)) == ["open refused", "refused"]
        assert call.records(denied) == []
        assert call.hears(ack("subscribe", ORDERS, "1")) == []
        assert {str(one.sub): one.state for one in call.feeds.values()} == {ORDERS: "refused", "account": "connecting"}

    def test_a_notice_is_kept(self):
        call = on_air(TICKER)
        call.hears({"event": "notice", "msg": "The connection will soon be closed", "code": "64008"})
        assert call.session.leaving == "The connection will soon be closed"

    def test_unknown_events_are_counted(self):
        call = on_air(TICKER)
        call.hears(*[{"event": "news"}] * 50, {"event": "channel-conn-count", "channel": "orders", "connCount": "1"})
        assert (call.session.counters["unknown"], call.session.counters["known"]) == (50, 1)
        assert call.session.ending is None

    def test_a_late_or_repeated_unsubscribe_is_not_the_exchanges_own(self):
        call = on_air(BOOK)
        call.hears(BREAK)
        call.sent()
        call.hears(ack("unsubscribe", BOOK), ack("unsubscribe", BOOK))
        assert [request["op"] for request in call.sent()] == ["subscribe"]
        assert call.feeds["books:BTC-USDT"].state == "void"


class TestSilence:
    def test_a_ping_goes_out_after_silence(self):
        call = on_air(TICKER)
        assert call.wait(19.9) == []
        assert call.wait(20.0) == ["ping"]
        assert call.wait(29.9) == []
        assert call.session.ending is None
        call.wait(30.0)
        assert isinstance(call.session.ending, LinkError)

    def test_a_pong_or_anything_else_is_a_sign_of_life(self):
        for heard in (b"pong", ticker(5), b"\xff"):
            call = on_air(TICKER)
            call.tick(20.0)
            call.hears(heard)
            call.tick(10.0)
            assert call.session.ending is None

    def test_silence_after_a_ping_is_death(self):
        call = on_air(TICKER)
        call.tick(20.0)
        call.tick(10.0)
        assert isinstance(call.session.ending, LinkError)

    @pytest.mark.parametrize("alive", [True, False])
    def test_what_came_between_the_last_of_a_dead_connection_and_the_first_of_its_twin_is_missing(self, alive: bool):
        """Both died at once; the twin was the first to be replaced, and seemed to cover what the other had not got."""
        dead = on_air(LIQUIDATIONS)
        twin = Call(feeds=dead.feeds, now=12.0)
        twin.accept()
        if alive:
            dead.tick(15.0)
            dead.hears(b"pong")
        dead.wait(60.0)
        assert isinstance(dead.session.ending, LinkError)
        twin.now = dead.now
        twin.hears(b"pong")
        assert records(dead.session.closed(dead.wall)) == []
        details = [{"side": "buy", "bkPx": "1", "sz": "1", "ts": "9"}]
        row = {"instId": "BTC-USDT-SWAP", "instType": "SWAP", "uly": "BTC-USDT", "details": details}
        said = words(twin.records(push(LIQUIDATIONS, row)))
        assert said == ([] if alive else ["open stale", "closed stale"]) + ["liquidation"]

    @pytest.mark.parametrize("limits", [V5_LIMITS, replace(V5_LIMITS, ping_every=5.0)])
    def test_the_deadline_never_stands_still(self, limits: Any):
        call = on_air(TICKER, BOOK, limits=limits)
        while call.session.ending is None:
            at = call.session.deadline(call.now)
            assert at > call.now
            call.now = at
            call.tick()
            if "ping" in call.sent() and call.now < 100:
                call.hears(b"pong")
        assert 100 < call.now < 200


class TestUnreadable:
    def test_it_opens_a_gap_for_all_whose_chain_cannot_tell(self):
        call = on_air(TRADES, TICKER, BOOK, LIQUIDATIONS)
        said = call.records(b'{"arg":')
        assert {(record.channel, word) for record, word in zip(said, words(said), strict=True)} == {
            ("ticker", "open malformed"),
            ("liquidations", "open malformed"),
            ("liquidations", "closed malformed"),  # nothing is due there, so nothing but this frame can be missing
        }
        assert words(call.records(b"\xff\x00")) == ["open malformed", "closed malformed"]  # liquidations again
        assert words(call.records(ticker(2))) == ["closed malformed", "ticker"]
        assert words(call.records(trades(8), book("update", 5, 6))) == ["trade", "book update"]

    def test_it_voids_a_book_without_numbers_for_its_next_message_may_fit_all_the_same(self):
        call = Call([BOOK], dialect=V3, limits=V3_LIMITS)
        call.accept()
        assert words(call.records(v3_book("partial", 10, "9"))) == ["live", "book snapshot"]
        assert words(call.records(b"{")) == ["open malformed", "void"]
        assert [request["op"] for request in call.sent()] == ["unsubscribe"]

    def test_trades_that_cannot_tell_have_a_gap_too(self):
        call = on_air(TRADES)
        call.hears(push(TRADES, trade(8, count=None)))
        assert words(call.records(b"{")) == ["open malformed"]
        assert words(call.records(push(TRADES, trade(9, count=None)))) == ["closed malformed", "trade"]

    def test_rows_that_are_unreadable_concern_their_subscription_alone(self):
        call = on_air(TICKER, LIQUIDATIONS)
        assert words(call.records(push(TICKER, {"instId": 5}))) == ["open malformed"]
        assert call.feeds["liquidation-orders:instType=SWAP"].gap is None

    def test_what_flows_is_served_though_its_acknowledgement_was_lost(self):
        call = Call([TICKER, BOOK])
        call.sent()
        assert words(call.records(b'{"event":"subscr')) == []
        assert words(call.records(ticker(1), book("snapshot", -1, 5))) == ["live", "ticker", "live", "book snapshot"]
        assert words(call.records(b"{")) == ["open malformed"]
        assert words(call.records(ticker(3))) == ["closed malformed", "ticker"]
        assert words(call.records(BREAK)) == ["open sequence", "void"]
        assert [request["op"] for request in call.sent()] == ["unsubscribe"]
        call.hears(ack("unsubscribe", BOOK, "2"))
        call.accept()
        assert words(call.records(book("snapshot", -1, 9))) == ["closed sequence", "live", "book snapshot"]

    def test_a_quiet_book_is_healed_again_once_that_may_be(self):
        call = on_air(BOOK)
        for number in (20, 40):
            call.hears(BREAK)
            assert call.feeds["books:BTC-USDT"].state == "void"
            if number == 40:
                assert call.answers() == []
                call.now = 3.0
            call.accept()
            assert words(call.records(book("snapshot", -1, number)))[-1] == "book snapshot"

    def test_a_book_is_healed_by_one_unsubscribe_and_then_one_subscribe(self):
        call = on_air(BOOK)
        said = call.records(BREAK)
        assert words(said) == ["open sequence", "void"]
        assert said[1].detail == {"expected": 5, "prev": 8, "seq": 9}
        (request,) = call.sent()
        assert (request["op"], request["args"]) == ("unsubscribe", [arg(BOOK)])
        call.hears(b"{")
        assert call.records(book("update", 9, 10), book("update", 12, 13)) == []
        assert call.records(book("snapshot", -1, 9)) == [], "it is about to be ended"
        assert call.sent() == []
        assert call.records(ack("unsubscribe", BOOK, request["id"])) == []
        (request,) = call.sent()
        assert request["op"] == "subscribe"
        said = call.records(ack("subscribe", BOOK, request["id"]), book("snapshot", -1, 20), book("update", 20, 21))
        assert words(said) == ["closed sequence", "live", "book snapshot", "book update"]
        assert (gaps(said)[0].after, gaps(said)[0].until) == (5, 20)
        assert call.sent() == []

    def test_a_timer_replaces_a_missing_acknowledgement(self):
        call = on_air(BOOK)
        call.hears(BREAK)
        call.sent()
        call.now = 10.0
        assert [request["op"] for request in call.sent()] == ["subscribe"]
        assert call.records(ack("unsubscribe", BOOK)) == []
        call.hears(ack("subscribe", BOOK))
        assert words(call.records(book("snapshot", -1, 20)))[-1] == "book snapshot"

    def test_five_hundred_books_are_healed_with_four_requests(self):
        call = Call([f"book:COIN{number}-USDT" for number in range(500)])
        call.accept()
        call.hears(*(book("snapshot", -1, 5, inst=f"COIN{number}-USDT") for number in range(500)))
        call.hears(*(book("update", 8, 9, inst=f"COIN{number}-USDT") for number in range(500)))
        asked = []
        while requests := call.sent():
            asked += requests
            for request in requests:
                call.hears(*({"id": request["id"], "event": request["op"], "arg": one} for one in request["args"]))
        assert [request["op"] for request in asked] in (
            ["unsubscribe", "subscribe"],
            ["unsubscribe", "unsubscribe", "subscribe", "subscribe"],
        )
        said = call.records(*(book("snapshot", -1, 20, inst=f"COIN{number}-USDT") for number in range(500)))
        assert words(said) == ["closed sequence", "live", "book snapshot"] * 500

    def test_a_book_whose_snapshot_does_not_come_is_asked_for_again_but_not_in_a_storm(self):
        call, requests = Call([BOOK]), 0
        call.accept()
        for number in range(600):
            call.hears(book("update", number, number + 1))
            for request in call.sent():
                if request != "ping":
                    requests += 1
                    call.hears({"id": request["id"], "event": request["op"], "arg": request["args"][0]})
            requests += len(call.accept())
            call.tick(1.0)
        assert 4 <= requests <= 40
        feed_ = call.feeds["books:BTC-USDT"]
        assert feed_.state == "void"
        assert feed_.gap is not None
        said: list[Any] = []
        while not said and call.now < 1400.0:
            call.tick(1.0)
            call.accept()
            said = call.records(book("snapshot", -1, 2000))
        assert words(said) == ["closed sequence", "live", "book snapshot"]

    def test_twenty_in_a_row_end_the_connection_and_nineteen_do_not(self):
        call = on_air(TICKER)
        for _ in range(3):
            call.hears(*[b"{"] * 19, ticker(5))
        assert call.session.ending is None
        call.hears(*[b"{"] * 20)
        assert isinstance(call.session.ending, LinkError)

    def test_a_bomb_is_unreadable(self):
        call = on_air(TICKER)
        packer = zlib.compressobj(9, wbits=-15)
        bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
        assert words(call.hears() or []) == []
        deliveries = call.session.receive(bomb, True, 0.0, RECV)
        assert [words(delivery.statements) for delivery in deliveries] == [["open malformed"]]


class TestReconnect:
    def test_everything_has_a_gap_and_a_new_session_closes_it(self):
        call = on_air(TRADES, TICKER, BOOK, LIQUIDATIONS)
        said = [record for delivery in call.session.closed(RECV) for record in delivery.statements]
        assert words(said) == ["open disconnected", "disconnected"] * 4
        again = Call(feeds=call.feeds)
        assert words(again.accept()) == ["closed disconnected", "live"]
        said = again.records(trades(9), ticker(1), book("update", 7, 8), book("snapshot", -1, 9))
        assert words(said) == [
            *("closed disconnected", "live", "trade"),
            *("closed disconnected", "live"),
            *("closed disconnected", "live", "book snapshot"),
        ]
        assert [gap.lost for gap in gaps(said)] == [1, 0, None]

    def test_a_connection_that_never_came_to_speak_adds_nothing(self):
        call = on_air(TICKER)
        call.session.closed(RECV)
        assert Call(feeds=call.feeds).session.closed(RECV) == []


class TestRaw:
    def test_text_passes_untouched(self):
        call = Call([TRADES, BOOK], raw=True, parsed=False)
        call.accept()
        for message in (trades(7), trades(7), book("update", 3, 4), {"arg": arg(TRADES), "data": "nonsense"}):
            text = orjson.dumps(message).replace(b",", b" , ")
            (delivery,) = call.hears(text)
            assert (delivery.text, delivery.records) == (text, ())

    def test_only_the_links_losses_are_said(self):
        call = Call([TRADES, BOOK], raw=True, parsed=False)
        call.accept()
        call.hears(trades(7), book("snapshot", -1, 5))
        assert words(call.records(trades(99), book("update", 98, 99))) == []
        assert words(call.records(b"{")) == ["open malformed", "open malformed"]
        assert words(call.records(trades(100), book("update", 99, 100))) == ["closed malformed"] * 2

    def test_a_book_is_not_asked_for_again(self):
        call = Call([BOOK], raw=True, parsed=False)
        call.accept()
        call.hears(book("snapshot", -1, 5))
        assert words(call.records(b"{")) == ["open malformed"]
        assert call.sent() == []
        assert words(call.records(book("update", 7, 8))) == ["closed malformed"]
        assert call.wait(19.9) == []

    def test_all_that_share_a_frame_resume_before_it(self):
        call = Call(["book5:BTC-USDT", "book5:ETH-USDT"], dialect=V1, limits=V1_LIMITS, raw=True, parsed=False)
        call.accept()
        both = orjson.dumps(v1_book(1, "9", "btc_usdt", "depth_5") + v1_book(1, "9", "eth_usdt", "depth_5"))
        check = Consistent()
        for _ in range(2):
            said = call.hears(both)
            check(said)
            assert [delivery.text for delivery in said] == [None, both]
            assert [words(delivery.statements)[-1] for delivery in said] == ["live", "live"]
            assert [delivery.text for delivery in call.hears(both)] == [both]
            check(call.session.closed(RECV))
            call = Call(feeds=call.feeds, dialect=V1, limits=V1_LIMITS, raw=True, parsed=False)
            call.accept()

    def test_a_shared_frame_beside_records_is_one_text_and_comes_last(self):
        call = Call(["book5:BTC-USDT", "book5:ETH-USDT"], dialect=V1, limits=V1_LIMITS, raw=True)
        call.accept()
        both = orjson.dumps(v1_book(1, "9", "btc_usdt", "depth_5") + v1_book(1, "9", "eth_usdt", "depth_5"))
        said = call.hears(both)
        assert words(record for one in said for record in one.records) == ["book snapshot"] * 2
        assert [delivery.text for delivery in said] == [None, both]
        assert [delivery.text for delivery in call.hears(both)] == [both]

    def test_bad_frames_with_good_ones_between_do_not_end_the_connection(self):
        call = Call([TRADES], raw=True, parsed=False)
        call.accept()
        for _ in range(50):
            call.hears(trades(7), b"{")
        assert call.session.ending is None

    def test_what_is_remembered_of_routes_is_bounded(self):
        call = Call([TRADES], raw=True, parsed=False)
        call.accept()
        for number in range(50):
            call.hears({"arg": arg(TRADES), str(number) + "x" * 5000: 1, "data": [{}]})
        assert sum(map(len, call.session._routes)) < 10_000

    def test_text_beside_records_is_the_whole_message_once(self):
        call = Call([TRADES], raw=True)
        call.accept()
        text = orjson.dumps(trades(7, 9, 11))
        assert [delivery.text for delivery in call.hears(text)].count(text) == 1
        assert [delivery.text for delivery in call.hears(text)] == [text]
