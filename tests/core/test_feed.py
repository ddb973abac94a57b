"""One subscription's continuity: what comes twice, what is missing, and what is said of it."""

from typing import Any

import pytest
from exchange import (
    RECV,
    V1,
    Consistent,
    book,
    gaps,
    order,
    push,
    records,
    source,
    ticker,
    trade,
    trades,
    v1_order,
    words,
)
from hypothesis import given
from hypothesis import strategies as st

from okstream.encoding import encode
from okstream.errors import DecodeError
from okstream.feed import Delivery
from okstream.feed.source import Source

TRADES, BOOK, TICKER = "trades:BTC-USDT", "book:BTC-USDT", "ticker:BTC-USDT"
ORDERS, LIQUIDATIONS = "orders:instType=ANY", "liquidations:instType=SWAP"


def after(one: Source, *messages: Any) -> list[Any]:
    return [record for message in messages for record in records(one.push(message, RECV))]


def lived(text: str, *messages: Any) -> Source:
    """A feed that was subscribed to, acknowledged, and has got `messages`."""
    one = source(text)
    one.ask()
    one.acknowledge(RECV)
    after(one, *messages)
    return one


def reconnected(one: Source) -> Source:
    one.lose("disconnected", RECV, "disconnected")
    one.ask()
    one.acknowledge(RECV)
    return one


def test_the_first_record_makes_a_subscription_live():
    one = source(TICKER)
    one.ask()
    assert words(records(one.acknowledge(RECV))) == []
    assert words(after(one, ticker(1))) == ["live", "ticker"]
    assert words(after(one, ticker(2))) == ["ticker"]


def test_a_channel_without_a_first_push_is_live_once_acknowledged():
    one = source(ORDERS)
    one.ask()
    assert words(records(one.acknowledge(RECV))) == ["live"]


def test_a_bar_that_comes_once_more_with_the_next_one_is_delivered_once():
    candles = "candle-1m:BTC-USDT"
    over, begun = (push(candles, [ts, "5", "9", "5", "7", "3", "3", "3", "0"]) for ts in ("60000", "120000"))
    later = {**over, "data": [["60000", "5", "9", "5", "8", "4", "4", "4", "0"]]}
    both = {**over, "data": later["data"] + begun["data"]}
    one = lived(candles, over, later)
    assert [said.ts for said in after(one, both, both)] == [120000]


def test_what_is_shown_again_after_a_gap_is_delivered_as_far_as_it_is_later():
    """The trades before it were missed in an earlier gap, and would come out of order."""
    one = reconnected(lived(TRADES, trades(7), trades(9)))
    shown = trades(8)
    shown["data"] += trades(9)["data"] + trades(11)["data"]
    said = [said.id for said in after(one, shown) if said.type == "trade"]
    assert said == ["11"]


def test_the_first_trade_is_cached_and_the_next_is_not():
    one = lived(TRADES)
    first, second = [said for said in after(one, trades(7), trades(8)) if said.type == "trade"]
    assert (first.origin, second.origin) == ("cached", None)


def test_trades_that_follow_each_other_have_no_gap():
    one = lived(TRADES, trades(7))
    assert words(after(one, trades(8), push(TRADES, trade(11, count=3)), trades(12, 13))) == ["trade"] * 4


def test_a_missing_trade_is_a_gap_with_its_exact_number():
    one = lived(TRADES, trades(7))
    said = after(one, push(TRADES, trade(12, count=2)))
    assert words(said) == ["open sequence", "closed sequence", "trade"]
    opened, closed = gaps(said)
    assert (opened.after, opened.after_ts, opened.until, opened.lost) == ("7", 1007, None, None)
    assert (closed.gap, closed.after, closed.until, closed.until_ts, closed.lost) == (opened.gap, "7", "12", 1012, 3)


def test_a_gap_within_one_message_stands_between_its_records():
    one = lived(TRADES, trades(7))
    said = words(after(one, trades(8, 9, 12, 13)))
    assert said == ["trade", "trade", "open sequence", "closed sequence", "trade", "trade"]


def test_ids_that_start_anew_are_a_gap_of_unknown_size():
    one = lived(TRADES, trades(1000))
    said = after(one, trades(3), trades(4))
    assert words(said) == ["open sequence", "closed sequence", "trade", "trade"]
    assert gaps(said)[1].lost is None


@pytest.mark.parametrize("number", [10**30, 2**63 + 100])
def test_a_gap_too_large_to_be_written_has_no_number(number: int):
    one = lived(TRADES, trades(7))
    said = after(one, trades(number))
    assert gaps(said)[1].lost is None or gaps(said)[1].lost < 2**63
    assert all(encode(record) for record in said)


def test_trades_without_a_count_cannot_tell():
    one = lived(TRADES, push(TRADES, trade(7, count=None)))
    assert not one.proves
    assert words(after(one, push(TRADES, trade(12, count=None)))) == ["trade"]


def test_a_very_long_message_takes_no_quadratic_time():
    one = lived(TRADES, trades(7))
    assert len(after(one, trades(*range(8, 60_008)))) == 60_000


def test_after_a_reconnect_the_chain_tells_what_was_lost():
    one = reconnected(lived(TRADES, trades(7)))
    said = after(one, trades(11))
    assert words(said) == ["closed disconnected", "live", "trade"]
    assert (gaps(said)[0].after, gaps(said)[0].until, gaps(said)[0].lost) == ("7", "11", 3)
    assert said[-1].origin == "cached"


def test_a_cached_trade_that_was_delivered_last_closes_the_gap_with_nothing_lost():
    one = reconnected(lived(TRADES, trades(7)))
    said = after(one, trades(7))
    assert words(said) == ["closed disconnected", "live"]
    assert (gaps(said)[0].after, gaps(said)[0].until, gaps(said)[0].lost) == ("7", "7", 0)
    assert words(after(one, trades(8))) == ["trade"]


def test_a_cached_trade_that_is_older_leaves_the_verdict_to_the_next():
    one = reconnected(lived(TRADES, trades(7), trades(8)))
    assert words(after(one, trades(7))) == []
    said = after(one, trades(9))
    assert words(said) == ["closed disconnected", "live", "trade"]
    assert gaps(said)[0].lost == 0


def test_an_empty_message_proves_nothing_where_a_chain_will_tell():
    one = reconnected(lived(TRADES, trades(7)))
    assert words(after(one, push(TRADES))) == []
    assert gaps(after(one, trades(10)))[0].lost == 2


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (TRADES, [trades(7), trades(8), trades(9)]),
        (TICKER, [ticker(1), ticker(2), ticker(2, "5"), ticker(3)]),
        (BOOK, [book("snapshot", -1, 5), book("update", 5, 6), book("update", 6, 7)]),
    ],
)
def test_what_comes_twice_is_delivered_once(text: str, messages: list[Any]):
    one, two = lived(text), lived(text)
    twice = [message for message in messages for _ in range(2)]
    assert after(one, *messages) == after(two, *twice)
    assert two.feed.duplicates == len(messages)


def test_the_snapshot_that_heals_a_book_is_delivered_once():
    one = reconnected(lived(BOOK, book("snapshot", -1, 5)))
    snapshot = book("snapshot", -1, 9)
    assert words(after(one, snapshot, snapshot)) == ["closed disconnected", "live", "book snapshot"]


def test_a_disconnection_is_said_once():
    one = lived(TICKER, ticker(1))
    assert words(records(one.lose("disconnected", RECV, "disconnected"))) == ["open disconnected", "disconnected"]
    assert words(records(one.lose("disconnected", RECV, "disconnected"))) == []


def test_nothing_is_lost_before_the_exchange_ever_served_it():
    one = source(TICKER)
    assert words(records(one.lose("disconnected", RECV, "disconnected"))) == ["disconnected"]


def test_what_was_acknowledged_and_never_pushed_may_be_lost():
    one = lived(TICKER)
    opened = gaps(records(one.lose("disconnected", RECV, "disconnected")))[0]
    assert (opened.after, opened.after_ts) == (None, None)


def test_a_channel_without_a_first_push_closes_its_gap_at_the_acknowledgement():
    one = lived(LIQUIDATIONS)
    one.lose("disconnected", RECV, "disconnected")
    one.ask()
    said = records(one.acknowledge(RECV))
    assert words(said) == ["closed disconnected", "live"]
    assert gaps(said)[0].until is None


def test_a_second_acknowledgement_says_nothing():
    one = lived(LIQUIDATIONS)
    assert one.acknowledge(RECV) == []


def test_a_ticker_that_did_not_change_meanwhile_has_lost_nothing():
    one = reconnected(lived(TICKER, ticker(1)))
    said = after(one, ticker(1))
    assert words(said) == ["closed disconnected", "live"]
    assert gaps(said)[0].lost == 0


def test_a_repetition_in_mid_stream_proves_nothing():
    one = lived(TICKER, ticker(1))
    assert words(records(one.lose("malformed", RECV))) == ["open malformed"]
    assert words(after(one, ticker(1))) == []
    said = after(one, ticker(2))
    assert words(said) == ["closed malformed", "ticker"]
    assert gaps(said)[0].lost is None


def test_a_repetition_without_a_clock_does_not_count_what_was_lost():
    # An instrument may have changed and changed back.
    row = {"instId": "A", "instType": "SPOT", "state": "live"}
    one = reconnected(lived("instruments:instType=SPOT", push("instruments:instType=SPOT", row)))
    assert one.feed.state == "live"
    assert one.feed.gap is None
    one = lived("status", push("public/status", {}) | {"arg": {"channel": "status"}})
    one.lose("disconnected", RECV, "disconnected")
    one.ask()
    said = after(one, push("public/status", {}) | {"arg": {"channel": "status"}})
    assert [gap.lost for gap in gaps(said)] in ([], [None])


def test_a_content_that_returns_is_delivered_again_where_there_is_no_clock():
    rows = [{"instId": "A", "instType": "SPOT", "state": state} for state in ("live", "suspend", "live")]
    one = lived("instruments:instType=SPOT")
    assert len(after(one, *(push("instruments:instType=SPOT", row) for row in rows))) == 3


def test_an_order_without_a_clock_may_return_to_an_earlier_state():
    one = source("orders:BTC-USDT", dialect=V1)
    one.ask()
    one.acknowledge(RECV)
    (live,), (cancelling,), (another,) = v1_order(0), v1_order(4), v1_order(0, 2)
    said = after(one, live, live, another, cancelling, live, another, live)
    assert [(record.id, record.state) for record in said] == [
        ("1", "live"), ("2", "live"), ("1", "canceling"), ("1", "live"),
    ]  # fmt: skip
    assert one.feed.duplicates == 3


def test_what_is_remembered_of_orders_without_a_clock_is_bounded():
    one = source("orders:BTC-USDT", dialect=V1)
    one.ask()
    assert len(after(one, *(v1_order(0, number)[0] for number in range(3000)))) == 3001  # the first makes it live
    assert len(one.feed._seen._orders) <= 1024


def test_each_change_of_an_order_counts_though_its_time_and_state_are_the_same():
    one = lived(ORDERS)
    pushes = [order(), order(px="11", amendResult="0"), order(px="11", amendResult="-1", reqId="r")]
    assert [record.price for record in after(one, *(message for one_ in pushes for message in (one_, one_)))] == [
        "10", "11", "11",
    ]  # fmt: skip
    assert after(one, *pushes) == []


def test_an_order_id_is_no_position():
    one = lived(ORDERS, order())
    (opened,) = gaps(records(one.lose("disconnected", RECV, "disconnected")))
    assert (opened.after, opened.after_ts) == (None, 1000)


def test_a_book_begins_with_a_snapshot():
    one = lived(BOOK)
    assert after(one, book("update", 4, 5), book("update", 5, 6)) == []
    assert not one.overdue
    assert after(one, book("update", 6, 7)) == []
    assert one.overdue
    assert words(after(one, book("snapshot", -1, 8), book("update", 8, 9))) == [
        "live",
        "book snapshot",
        "book update",
    ]


def test_a_book_holds_changes_back_until_its_next_snapshot():
    one = reconnected(lived(BOOK, book("snapshot", -1, 5), book("update", 5, 6)))
    assert after(one, book("update", 8, 9)) == []
    said = after(one, book("snapshot", -1, 9), book("update", 9, 10))
    assert words(said) == ["closed disconnected", "live", "book snapshot", "book update"]
    assert (gaps(said)[0].after, gaps(said)[0].until, gaps(said)[0].lost) == (6, 9, None)


def test_a_void_book_takes_no_snapshot_that_was_not_asked_for():
    # The subscription is about to be ended and begun anew: changes after this snapshot would be cut off silently.
    one = lived(BOOK, book("snapshot", -1, 5))
    assert words(records(one.lose("malformed", RECV, "void"))) == ["open malformed", "void"]
    assert after(one, book("snapshot", -1, 8), book("update", 8, 9)) == []
    one.ask()
    assert words(after(one, book("snapshot", -1, 12))) == ["closed malformed", "live", "book snapshot"]


def test_a_book_that_is_asked_for_anew_is_given_time_to_come():
    one = lived(BOOK, book("snapshot", -1, 5))
    one.lose("sequence", RECV, "void")
    one.ask()
    later = RECV + 60_000_000_000
    one.acknowledge(later)
    assert one.heard == later


def test_a_snapshot_in_between_replaces_a_living_book():
    one = lived(BOOK, book("snapshot", -1, 5))
    assert words(after(one, book("snapshot", -1, 9), book("update", 9, 10))) == ["book snapshot", "book update"]


def test_a_book_without_a_normalised_form_passes():
    text = "public/books-elp:BTC-USDT"
    one = reconnected(lived(text, push(text, {"ts": "5"}, action="snapshot")))
    assert words(after(one, push(text, {"ts": "6"}, action="snapshot"))) == ["native"]


@pytest.mark.parametrize("text", [TRADES, BOOK, TICKER])
@pytest.mark.parametrize("parsed", [True, False])
def test_what_comes_before_it_was_asked_for_is_of_another_subscription(text: str, parsed: bool):
    message = {TRADES: trades(7), BOOK: book("snapshot", -1, 5), TICKER: ticker(1)}[text]

    def pushed() -> list[Delivery]:
        return one.push(message, RECV) if parsed else one.push_raw(RECV, b"{}", 1)

    one = source(text, parsed=parsed)
    assert pushed() == []
    one.ask()
    assert words(pushed()[0].statements) == ["live"]
    one.lose("disconnected", RECV, "disconnected")
    assert pushed() == []


def test_what_flows_without_an_acknowledgement_may_be_lost_though_nothing_was_in_it():
    one = source(TICKER)
    one.ask()
    assert words(after(one, push(TICKER))) == ["live"]
    assert words(records(one.lose("malformed", RECV))) == ["open malformed"]


def test_to_be_asked_again_while_it_flows_does_not_begin_anew():
    one = lived(TRADES, trades(7))
    one.ask()
    assert [said.origin for said in after(one, trades(8))] == [None]


def test_what_was_refused_stays_refused():
    one = lived(TRADES, trades(7))
    said = one.feed.refuse(one, "60018", "no", RECV)
    assert words(records(said)) == ["open refused", "refused"]
    assert after(one, trades(8)) == []
    assert one.acknowledge(RECV) == []
    assert one.feed.state == "refused"


def test_unreadable_rows_are_one_declared_error_and_change_nothing():
    one = lived(TRADES, trades(7))
    with pytest.raises(DecodeError):
        one.push(push(TRADES, {"tradeId": 8}), RECV)
    assert words(after(one, trades(8))) == ["trade"]


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (TRADES, [trades(7), trades(7)]),
        (TRADES, [trades(7, 8), trades(7, 8)]),
        (BOOK, [book("snapshot", -1, 5), book("update", 7, 9)]),
        (BOOK, [book("update", 7, 9)]),
    ],
    ids=["a trade again", "trades again", "a broken book", "a void book"],
)
def test_a_text_without_a_record_has_the_time_it_came_at(text: str, messages: list[Any]):
    one = lived(text, *messages[:-1])
    said = one.push(messages[-1], RECV + 1, b"{}", 2)
    assert [(delivery.text, delivery.records, delivery.recv) for delivery in said] == [(b"{}", (), RECV + 1)]


def test_a_text_that_only_shows_that_nothing_was_missed_has_the_time_it_came_at():
    one = reconnected(lived(TRADES, trades(7)))
    (said,) = one.push(trades(7), RECV + 1, b"{}", 2)
    assert (words(said.statements), said.text, said.recv) == (["closed disconnected", "live"], b"{}", RECV + 1)


def test_raw_text_passes_untouched_and_only_the_links_losses_are_said():
    one = source(TRADES, parsed=False)
    one.ask()
    said = one.push_raw(RECV, b'{"a" :1}', 1)
    assert (words(said[0].statements), said[0].text, said[0].records) == (["live"], b'{"a" :1}', ())
    assert [(words(d.statements), d.text) for d in one.push_raw(RECV, b"x", 1)] == [([], b"x")]
    assert words(records(one.lose("disconnected", RECV, "disconnected"))) == ["open disconnected", "disconnected"]
    assert one.push_raw(RECV, b"x", 1) == []
    one.ask()
    assert words(one.push_raw(RECV, b"y", 1)[0].statements) == ["closed disconnected", "live"]


STEPS = st.one_of(
    st.tuples(st.just("trade"), st.lists(st.integers(1, 40), min_size=1, max_size=4)),
    st.tuples(st.sampled_from(["disconnect", "bad", "asked", "ack", "empty"]), st.none()),
)


@given(steps=st.lists(STEPS, max_size=40))
def test_whatever_order_trades_come_in_each_is_delivered_once_and_gaps_are_in_order(steps: list[Any]):
    one, check = source(TRADES), Consistent()
    got: list[str] = []
    one.ask()
    for step, numbers in steps:
        if step == "trade":
            deliveries = one.push(trades(*numbers), RECV)
            check(deliveries)
            got += [record.id for delivery in deliveries for record in delivery.records]
        elif step == "empty":
            check(one.push(push(TRADES), RECV))
        elif step == "asked":
            one.ask()
        else:
            said = {
                "disconnect": lambda: one.lose("disconnected", RECV, "disconnected"),
                "bad": lambda: one.lose("malformed", RECV),
                "ack": lambda: one.acknowledge(RECV),
            }[step]()
            check(said)
            one.ask()
    assert len(got) == len(set(got))
    came = {number for step, numbers in steps if step == "trade" for number in numbers}
    assert {int(number) for number in got} <= came
    # What is shown again after a subscription, and was not there before, is delivered as far as it is later.
    assert all(number < max(map(int, got)) for number in came - {int(number) for number in got})
