"""Two connections that bring one subscription: what is delivered, in which order, and what is a gap."""

from itertools import chain
from typing import Any

import pytest
from exchange import (
    RECV,
    V1,
    V3,
    V5,
    Consistent,
    book,
    checksum_of,
    feed,
    gaps,
    order,
    push,
    records,
    ticker,
    trade,
    trades,
    v1_book,
    v3_book,
    words,
)

from okstream.dialects import Dialect
from okstream.feed.source import Source
from okstream.records import AnyRecord, Book

TRADES, BOOK, TICKER = "trades:BTC-USDT", "book:BTC-USDT", "ticker:BTC-USDT"
ORDERS, FILLS = "orders:instType=ANY", "fills"
CANDLES = "candle-1m:BTC-USDT"


class Pair:
    """Two sources of one feed, `a` and `b`, both asked for and acknowledged; time passes only when told."""

    def __init__(self, text: str, dialect: Dialect = V5, *, parsed: bool = True, keeps: bool = False) -> None:
        self.feed = feed(text, dialect=dialect, parsed=parsed, keeps=keeps)
        self.dialect = dialect
        self.check = Consistent()
        self.recv = RECV
        self.a, self.b = self.begins(), self.begins()

    def begins(self) -> Source:
        one = self.feed.source()
        one.ask()
        self.said(one.acknowledge(self.recv))
        return one

    def said(self, deliveries: Any) -> list[AnyRecord]:
        self.check(deliveries)
        return records(deliveries)

    def gets(self, one: Source, *messages: Any) -> list[AnyRecord]:
        payloads = chain.from_iterable(messages) if self.dialect is V1 else messages
        return [record for payload in payloads for record in self.said(one.push(payload, self.recv))]

    def loses(self, one: Source) -> list[AnyRecord]:
        return self.said(self.feed.leave(one, "disconnected", self.recv, "disconnected"))

    def breaks(self, one: Source) -> list[AnyRecord]:
        """A book of which something was missing; it waits to be asked for anew."""
        return self.said(one.lose("sequence", self.recv, "void"))

    def passes(self, seconds: float) -> list[AnyRecord]:
        self.recv += int(seconds * 1e9)
        return self.said([one for source in list(self.feed.sources) for one in self.feed.impatient(source, self.recv)])


def begun(text: str, *first: Any, dialect: Dialect = V5, keeps: bool = False) -> Pair:
    """Both have got `first`; `a` leads."""
    pair = Pair(text, dialect, keeps=keeps)
    pair.gets(pair.a, *first)
    assert pair.gets(pair.b, *first) == []
    assert pair.feed.leader is pair.a
    pair.recv += 10_000_000_000
    return pair


def ids(said: list[AnyRecord]) -> list[Any]:
    assert not gaps(said)
    return [getattr(record, "id", None) for record in said]


class TestTrades:
    def test_what_both_bring_is_delivered_once(self):
        pair = begun(TRADES, trades(7))
        assert ids(pair.gets(pair.a, trades(8))) == ["8"]
        assert pair.gets(pair.b, trades(8)) == []
        assert pair.gets(pair.b, trades(9)) == []
        assert ids(pair.gets(pair.a, trades(9))) == ["9"]

    def test_the_other_goes_on_where_the_first_was_lost(self):
        pair = begun(TRADES, trades(7))
        pair.gets(pair.b, trades(8), trades(9))
        pair.gets(pair.a, trades(8))
        assert ids(pair.loses(pair.a)) == ["9"]
        assert ids(pair.gets(pair.b, trades(10))) == ["10"]

    def test_the_other_is_behind_where_the_first_was_lost(self):
        pair = begun(TRADES, trades(7))
        pair.gets(pair.a, trades(8), trades(9))
        assert pair.loses(pair.a) == []
        assert ids(pair.gets(pair.b, trades(8), trades(9), trades(10))) == ["10"]

    def test_what_one_missed_the_other_brings(self):
        pair = begun(TRADES, trades(7))
        pair.gets(pair.b, trades(8))
        assert ids(pair.gets(pair.a, trades(9))) == ["8"]
        assert ids(pair.gets(pair.b, trades(9))) == ["9"]

    def test_what_one_missed_the_other_brings_though_later(self):
        pair = begun(TRADES, trades(7))
        assert pair.gets(pair.a, trades(9)) == []
        assert ids(pair.gets(pair.b, trades(8), trades(9), trades(10))) == ["8", "9", "10"]
        assert pair.gets(pair.a, trades(10)) == []

    def test_what_both_missed_is_one_gap(self):
        pair = begun(TRADES, trades(7))
        pair.gets(pair.b, trades(9))
        said = pair.gets(pair.a, trades(9))
        assert words(said) == ["open sequence", "closed sequence", "trade"]
        assert gaps(said)[1].lost == 1
        assert pair.gets(pair.b, trades(9)) == []

    def test_an_unreadable_message_of_one_is_no_gap(self):
        pair = begun(TRADES, push(TRADES, trade(7, count=None)))
        assert pair.said(pair.a.lose("malformed", pair.recv)) == []
        assert pair.said(pair.b.lose("malformed", pair.recv)) != [], "now both were shaken within seconds"

    def test_both_lost_is_one_gap(self):
        pair = begun(TRADES, trades(7))
        assert pair.loses(pair.a) == []
        assert words(pair.loses(pair.b)) == ["open disconnected", "disconnected"]
        again = pair.begins()
        said = pair.gets(again, trades(10))
        assert words(said) == ["closed disconnected", "live", "trade"]
        assert gaps(said)[0].lost == 2

    def test_one_that_is_ahead_for_long_leads(self):
        pair = begun(TRADES, trades(7))
        pair.gets(pair.b, trades(8), trades(9))
        assert pair.passes(0.9) == []
        said = pair.passes(60.0)
        assert ids(said) == ["8", "9"]
        assert pair.feed.leader is pair.b
        assert pair.gets(pair.a, trades(8), trades(9)) == []

    def test_what_is_older_than_what_was_delivered_does_not_come_after_it(self):
        pair = Pair(TRADES)
        pair.gets(pair.b, trades(7), trades(8))
        pair.feed.sources.remove(pair.a)
        pair.loses(pair.b)
        pair.feed.sources.append(pair.a)
        assert [said for said in words(pair.gets(pair.a, trades(6), trades(7))) if said == "trade"] == []


class TestNumberedBooks:
    FIRST = book("snapshot", -1, 10)

    def test_what_both_bring_is_delivered_once(self):
        pair = begun(BOOK, self.FIRST)
        assert words(pair.gets(pair.a, book("update", 10, 12), book("update", 12, 14))) == ["book update"] * 2
        assert pair.gets(pair.b, book("update", 10, 13), book("update", 13, 14), book("update", 14, 15)) == []
        assert words(pair.gets(pair.a, book("update", 14, 16))) == ["book update"]

    @pytest.mark.parametrize("keeps", [True, False])
    @pytest.mark.parametrize("prev", [10, 11, 13, 14])
    def test_a_change_from_before_to_beyond_is_joined(self, prev: int, keeps: bool):
        """By what differs, or where the levels of before are not kept by the whole book: nothing was lost."""
        pair = begun(BOOK, self.FIRST, keeps=keeps)
        pair.gets(pair.a, book("update", 10, 14))
        if prev > 10:
            pair.gets(pair.b, book("update", 10, prev))
        assert pair.gets(pair.b, book("update", prev, 16)) == []
        (said,) = pair.loses(pair.a)
        assert isinstance(said, Book)
        joined = (said.action, said.prev, said.seq)
        assert joined == (("update", 14, 16) if keeps or prev == 14 else ("snapshot", -1, 16))
        assert words(pair.gets(pair.b, book("update", 16, 17))) == ["book update"]

    def test_one_that_is_behind_is_joined_once_it_is_beyond(self):
        pair = begun(BOOK, self.FIRST, keeps=True)
        pair.gets(pair.a, book("update", 10, 14))
        assert pair.loses(pair.a) == []
        assert pair.gets(pair.b, book("update", 10, 12), book("update", 12, 13), book("update", 13, 13)) == []
        (said,) = pair.gets(pair.b, book("update", 13, 15))
        assert isinstance(said, Book)
        assert (said.prev, said.seq) == (14, 15)

    @pytest.mark.parametrize("keeps", [True, False])
    def test_only_the_snapshot_of_the_other_is_beyond(self, keeps: bool):
        pair = begun(BOOK, self.FIRST, keeps=keeps)
        pair.loses(pair.b)
        again = pair.begins()
        assert pair.gets(again, book("snapshot", -1, 20), book("update", 20, 21, price="6")) == []
        (said,) = pair.loses(pair.a)
        assert isinstance(said, Book)
        rows = [row[0] for row in said.asks]
        assert (said.action, said.seq, rows) == (("update", 21, ["6"]) if keeps else ("snapshot", 21, ["5", "6"]))

    def test_what_came_and_went_between_the_two_places_is_gone(self):
        """Neither names it: the one that led only brought it, the other saw it neither before nor after."""
        pair = begun(BOOK, self.FIRST, keeps=True)
        pair.gets(pair.a, book("update", 10, 14, price="6"))
        assert pair.gets(pair.b, book("update", 10, 16, price="7")) == []
        (said,) = pair.loses(pair.a)
        assert isinstance(said, Book)
        assert [row[:2] for row in said.asks] == [["6", "0"], ["7", "1"]]

    def test_a_snapshot_that_was_passed_is_as_good_as_any(self):
        pair = begun(BOOK, self.FIRST, keeps=True)
        pair.loses(pair.b)
        again = pair.begins()
        pair.gets(again, book("snapshot", -1, 12))
        pair.gets(pair.a, book("update", 10, 13))
        assert pair.loses(pair.a) == []
        (said,) = pair.gets(again, book("update", 12, 14))
        assert isinstance(said, Book)
        assert (said.prev, said.seq) == (13, 14)

    def test_one_whose_levels_nobody_knows_is_void_before_anything_of_it_is_delivered(self):
        """It led once, and was not kept when it led no more."""
        pair = begun(BOOK, self.FIRST)
        pair.gets(pair.b, book("update", 10, 11))
        assert [record.seq for record in pair.passes(2)] == [11]
        pair.gets(pair.b, book("update", 11, 12))
        pair.gets(pair.a, book("update", 10, 13))
        assert words(pair.loses(pair.b)) == ["open sequence", "void"]
        assert pair.a.broken is not None
        assert pair.gets(pair.a, book("update", 13, 14)) == []

    def test_one_that_was_asked_for_alone_is_known_beside_one_that_came_before_it(self):
        feed_of_both = feed(BOOK, keeps=True)
        a = feed_of_both.source()
        a.ask()
        b = feed_of_both.source()
        b.ask()
        assert words(records(b.push(self.FIRST, RECV))) == ["live", "book snapshot"]
        assert a.push(self.FIRST, RECV) == a.push(book("update", 10, 12, price="7"), RECV) == []
        (change,) = records(feed_of_both.leave(b, "disconnected", RECV, "disconnected"))
        assert (change.action, change.prev, change.seq, change.asks) == ("update", 10, 12, [["7", "1", "0", "1"]])

    def test_the_one_that_leads_breaks_and_the_other_goes_on(self):
        pair = begun(BOOK, self.FIRST)
        pair.gets(pair.b, book("update", 10, 12))
        assert pair.gets(pair.a, book("update", 11, 12)) == []
        assert pair.a.broken is not None
        assert words(pair.breaks(pair.a)) == ["book update"]
        assert pair.feed.state == "live"

    def test_the_other_breaks_and_nobody_sees_it(self):
        pair = begun(BOOK, self.FIRST)
        assert pair.gets(pair.b, book("update", 11, 12)) == []
        assert pair.breaks(pair.b) == []
        assert words(pair.gets(pair.a, book("update", 10, 12))) == ["book update"]
        assert words(pair.loses(pair.a)) == ["open disconnected", "disconnected"], "nobody else brings it"

    def test_both_break_and_one_gap_is_closed_by_the_first_snapshot(self):
        pair = begun(BOOK, self.FIRST)
        pair.gets(pair.a, book("update", 11, 12))
        assert pair.breaks(pair.a) == []
        pair.gets(pair.b, book("update", 11, 12))
        assert words(pair.breaks(pair.b)) == ["open sequence", "void"]
        pair.a.ask()
        pair.b.ask()
        assert words(pair.gets(pair.b, book("snapshot", -1, 20))) == ["closed sequence", "live", "book snapshot"]
        assert pair.gets(pair.a, book("snapshot", -1, 21)) == []
        assert words(pair.gets(pair.b, book("update", 20, 22))) == ["book update"]

    def test_one_that_is_ahead_for_long_leads(self):
        pair = begun(BOOK, self.FIRST)
        pair.gets(pair.b, book("update", 10, 12), book("update", 12, 13))
        assert pair.passes(0.9) == []
        assert words(pair.passes(60.0)) == ["book update"] * 2
        assert pair.gets(pair.a, book("update", 10, 13)) == []
        (said,) = pair.gets(pair.b, book("update", 13, 14))
        assert isinstance(said, Book)
        assert said.prev == 13

    def test_a_keep_alive_of_the_other_is_nothing_to_wait_for(self):
        pair = begun(BOOK, self.FIRST)
        pair.gets(pair.b, book("update", 10, 10))
        assert pair.passes(60.0) == []
        assert pair.feed.leader is pair.a

    def test_numbers_that_begin_anew_on_both(self):
        pair = begun(BOOK, self.FIRST)
        reset, after = book("update", 10, 3, ts=1100), book("update", 3, 4, ts=1200)
        assert words(pair.gets(pair.a, reset)) == ["book update"]
        assert pair.gets(pair.b, reset, after) == []
        (said,) = pair.loses(pair.a)
        assert isinstance(said, Book)
        assert (said.prev, said.seq) == (3, 4)

    def test_numbers_that_begin_anew_on_the_other_first(self):
        pair = begun(BOOK, self.FIRST)
        assert pair.gets(pair.b, book("update", 10, 3, ts=1100), book("update", 3, 4, ts=1200)) == []
        said = pair.loses(pair.a)
        assert words(said) == ["book update"] * 2
        assert [record.seq for record in said if isinstance(record, Book)] == [3, 4]

    def test_both_lost_is_one_gap(self):
        pair = begun(BOOK, self.FIRST)
        assert pair.loses(pair.a) == []
        assert words(pair.loses(pair.b)) == ["open disconnected", "disconnected"]
        again = pair.begins()
        said = pair.gets(again, book("snapshot", -1, 30))
        assert words(said) == ["closed disconnected", "live", "book snapshot"]


class TestBooksWithChecksums:
    def test_they_switch_where_both_show_the_same(self):
        pair = begun(BOOK, v3_book("partial", 1, "9"), dialect=V3)
        both = v3_book("update", 2, "10", checksum=checksum_of(["10", "9"], ["11"]))
        assert words(pair.gets(pair.a, both)) == ["book update"]
        assert pair.gets(pair.b, both) == []
        assert pair.loses(pair.a) == []
        last = v3_book("update", 3, checksum=checksum_of(["10", "9"], ["11"]))
        assert words(pair.gets(pair.b, last)) == ["book update"]

    def test_what_the_other_brought_beyond_is_delivered(self):
        pair = begun(BOOK, v3_book("partial", 1, "9"), dialect=V3)
        beyond = v3_book("update", 2, "10", checksum=checksum_of(["10", "9"], ["11"]))
        assert pair.gets(pair.b, beyond) == []
        assert words(pair.loses(pair.a)) == ["book update"]

    def test_the_other_catches_up_to_the_same_and_is_joined(self):
        pair = begun(BOOK, v3_book("partial", 1, "9"), dialect=V3)
        both = v3_book("update", 2, "10", checksum=checksum_of(["10", "9"], ["11"]))
        pair.gets(pair.a, both)
        assert pair.loses(pair.a) == []
        assert pair.feed.levels is None or pair.feed.levels.depth == (2, 1), "the other's book is of an earlier moment"
        assert pair.gets(pair.b, both) == []
        last = v3_book("update", 3, checksum=checksum_of(["10", "9"], ["11"]))
        assert words(pair.gets(pair.b, last)) == ["book update"]

    def test_otherwise_what_differs_from_the_book_of_the_other_comes_as_an_update(self):
        pair = begun(BOOK, v3_book("partial", 1, "9"), dialect=V3)
        pair.gets(pair.a, v3_book("update", 2, "10", checksum=checksum_of(["10", "9"], ["11"])))
        both = checksum_of(["10", "8"], ["11"])
        other = v3_book("update", 2, "10", ms=50, checksum=checksum_of(["10", "9"], ["11"]))
        row = {"instrument_id": "BTC-USDT", "asks": [], "bids": [["9", "0", "0", "0"], ["8", "1", "0", "1"]]}
        row |= {"timestamp": "2021-04-17T16:49:02.150Z", "checksum": both}
        assert pair.gets(pair.b, other, {**other, "action": "update", "data": [row]}) == []
        (change,) = pair.loses(pair.a)
        assert isinstance(change, Book)
        assert (change.action, change.bids, change.asks) == (
            "update", [["9", "0", "0", "0"], ["8", "1", "0", "1"]], [],
        )  # fmt: skip

    def test_the_whole_book_of_the_other_comes_in_a_gap_where_the_first_became_wrong(self):
        pair = begun(BOOK, v3_book("partial", 1, "9"), dialect=V3)
        pair.gets(pair.a, v3_book("update", 2, "10", checksum=checksum_of(["10", "9"], ["11"])))
        other = v3_book("update", 2, "10", ms=50, checksum=checksum_of(["10", "9"], ["11"]))
        assert pair.gets(pair.b, other) == []
        assert pair.gets(pair.a, v3_book("update", 3, "7", checksum=1)) == []
        assert pair.a.broken is not None
        said = pair.said(pair.a.lose(pair.a.broken[0], pair.recv, "void"))
        assert words(said) == ["open checksum", "closed checksum", "book snapshot"]
        whole = said[-1]
        assert isinstance(whole, Book)
        assert [[row[0] for row in side] for side in (whole.bids, whole.asks)] == [["10", "9"], ["11"]]
        assert pair.feed.levels is not None
        assert pair.feed.levels.depth == (2, 1)

    def test_what_both_lost_is_a_gap_though_one_was_mended_already(self):
        """It was where the delivered book is before it lost that; its next snapshot is beyond."""
        pair = begun(BOOK, v3_book("partial", 1, "9"), dialect=V3)
        assert pair.breaks(pair.b) == []
        pair.b.ask()
        assert pair.said(pair.b.acknowledge(pair.recv)) == []
        assert pair.gets(pair.b, v3_book("partial", 3, "10")) == []
        assert pair.gets(pair.a, v3_book("update", 3, "7", checksum=1)) == []
        assert pair.a.broken is not None
        said = pair.said(pair.a.lose(pair.a.broken[0], pair.recv, "void"))
        assert words(said) == ["open checksum", "closed checksum", "book snapshot"]

    def test_both_lost_is_one_gap(self):
        pair = begun(BOOK, v3_book("partial", 1, "9"), dialect=V3)
        assert pair.loses(pair.a) == []
        assert words(pair.loses(pair.b)) == ["open disconnected", "disconnected"]

    def test_a_change_is_applied_again_after_an_older_whole_book(self):
        pair = begun(BOOK, v3_book("partial", 1, "9"), dialect=V3)
        change = v3_book("update", 2, "10", checksum=checksum_of(["10", "9"], ["11"]))
        pair.gets(pair.b, change)
        pair.passes(60.0)
        assert pair.feed.leader is pair.b
        said = [*pair.loses(pair.b), *pair.gets(pair.a, change)]
        held: set[str] = {"10", "9"}
        for record in said:
            if isinstance(record, Book):
                held = (set() if record.action == "snapshot" else held) | {row[0] for row in record.bids}
        assert held == {"10", "9"}


class TestBooksOfNeither:
    FIRST, SECOND, THIRD, FOURTH = v1_book(1000), v1_book(1100, "8"), v1_book(1200, "7"), v1_book(1300, "6")

    def test_what_differs_from_the_book_of_the_other_comes_as_an_update(self):
        pair = Pair(BOOK, V1)
        assert words(pair.gets(pair.a, self.FIRST, self.SECOND)) == ["live", "book snapshot", "book update"]
        assert pair.gets(pair.b, self.FIRST, self.SECOND, self.THIRD) == []
        (change,) = pair.loses(pair.a)
        assert isinstance(change, Book)
        assert (change.action, [row[0] for row in change.bids], change.asks) == ("update", ["7"], [])
        assert words(pair.gets(pair.b, self.FOURTH)) == ["book update"]

    def test_the_other_is_nothing_to_change_to_while_the_first_brings_the_same(self):
        pair = Pair(BOOK, V1)
        for message in (self.FIRST, self.SECOND, self.THIRD, self.FOURTH):
            assert not gaps(pair.gets(pair.a, message))
            assert pair.gets(pair.b, message) == []
            assert pair.passes(4.0) == []
        assert pair.feed.leader is pair.a


class TestOneLeads:
    def test_a_ticker_of_the_other_is_never_delivered_behind_a_newer_one(self):
        pair = begun(TICKER, ticker(1))
        pair.gets(pair.a, ticker(5, "5"))
        assert pair.gets(pair.b, ticker(2, "2"), ticker(3, "3")) == []
        assert pair.loses(pair.a) == []
        assert pair.gets(pair.b, ticker(4, "4"), ticker(5, "5")) == []
        assert words(pair.gets(pair.b, ticker(6, "6"))) == ["ticker"]

    def test_what_the_other_brought_beyond_is_delivered(self):
        pair = begun(TICKER, ticker(1))
        pair.gets(pair.b, ticker(2), ticker(3))
        pair.gets(pair.a, ticker(2))
        said = pair.loses(pair.a)
        assert words(said) == ["ticker"]
        assert said[0].ts == 3

    def test_both_lost_is_one_gap(self):
        pair = begun(TICKER, ticker(1))
        assert pair.loses(pair.a) == []
        assert words(pair.loses(pair.b)) == ["open disconnected", "disconnected"]

    def test_an_unreadable_message_of_the_one_that_leads_is_no_gap(self):
        pair = begun(TICKER, ticker(1))
        assert pair.said(pair.a.lose("malformed", pair.recv)) == []
        assert words(pair.gets(pair.b, ticker(2))) == ["ticker"]

    def test_shaken_both_within_seconds_something_may_be_lost(self):
        pair = begun(TICKER, ticker(1))
        assert pair.said(pair.b.lose("malformed", pair.recv)) == []
        assert words(pair.said(pair.a.lose("malformed", pair.recv))) == ["open malformed"]

    def test_refused_to_one_changes_nothing(self):
        for one in ("a", "b"):
            pair = begun(TICKER, ticker(1))
            refused, other = (pair.a, pair.b) if one == "a" else (pair.b, pair.a)
            assert pair.said(pair.feed.refuse(refused, "60018", "no", pair.recv)) == []
            assert pair.gets(refused, ticker(2)) == []
            assert words(pair.gets(other, ticker(2)) or pair.passes(60.0)) == ["ticker"]
            assert words(pair.said(pair.feed.refuse(other, "60018", "no", pair.recv))) == ["open refused", "refused"]

    def test_a_silence_that_began_before_the_other_did_is_a_gap_all_the_same(self):
        """Both were mute; the one that did not lead was replaced first, and nobody saw what came meanwhile."""
        pair = begun(TICKER, ticker(1))
        pair.a.heard = pair.b.heard = pair.recv
        pair.recv += 25_000_000_000
        pair.said(pair.feed.leave(pair.b, "stale", pair.recv, "stale"))
        third = pair.begins()
        assert pair.gets(third, ticker(9, "5")) == []
        said = pair.said(pair.a.lose("stale", pair.recv, "stale"))
        assert [(gap.state, gap.reason) for gap in gaps(said)] == [("open", "stale"), ("closed", "stale")]
        assert said[-1].ts == 9

    def test_one_that_overtakes_a_leader_which_was_mute_before_it_began_says_so(self):
        pair = begun(TICKER, ticker(1))
        pair.loses(pair.b)
        later = pair.begins()
        assert pair.gets(later, ticker(9, "5")) == []
        said = pair.passes(1.5)
        assert [(gap.state, gap.reason) for gap in gaps(said)] == [("open", "stale"), ("closed", "stale")]
        assert said[-1].ts == 9

    def test_one_that_overtakes_a_leader_that_was_heard_since_it_began_has_nothing_to_say(self):
        pair = begun(TICKER, ticker(1))
        pair.loses(pair.b)
        later = pair.begins()
        pair.gets(pair.a, ticker(5, "2"))
        pair.gets(later, ticker(5, "2"), ticker(9, "5"))
        said = pair.passes(1.5)
        assert [record.ts for record in said] == [9]

    def test_one_that_shows_the_present_state_shows_no_loss_by_that(self):
        """A channel that repeats itself seldom has a state of now for whoever begins."""
        pair = begun(TICKER, ticker(1))
        pair.loses(pair.b)
        later = pair.begins()
        assert pair.gets(later, ticker(9)) == []
        assert pair.passes(1.5) == []
        assert pair.gets(later, ticker(12, "5")) == []
        pair.a.unanswered()
        said = pair.loses(pair.a)
        assert [gap.reason for gap in gaps(said)] == ["stale"] * 2, "it was dead, and nobody saw what came meanwhile"
        assert [record.ts for record in said[-2:]] == [9, 12]

    @pytest.mark.parametrize("heard", [True, False])
    def test_a_twin_that_was_found_mute_is_no_witness_until_it_speaks_again(self, heard):
        pair = begun(TICKER, ticker(1))
        pair.b.doubt()
        pair.recv += 5_000_000_000
        third = pair.begins()
        pair.gets(third, ticker(9, "5"))
        if heard:
            pair.gets(pair.b, ticker(9, "5"))
        else:
            pair.b.reset(pair.recv)  # which is no sign of life
        said = pair.said(pair.a.lose("stale", pair.recv, "stale")) + pair.loses(pair.b)
        assert [gap.reason for gap in gaps(said)] == ([] if heard else ["stale"] * 2)
        assert said[-1].ts == 9

    @pytest.mark.parametrize("acknowledged", [True, False])
    def test_one_that_began_moments_ago_is_no_witness_but_what_it_brought_is_delivered(self, acknowledged):
        pair = begun(ORDERS, order(ordId="1", uTime="1"))
        pair.loses(pair.b)
        pair.recv += 9_000_000_000
        later = pair.begins() if acknowledged else pair.feed.source()
        later.ask()
        pair.recv += 500_000_000
        assert pair.gets(later, order(ordId="2", uTime="2"), order(ordId="3", uTime="3")) == []
        pair.recv += 500_000_000
        said = pair.loses(pair.a) + pair.gets(later, order(ordId="4", uTime="4"))
        assert [gap.state for gap in gaps(said)] == ["open", "closed"], "what came before it began, nobody knows"
        assert [record.id for record in said if record.type == "order"] == ["2", "3", "4"]

    @pytest.mark.parametrize("leads", [True, False])
    @pytest.mark.parametrize("waits", [0.0, 1.5])
    def test_what_was_lost_of_one_while_the_other_was_dead_is_a_gap(self, leads, waits):
        pair = begun(TICKER, ticker(1))
        one, dead = (pair.a, pair.b) if leads else (pair.b, pair.a)
        one.pulse.alive = dead.pulse.alive = pair.recv
        pair.recv += 1_000_000_000
        assert pair.said(one.lose("malformed", pair.recv)) == []
        pair.recv += 6_000_000_000
        said = pair.gets(one, ticker(9, "5")) + pair.passes(waits)
        dead.unanswered()
        said += pair.loses(dead)
        assert [gap.reason for gap in gaps(said)] == ["stale"] * 2
        assert said[-1].ts == 9

    @pytest.mark.parametrize("first", ["a", "b"])
    @pytest.mark.parametrize("heard", [True, False])
    def test_a_twin_that_was_not_heard_after_one_that_is_dead_may_be_dead_as_well(self, first, heard):
        pair = begun(TICKER, ticker(1))
        for one in (pair.a, pair.b):
            one.pulse.alive = pair.recv
        pair.recv += 20_000_000_000
        third = pair.begins()
        third.pulse.alive = pair.recv
        pair.gets(third, ticker(9))
        dead, other = (pair.a, pair.b) if first == "a" else (pair.b, pair.a)
        other.pulse.alive += 15_000_000_000 if heard else 1_000_000_000
        dead.unanswered()
        said = pair.loses(dead) + pair.loses(other) + pair.gets(third, ticker(12, "5"))
        assert [gap.reason for gap in gaps(said)] == ([] if heard else ["stale"] * 2)

    def test_what_nobody_can_tell_from_what_it_was_is_followed_once_it_goes_on(self):
        limits = "price-limit:BTC-USDT"
        first, later, last = (push(limits, {"instId": "BTC-USDT", "ts": ts}) for ts in ("1", "9", "20"))
        pair = begun(limits, first)
        pair.loses(pair.b)
        other = pair.begins()
        assert pair.gets(other, later) == pair.passes(60.0) == pair.gets(other, last) == []
        said = pair.passes(1.5)
        assert [gap.reason for gap in gaps(said)] == ["stale"] * 2
        assert words(said)[-2:] == ["native"] * 2

    def test_what_was_shown_first_without_a_clock_is_old_once_the_leader_brought_more(self):
        """Else it would stand before what both bring from then on, and that would come twice behind it."""
        name = "balance_and_position"
        one, shown, two, three = (push(name, {"eventType": kind}) for kind in ("a", "snapshot", "b", "c"))
        pair = begun(name, one)
        pair.loses(pair.b)
        other = pair.begins()
        assert pair.gets(other, shown) == pair.passes(5.0) == []
        assert words(pair.gets(pair.a, two)) == ["native"]
        assert pair.gets(other, two) == pair.passes(5.0) == pair.loses(pair.a) == []
        (last,) = pair.gets(other, three)
        assert last.data["data"] == [{"eventType": "c"}]

    def test_one_that_is_silent_while_another_repeats_the_present_state_without_end_is_mute(self):
        pair = begun(TICKER, ticker(1))
        pair.loses(pair.b)
        later = pair.begins()
        assert pair.gets(later, *(ticker(9 + number) for number in range(256))) == []
        assert pair.passes(1.5) == []
        said = pair.gets(later, ticker(300))
        assert [gap.reason for gap in gaps(said)] == ["stale"] * 2
        assert (len(said), pair.feed.leader) == (2 + 257, later)

    def test_a_bar_that_came_with_the_end_of_the_one_before_does_not_come_again(self):
        over, begins = ["60000", *"5757333", "1"], ["120000", *"7777000", "0"]
        pair = begun(CANDLES, push(CANDLES, over, begins))
        pair.loses(pair.b)
        other = pair.begins()
        assert pair.gets(other, push(CANDLES, begins)) == []
        pair.recv += 3_000_000_000
        assert pair.loses(pair.a) == []
        assert words(pair.loses(other)) == ["open disconnected", "disconnected"]
        third = pair.begins()
        assert words(pair.gets(third, push(CANDLES, begins))) == ["closed disconnected", "live"]
        assert words(pair.gets(third, push(CANDLES, ["120000", *"7877111", "0"]))) == ["candle"]

    @pytest.mark.parametrize(
        ("closed", "prices", "volume", "mute"),
        [("1", "7777", "0", False), ("0", "7777", "0", True), ("1", "7877", "0", True), ("1", "7777", "0.1", True)],
    )
    def test_a_bar_without_trades_shows_a_loss_only_if_the_one_before_was_not_over(self, closed, prices, volume, mute):
        """A bar is pushed while there are trades in it, and to whoever begins."""
        pair = begun(CANDLES, push(CANDLES, ["60000", "5", "9", "5", "7", "3", "3", "3", closed]))
        pair.loses(pair.b)
        later = pair.begins()
        assert pair.gets(later, push(CANDLES, ["180000", *prices, volume, "0", "0", "0"])) == []
        said = pair.passes(3.0)
        assert [gap.reason for gap in gaps(said)] == (["stale"] * 2 if mute else [])
        assert [record.ts for record in said if record.type == "candle"] == ([180000] if mute else [])

    @pytest.mark.parametrize(
        ("before", "mute"), [(book("snapshot", -1, 20), False), (book("snapshot", -1, 20, price="6"), True)]
    )
    @pytest.mark.parametrize("lately", [(), (book("update", 20, 21, price="7"),)])
    def test_a_book_shows_a_loss_only_if_its_levels_were_others_for_long(self, before, lately, mute):
        """What changes beyond them is numbered, too."""
        pair = begun(BOOK, book("snapshot", -1, 10), keeps=True)
        pair.loses(pair.b)
        later = pair.begins()
        assert pair.gets(later, before) == []
        assert pair.passes(0.95) == []
        assert pair.gets(later, *lately) == []
        said = pair.passes(0.1)
        assert [gap.reason for gap in gaps(said)] == (["stale"] * 2 if mute else [])
        assert [record.seq for record in said if isinstance(record, Book)] == ([21 if lately else 20] if mute else [])

    @pytest.mark.parametrize(("bid", "mute"), [("9", False), ("8", True)])
    def test_so_does_a_book_of_v3(self, bid, mute):
        pair = begun(BOOK, v3_book("partial", 1, "9"), dialect=V3)
        pair.loses(pair.b)
        later = pair.begins()
        assert pair.gets(later, v3_book("partial", 20, bid)) == []
        said = pair.passes(2.0)
        assert [gap.reason for gap in gaps(said)] == (["stale"] * 2 if mute else [])

    @pytest.mark.parametrize(("silent", "seconds", "mute"), [(1, 0.1, False), (1, 0.5, True), (10, 0.1, True)])
    def test_one_that_ends_without_what_the_other_brought_long_before_was_mute(self, silent, seconds, mute):
        """Or without what the other brought just now, after a silence in which it may have been mute."""
        pair = begun(TICKER, ticker(1))
        pair.loses(pair.b)
        pair.gets(pair.a, ticker(2))
        pair.recv += silent * 1_000_000_000
        later = pair.begins()
        assert pair.gets(later, ticker(9, "5")) == []
        assert pair.passes(seconds) == []
        said = pair.loses(pair.a)
        assert [gap.reason for gap in gaps(said)] == (["stale"] * 2 if mute else [])
        assert said[-1].ts == 9

    @pytest.mark.parametrize("silent", [9.0, 11.0])
    def test_one_long_silent_is_not_let_go_while_another_shows_what_it_may_be_about_to_bring(self, silent):
        pair = begun(TICKER, ticker(1))
        pair.loses(pair.b)
        pair.recv += int((silent - 10.0) * 1e9)
        other = pair.begins()
        assert not pair.feed.ahead(other, pair.recv)
        assert pair.gets(other, ticker(9, "5")) == []
        assert pair.feed.ahead(other, pair.recv) is (silent > 10)
        assert words(pair.gets(pair.a, ticker(10, "5"))) == ["ticker"]
        assert not pair.feed.ahead(other, pair.recv)

    @pytest.mark.parametrize(("last", "mute"), [("1", False), ("5", True)])
    def test_a_message_that_holds_nothing_says_nothing_of_what_the_other_missed(self, last, mute):
        pair = begun(TICKER, ticker(1))
        pair.loses(pair.b)
        later = pair.begins()
        assert pair.gets(later, ticker(9, last), push(TICKER)) == []
        pair.passes(0.9)
        assert pair.gets(later, push(TICKER)) == []
        said = pair.loses(pair.a)
        assert [gap.reason for gap in gaps(said)] == (["stale"] * 2 if mute else [])
        assert said[-1].ts == 9


class TestIdentities:
    def test_orders_of_both_are_delivered_once(self):
        pair = Pair(ORDERS)
        live, filled = order(), order("filled", uTime="2000")
        assert words(pair.gets(pair.a, live)) == ["order"]
        assert pair.gets(pair.b, live, filled) == []
        assert words(pair.gets(pair.a, filled)) == ["order"]
        pair.recv += 10_000_000_000
        assert pair.loses(pair.a) == []
        canceled = order("canceled", uTime="3000", ordId="2")
        assert words(pair.gets(pair.b, canceled)) == ["order"]

    def test_what_only_the_other_brought_is_delivered_when_the_first_is_lost(self):
        pair = Pair(ORDERS)
        pair.gets(pair.a, order())
        pair.gets(pair.b, order(), order("filled", uTime="2000"))
        pair.recv += 10_000_000_000
        said = pair.loses(pair.a)
        assert words(said) == ["order"]

    def test_fills_of_both_are_delivered_once(self):
        pair = Pair(FILLS)
        fills = [
            push(FILLS, {"instId": "A", "ordId": "1", "tradeId": str(number), "side": "buy", "fillPx": "1",
                         "fillSz": "1", "ts": str(number), "execType": "M", "count": "1"})
            for number in (1, 2, 3)
        ]  # fmt: skip
        assert words(pair.gets(pair.a, fills[0])) == ["fill"]
        assert pair.gets(pair.b, fills[0], fills[1], fills[2]) == []
        assert words(pair.gets(pair.a, fills[1])) == ["fill"]
        pair.recv += 10_000_000_000
        assert words(pair.loses(pair.a)) == ["fill"]

    def test_one_that_was_just_subscribed_does_not_cover_what_came_before(self):
        pair = Pair(ORDERS)
        pair.gets(pair.a, order())
        pair.loses(pair.b)
        again = pair.begins()  # an order of a moment ago may be on its way to the first only
        assert again.flowing
        assert words(pair.loses(pair.a))[:1] == ["open disconnected"]


class TestRaw:
    @pytest.mark.parametrize(("doubtful", "action"), [(False, "update"), (True, "snapshot")])
    def test_texts_that_an_unnumbered_book_stands_for_pass_behind_what_is_said(self, doubtful: bool, action: str):
        pair = begun(BOOK, v3_book("partial", 1, "9"), dialect=V3)
        second = v3_book("update", 2, "10", checksum=checksum_of(["10", "9"], ["11"]))
        third = v3_book("update", 3, "8", checksum=checksum_of(["10", "9", "8"], ["11"]))
        pair.gets(pair.a, v3_book("update", 2, "7", checksum=checksum_of(["9", "7"], ["11"])))
        pair.feed.doubtful = doubtful
        assert [pair.b.push(one, pair.recv, text, 9) for one, text in ((second, b"2"), (third, b"3"))] == [[], []]
        said = pair.feed.leave(pair.a, "disconnected", pair.recv, "disconnected")
        assert [delivery.text for delivery in said] == [b"2", b"3"]
        assert [record.action for delivery in said for record in delivery.records] == [action]
        assert not said[1].statements

    def test_one_is_passed_on_and_the_other_takes_its_place(self):
        pair = Pair(TICKER, parsed=False)
        assert pair.a.push_raw(RECV, b"1", 1)[0].text == b"1"
        assert pair.b.push_raw(RECV, b"1", 1) == []
        assert [one.text for one in pair.a.push_raw(RECV, b"2", 1)] == [b"2"]
        # Nobody can tell what both had in common: that is a gap.
        assert words(pair.loses(pair.a)) == ["open disconnected", "disconnected"]
        said = pair.b.push_raw(RECV, b"3", 1)
        assert words(said[0].statements) == ["closed disconnected", "live"]
        assert said[0].text == b"3"
