"""What a conversation asks for, and what becomes of the replies."""

from dataclasses import replace
from typing import Any

import pytest
from airing import BAD, BOOK, HUNDRED, TICKER, TRADES, on_air
from exchange import (
    V1,
    Call,
    ack,
    arg,
    error,
    feed,
    trades,
    v1_book,
    words,
)

from okstream.session.budget import Budget
from okstream.venues import V1_LIMITS, V3_LIMITS, V5_LIMITS


class TestReplies:
    def refused(self, call: Call) -> list[str]:
        outcomes = call.outcomes()
        assert len(outcomes) == 100
        for one in call.feeds.values():
            assert (one.state == "refused") == (outcomes[str(one.sub)] is not None)
        return [text for text, refusal in outcomes.items() if refusal is not None]

    def answer(self, call: Call, request: Any, told: Any) -> list[Any]:
        """Answer each argument in order; `told` makes the error."""
        replies = []
        for argument in request["args"]:
            if argument == arg(BAD):
                replies.append(told(request["id"]))
            else:
                replies.append({"id": request["id"], "event": "subscribe", "arg": argument})
        return replies

    def test_a_hundred_and_one_is_nonsense_by_order(self):
        call = Call(HUNDRED)
        (request,) = call.sent()
        call.hears(*self.answer(call, request, lambda number: error("60018", "Wrong URL", number)))
        assert self.refused(call) == [BAD]
        assert call.sent() == []

    @pytest.mark.parametrize("numbered", [True, False])
    @pytest.mark.parametrize("space", ["", " "])
    def test_a_hundred_and_one_is_nonsense_by_name(self, numbered: bool, space: str):
        call = Call(HUNDRED)
        (request,) = call.sent()
        text = f"Wrong URL or channel:tickers,{space}instId:C49-USDT doesn't exist. Please use the correct URL."
        replies = self.answer(call, request, lambda number: error("60018", text, number if numbered else None))
        call.hears(*replies[::-1])
        assert self.refused(call) == [BAD]
        assert call.sent() == []

    @pytest.mark.parametrize("numbered", [True, False])
    def test_a_hundred_and_one_is_nonsense_by_halving(self, numbered: bool):
        # One error for the whole request, and nothing of it was done.
        call, numbers, asked = Call(HUNDRED), set(), 0
        while len({one.sub for one, _ in call.session.settled}) < 100 and call.now < 200.0:
            for request in (request for request in call.sent() if request != "ping"):
                asked += 1
                assert request["id"] not in numbers
                numbers.add(request["id"])
                if arg(BAD) in request["args"]:
                    call.hears(error("60012", "Invalid request", request["id"] if numbered else None))
                else:
                    call.hears(*self.answer(call, request, None))
            call.tick(1.0)
        assert self.refused(call) == [BAD]
        assert asked <= 20

    def test_a_refusal_names_its_reason(self):
        call = Call([TICKER, "ticker:NONSENSE"])
        call.sent()
        said = call.records(ack("subscribe", TICKER, "1"), error("60018", "Wrong URL", "1"))
        assert words(said) == ["refused"]
        assert said[0].detail == {"code": "60018", "message": "Wrong URL"}
        assert said[0].inst == "NONSENSE"

    @pytest.mark.parametrize("code", ["64003", "60011"])
    @pytest.mark.parametrize("channel", ["book-l2-tbt", "book50-l2-tbt"])
    def test_a_book_that_this_account_may_not_have_names_the_one_for_all(self, channel: str, code: str):
        call = Call([f"{channel}:BTC-USDT"])
        call.sent()
        (said,) = call.records(error(code, "Please log in, or your fee tier is too low", "1"))
        assert said.detail["message"].endswith("; book:BTC-USDT is open to all")
        (refusal,) = call.outcomes().values()
        assert refusal is not None
        assert "book:BTC-USDT" in refusal.message

    def test_the_exchange_is_too_busy_and_nothing_is_refused(self):
        call = Call([TICKER])
        call.sent()
        call.hears(error("60014", "Requests too frequent", "1"))
        assert call.outcomes() == {}
        assert call.sent() == []
        call.now = 30.0
        assert [request["op"] for request in call.sent()] == ["subscribe"]

    def test_thousands_of_such_errors_are_no_trouble(self):
        call = Call([TICKER])
        for _ in range(3000):
            call.hears(error("60014", "Requests too frequent"))
            call.now = call.session.deadline(call.now)
            call.sent()
        assert call.session.ending is None


class TestRequests:
    def test_they_are_split_by_size(self):
        call = Call([f"ticker:COIN{number}-USDT" for number in range(3000)])
        frames = call.session.to_send(0.0)
        assert len(frames) == 3
        assert max(map(len, frames)) <= 64 * 1024

    def test_they_keep_to_4096_bytes_where_that_is_the_limit(self):
        call = Call(HUNDRED, limits=replace(V5_LIMITS, request_bytes=4096))
        frames = call.session.to_send(0.0)
        assert len(frames) == 2
        assert max(map(len, frames)) <= 4096

    def test_connections_of_one_address_share_one_budget(self):
        budget = Budget(V3_LIMITS.requests)
        calls = [Call(limits=V3_LIMITS, budget=budget) for _ in range(4)]
        sent = 0
        for number in range(100):
            for call in calls:
                one = feed(f"ticker:C{number}")
                call.feeds[one.traits.key] = one
                call.session.want(one.traits.key)
                sent += len(call.sent())
        assert sent == 204  # 36 of 240 are kept for healing
        assert calls[0].session.deadline(0.0) > 0.0

    def test_a_new_connection_has_a_budget_of_its_own_where_connections_are_counted(self):
        limits, budget = replace(V5_LIMITS, requests=2), Budget(2)
        for _ in range(3):
            call = Call([TICKER], limits=limits, budget=budget)
            assert len(call.sent()) == 1
            call.hears(error("60014", "Requests too frequent", "1"))
            call.now = 31.0
            assert call.sent() == [], "what is left is for healing"

    def test_subscribe_and_unsubscribe_while_running(self):
        call = on_air(TICKER)
        one = feed(TRADES)
        call.feeds[one.traits.key] = one
        call.session.want(one.traits.key)
        (request,) = call.sent()
        assert request["args"] == [arg(TRADES)]
        call.hears(ack("subscribe", TRADES, request["id"]))
        assert call.outcomes() == {TRADES: None}
        call.session.unwant(one.traits.key)
        del call.feeds[one.traits.key]
        (request,) = call.sent()
        assert (request["op"], request["args"]) == ("unsubscribe", [arg(TRADES)])
        assert call.hears(trades(9)) == []
        assert call.session.counters["unrouted"] == 1
        assert call.hears(ack("unsubscribe", TRADES, request["id"])) == []

    def test_to_leave_before_the_acknowledgement_comes(self):
        call = Call([TICKER, TRADES])
        call.sent()
        (key,) = [key for key in call.feeds if key.startswith("trades")]
        call.session.unwant(key)
        del call.feeds[key]
        call.hears(ack("subscribe", TRADES, "1"))
        (request,) = call.sent()
        assert (request["op"], request["args"]) == ("unsubscribe", [arg(TRADES)])

    def test_to_leave_and_come_back_with_another_feed(self):
        call = on_air(TRADES)
        (key,) = call.feeds
        call.session.unwant(key)
        one = call.feeds[key] = feed(TRADES)
        call.session.want(key)
        call.accept()
        assert [record.origin for record in call.records(trades(9))[1:]] == ["cached"]
        assert call.outcomes() == {TRADES: None}
        assert one.state == "live"

    def test_what_is_under_way_is_not_of_the_feed_that_comes_after(self):
        call = on_air(TRADES)
        (key,) = call.feeds
        call.session.unwant(key)
        call.feeds[key] = feed(TRADES)
        call.session.want(key)
        assert call.hears(trades(8)) == []
        (left,) = call.answers()
        assert call.hears(trades(9), left) == []
        call.accept()
        said = call.records(trades(10), trades(11))
        assert [record.origin for record in said[1:]] == ["cached", None]

    def test_what_is_under_way_is_no_snapshot_of_the_book_that_comes_after(self):
        call = Call([BOOK], dialect=V1, limits=V1_LIMITS)
        call.accept()
        assert words(call.records(v1_book(1000))) == ["live", "book snapshot"]
        (key,) = call.feeds
        call.session.unwant(key)
        call.feeds[key] = feed(BOOK, dialect=V1)
        call.session.want(key)
        assert call.hears(v1_book(1100)) == []
        (left,) = call.answers()
        assert call.hears(v1_book(1200), left) == []
        call.accept()
        assert words(call.records(v1_book(1300), v1_book(1400))) == ["live", "book snapshot", "book update"]

    def test_our_own_unsubscribe_that_takes_effect_late_is_not_the_end(self):
        """Nobody answered it in time, so it was subscribed to again; then the exchange did what it was asked before."""
        call = Call([BOOK], dialect=V1, limits=V1_LIMITS)
        call.accept()
        call.records(v1_book(1000))
        assert words(call.records(b"{")) == ["open malformed", "void"]
        (left, *_) = call.answers()
        while not (again := call.answers()):
            call.tick(1.0)
        assert words(call.records(*again, v1_book(2000))) == ["closed malformed", "live", "book snapshot"]
        assert words(call.records(left)) == ["open disconnected", "disconnected"]
        while not (begun := call.answers()):
            call.tick(1.0)
        call.records(*begun)
        call.accept()
        assert words(call.records(v1_book(3000))) == ["closed disconnected", "live", "book snapshot"]
        assert words(call.records(left)) == ["open refused", "refused"], "this time it was not our doing"

    def test_what_was_refused_is_not_asked_for_by_the_next_connection(self):
        call = Call([TICKER, TRADES])
        call.sent()
        call.hears(error("60018", "no", "1"), ack("subscribe", TRADES, "1"))
        again = Call(feeds=call.feeds)
        (request,) = again.sent()
        assert request["args"] == [arg(TRADES)]
