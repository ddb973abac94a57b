"""One conversation: login, requests and their replies, silence, and whatever else arrives."""

import zlib
from dataclasses import replace
from typing import Any

import orjson
import pytest
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
    error,
    feed,
    gaps,
    push,
    ticker,
    trade,
    trades,
    v1_book,
    v3_book,
    words,
)

from okstream.budget import Budget
from okstream.dialects.signing import Credentials
from okstream.errors import LinkError, LoginRefusedError
from okstream.records import encode
from okstream.venues import V1_LIMITS, V3_LIMITS, V5_LIMITS

TRADES, BOOK, TICKER = "trades:BTC-USDT", "book:BTC-USDT", "ticker:BTC-USDT"
ORDERS, LIQUIDATIONS = "orders:instType=ANY", "liquidations:instType=SWAP"
HUNDRED = [f"ticker:C{number}-USDT" for number in range(100)]
BAD = HUNDRED[49]
BREAK = book("update", 8, 9)
"""It does not follow on the snapshot that every book on air has got."""


def on_air(*subs: str, **options: Any) -> Call:
    """A call with `subs` subscribed to and acknowledged, books and trades with their first push."""
    call = Call(subs, **options)
    call.accept()
    first = {TRADES: trades(7), BOOK: book("snapshot", -1, 5), TICKER: ticker(1)}
    call.hears(*(first[text] for text in subs if text in first))
    call.session.settled.clear()
    return call


class TestLogin:
    def test_the_login_goes_first_and_alone(self):
        call = Call([ORDERS], credentials=CREDENTIALS)
        assert [request["op"] for request in call.sent()] == ["login"]
        assert call.sent() == []
        call.hears(LOGIN)
        assert call.session.ready
        (request,) = call.sent()
        assert (request["op"], request["args"]) == ("subscribe", [arg(ORDERS)])

    def test_without_credentials_there_is_none(self):
        assert [request["op"] for request in Call([TICKER]).sent()] == ["subscribe"]

    def test_a_refused_login_ends_the_session_for_good(self):
        call = Call([ORDERS], credentials=CREDENTIALS)
        call.sent()
        call.hears(error("60005", "Invalid apiKey"))
        assert isinstance(call.session.ending, LoginRefusedError)
        assert call.session.ending.code == "60005"
        assert call.sent() == []

    def test_a_login_that_may_succeed_later_ends_the_connection_only(self):
        call = Call([ORDERS], credentials=CREDENTIALS)
        call.hears(error("63999", "Login failed due to internal error. Please try again later."))
        assert type(call.session.ending) is LinkError

    def test_a_login_without_an_answer_ends_the_connection(self):
        call = Call([ORDERS], credentials=CREDENTIALS)
        call.wait(9.9)
        assert call.session.ending is None
        call.wait(10.0)
        assert type(call.session.ending) is LinkError

    @pytest.mark.parametrize("credentials", [None, CREDENTIALS])
    def test_an_answer_to_no_login_changes_nothing(self, credentials: Any):
        call = on_air(TICKER, credentials=None)
        if credentials:
            call = Call([TICKER], credentials=credentials)
            call.hears(LOGIN)
        call.hears(error("60005", "Invalid apiKey"))
        assert call.session.ending is None
        assert call.session.counters["unknown"] == 1

    def test_a_spent_budget_allows_no_login(self):
        budget, limits = Budget(1), replace(V3_LIMITS, requests=1)
        Call([ORDERS], credentials=CREDENTIALS, budget=budget, limits=limits)
        again = Call([ORDERS], credentials=CREDENTIALS, budget=budget, limits=limits)
        assert type(again.session.ending) is LinkError


class TestSecrets:
    """Nothing that is said ever contains a part of the credentials."""

    @staticmethod
    def leaks(text: str) -> list[str]:
        return [
            secret[start : start + 6]
            for secret in CREDENTIALS.secrets
            for start in range(len(secret) - 5)
            if secret[start : start + 6] in text
        ]

    @staticmethod
    def all_said(call: Call, got: list[Any]) -> str:
        session = call.session
        texts = [encode(record).decode() for record in got]
        texts += [
            repr(call.feeds),
            repr(session),
            str(session.counters),
            str(session.leaving),
            str(session.remarks),
            str(session.ending),
        ]
        texts += [repr(session.ending), str(getattr(session.ending, "code", "")), repr(session.settled)]
        return "\n".join(texts).replace("\\\\", "\\")

    @pytest.mark.parametrize("cut", [10_000, 130, 90, 60])
    @pytest.mark.parametrize("echo", ["Invalid request: {}", "Illegal request: {} (and so on)", "{}"])
    @pytest.mark.parametrize("code", ["60009", "60012", "60005"])
    def test_a_refusal_that_echoes_the_login(self, echo: str, code: str, cut: int):
        call = Call([TICKER], credentials=CREDENTIALS)
        login = call.session.to_send(0.0)[0].decode()
        got = call.records(error(code, echo.replace("{}", login)[:cut]))
        said = self.all_said(call, got)
        assert not self.leaks(said)
        sign = orjson.loads(login)["args"][0]["sign"]
        assert sign[:12] not in said

    def test_a_refused_subscription_a_notice_and_a_code_that_echo(self):
        secret = " ".join(CREDENTIALS.secrets)
        call = Call([TICKER, TRADES], credentials=CREDENTIALS)
        login = call.session.to_send(0.0)
        assert login
        call.hears(LOGIN)
        call.sent()
        got = call.records(
            {"event": "notice", "code": "64008", "msg": secret},
            error(secret, secret, "1"),
            error("60018", secret[:40], "1"),
            {"event": "channel-conn-count-error", "channel": "tickers", "connCount": secret},
        )
        got += call.records(*([orjson.dumps({"event": secret, "arg": secret, "id": 5})] * 30))
        assert len(call.session.settled) == 2
        assert not self.leaks(self.all_said(call, got))

    def test_the_last_unreadable_message_is_not_quoted(self):
        call = on_air(TICKER)
        call = Call([TICKER], credentials=CREDENTIALS)
        call.hears(LOGIN)
        call.accept()
        for _ in range(20):
            call.hears({"data": [], "arg": {"channel": [CREDENTIALS.secret], "x": 1, "y": {}}, "event": "subscribe"})
        call.hears(*([b'{"' + CREDENTIALS.secret.encode()] * 20))
        assert call.session.ending is not None
        assert not self.leaks(self.all_said(call, []))

    def test_a_short_passphrase_is_hidden_and_the_rest_is_shown(self):
        call = Call([TICKER], credentials=Credentials("key-key-key", "secret-secret", "q7"))
        call.hears(error("60024", "Wrong passphrase q7 given"))
        assert str(call.session.ending) == "login refused: Wrong passphrase *** given (60024)"

    def test_what_is_shown_of_a_message_has_a_limit(self):
        call = Call([TICKER])
        call.sent()
        call.hears(error("60018", "x" * 1_000_000, "1"))
        (refusal,) = call.outcomes().values()
        assert refusal is not None
        assert len(refusal.message) < 600

    def test_an_innocent_message_is_shown_as_it_is(self):
        call = Call([TICKER], credentials=CREDENTIALS)
        call.hears(error("60032", "API key doesn't exist."))
        assert "API key doesn't exist." in str(call.session.ending)


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

    def test_what_was_refused_is_not_asked_for_by_the_next_connection(self):
        call = Call([TICKER, TRADES])
        call.sent()
        call.hears(error("60018", "no", "1"), ack("subscribe", TRADES, "1"))
        again = Call(feeds=call.feeds)
        (request,) = again.sent()
        assert request["args"] == [arg(TRADES)]


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
