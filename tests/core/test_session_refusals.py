"""What was served and is then refused is asked for again, ever more seldom, and said once."""

import pytest
from exchange import CREDENTIALS, LOGIN, Call, ack, book, error, gaps, order, records, ticker, words

TICKER, BOOK, ORDERS = "ticker:BTC-USDT", "book:BTC-USDT", "orders:instType=ANY"
BREAK = book("update", 8, 9)


def broken_and_refused() -> Call:
    """A book that broke, and whose next subscription the exchange refused, at second 0."""
    call = Call([BOOK, TICKER])
    call.accept()
    call.hears(book("snapshot", -1, 5), ticker(1))
    call.hears(BREAK)
    (left,) = call.answers()
    call.hears(left)
    (request,) = call.sent()
    assert words(call.records(error("60018", "not now", request["id"]))) == ["refused"]
    call.session.settled.clear()
    return call


def asks(call: Call, until: float) -> list[float]:
    """Refuse whatever is asked up to `until`; return when that was."""
    times = []
    while call.now < until:
        call.tick(min(call.session.deadline(call.now), until) - call.now)
        for request in call.sent():
            if isinstance(request, dict):
                times.append(call.now)
                assert request["op"] == "subscribe", "there is nothing to unsubscribe from"
                assert call.records(error("60018", "not now", request["id"])) == [], "it is said once"
            else:
                call.hears(b"pong")
        if call.now % 5 == 0:
            call.hears(ticker(int(call.now)))
    return times


def test_it_is_asked_for_again_ever_more_seldom():
    call = broken_and_refused()
    times = asks(call, 4000.0)
    waits = [later - earlier for earlier, later in zip([0.0, *times], times, strict=False)]
    assert waits[0] == 32.0
    assert waits == sorted(waits)
    assert waits[-1] == 600.0
    assert call.session.settled == []


def test_once_it_is_served_again_its_gap_ends_with_the_snapshot():
    call = broken_and_refused()
    asks(call, 20.0)
    call.now = 32.0
    call.accept()
    said = call.records(book("snapshot", -1, 20))
    assert words(said) == ["closed sequence", "live", "book snapshot"]
    assert (gaps(said)[0].after, gaps(said)[0].until) == (5, 20)
    assert words(call.records(book("update", 20, 21))) == ["book update"]


def test_data_before_the_acknowledgement_counts():
    call = broken_and_refused()
    call.now = 32.0
    (request,) = [request for request in call.sent() if isinstance(request, dict)]
    assert words(call.records(book("snapshot", -1, 20))) == ["closed sequence", "live", "book snapshot"]
    call.hears(ack("subscribe", BOOK, request["id"]))
    assert words(call.records(book("update", 20, 21))) == ["book update"]


def test_what_is_refused_anew_after_it_was_served_is_said_anew():
    call = broken_and_refused()
    call.now = 32.0
    call.accept()
    call.hears(book("snapshot", -1, 20))
    assert words(call.records(ack("unsubscribe", BOOK))) == ["open refused", "refused"]


def test_what_is_unsubscribed_from_meanwhile_is_not_asked_for():
    call = broken_and_refused()
    (key,) = [key for key in call.feeds if key.startswith("books")]
    call.session.unwant(key)
    del call.feeds[key]
    assert asks(call, 1000.0) == []


def test_what_the_exchange_ended_without_a_push_is_asked_for_again():
    call = Call([ORDERS, "account"], credentials=CREDENTIALS)
    call.hears(LOGIN)
    call.accept()
    denied = {"event": "channel-conn-count-error", "channel": "orders", "connCount": "30", "connId": "a4d3ae55"}
    assert words(call.records(denied)) == ["open refused", "refused"]
    call.now = 32.0
    (request,) = call.sent()
    assert [one["channel"] for one in request["args"]] == ["orders"]
    assert words(call.records(ack("subscribe", ORDERS, request["id"]))) == ["closed refused", "live"]


def test_one_of_two_connections_that_was_refused_asks_again_unseen():
    one = Call([TICKER])
    one.accept()
    other = Call(feeds=one.feeds)
    other.accept()
    one.hears(ticker(1))
    other.hears(ticker(1))
    assert other.records(ack("unsubscribe", TICKER)) == []
    assert len(other.session.remarks) == 1
    other.now = 32.0
    other.accept()
    assert other.hears(ticker(2)) == []
    assert words(one.records(ticker(2))) == ["ticker"]
    assert words([*other.records(), *other.session.closed(other.wall)]) == []
    assert len(other.session.remarks) == 1


def test_where_the_other_connection_ends_what_was_refused_is_asked_for_at_once():
    one = Call([TICKER])
    one.accept()
    other = Call(feeds=one.feeds)
    other.accept()
    one.hears(ticker(1))
    other.hears(ticker(1))
    other.records(ack("unsubscribe", TICKER))
    one.session.closed(one.wall)
    other.tick(2.0)
    other.accept()
    assert words(other.records(ticker(3))) == ["closed disconnected", "live", "ticker"]


@pytest.mark.parametrize("sub", [TICKER, ORDERS, BOOK])
def test_where_the_exchange_ends_what_leads_the_other_connection_leads_and_its_loss_is_a_gap(sub):
    data = {TICKER: ticker(1), ORDERS: order(), BOOK: book("snapshot", -1, 5)}[sub]
    one = Call([sub])
    other = Call(feeds=one.feeds)
    for call in (one, other):
        call.accept()
        call.hears(data)
        call.tick(10.0)
    assert one.records(ack("unsubscribe", sub)) == []
    assert words(records(other.session.closed(other.wall))) == ["open disconnected", "disconnected"]
    (feed,) = one.feeds.values()
    assert feed.levels is None


@pytest.mark.parametrize("refused_first", [False, True])
def test_what_one_of_two_connections_is_refused_lives_whoever_is_answered_first(refused_first):
    one = Call([TICKER])
    other = Call(feeds=one.feeds)
    (answer,), (request,) = one.answers(), other.sent()
    said = [] if refused_first else one.records(answer, ticker(1))
    said += other.records(error("60018", "not here", request["id"]))
    said += one.records(answer, ticker(1)) if refused_first else []
    assert words(said) == ["live", "ticker"]
    assert (one.outcomes(), other.outcomes()) == ({TICKER: None}, {})
    assert len(other.session.remarks) == 1


def test_what_is_ended_on_one_connection_while_another_asks_for_it_goes_on_there():
    one = Call([TICKER])
    one.accept()
    one.hears(ticker(1))
    other = Call(feeds=one.feeds)
    (answer,) = other.answers()
    assert words(one.records(ack("unsubscribe", TICKER))) == ["open refused", "disconnected"]
    assert words(other.records(answer, ticker(2))) == ["closed refused", "live", "ticker"]


def test_what_one_refused_and_the_other_never_answered_is_refused_once_that_one_is_lost():
    one = Call([TICKER])
    lost = Call(feeds=one.feeds)
    (request,), _ = one.sent(), lost.sent()
    assert one.records(error("60018", "no such thing", request["id"])) == []
    assert (one.outcomes(), len(one.session.remarks)) == ({}, 1)
    lost.session.closed(lost.wall)
    one.tick(2.0)
    (request,) = one.sent()
    assert words(one.records(error("60018", "no such thing", request["id"]))) == ["refused"]
    assert one.outcomes()[TICKER].code == "60018"


def test_what_a_successor_was_refused_is_refused_as_soon_as_the_old_connection_is_gone():
    old = Call([TICKER])
    old.accept()
    old.hears(ticker(1))
    successor = Call(feeds=old.feeds)
    (request,) = successor.sent()
    assert successor.records(error("60018", "no longer", request["id"])) == []
    old.session.closed(old.wall)
    successor.tick(2.0)
    (request,) = successor.sent()
    assert words(successor.records(error("60018", "no longer", request["id"]))) == ["refused"]
    assert list(successor.outcomes()) == [TICKER]


def test_where_both_refuse_while_one_asks_again_it_is_refused_and_said_once():
    one = Call([TICKER])
    one.accept()
    one.hears(ticker(1))
    other = Call(feeds=one.feeds)
    (request,) = other.sent()
    assert words(one.records(ack("unsubscribe", TICKER))) == ["open refused", "disconnected"]
    assert words(other.records(error("60018", "no", request["id"]))) == ["refused"]
    one.outcomes()
    one.tick(32.0)
    request = next(sent for sent in one.sent() if sent != "ping")
    assert one.records(error("60018", "no", request["id"])) == []
    assert (one.outcomes(), next(iter(one.feeds.values())).state) == ({}, "refused")
