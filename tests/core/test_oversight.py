"""When a silence is a verdict, and what is done about it: values in, values out."""

from itertools import pairwise
from typing import Any

import pytest
from exchange import RECV, Call, feed, push, records, ticker, trades, words
from hypothesis import given
from hypothesis import strategies as st

from okstream.feed.source import Source
from okstream.freshness import Pace, Watch
from okstream.session.oversight import Oversight

SECOND = 1_000_000_000
ASKED, DUE, NEITHER = Pace(asked=True), Pace(due=60.0), Pace()


def looks(watch: Watch, seconds: float, pace: Pace = ASKED, *, flowing: bool = True, keys: str = "a") -> Any:
    """Look at subscriptions that have been silent since second 0."""
    return watch.look([(key, pace, 0, flowing) for key in keys], int(seconds * SECOND))


class TestWatch:
    def test_a_silence_is_asked_about_after_ten_seconds_and_believed_after_two_more(self):
        watch = Watch(True)
        assert looks(watch, 9.9) == ([], [])
        assert looks(watch, 10) == ([], ["a"])
        assert looks(watch, 11) == ([], []), "asked once at a time"
        watch.answered("a", True, 11 * SECOND)
        assert looks(watch, 12.9) == ([], []), "it may still be on its way"
        assert looks(watch, 13) == (["a"], [])

    def test_what_comes_meanwhile_ends_the_doubt(self):
        watch = Watch(True)
        looks(watch, 10)
        watch.answered("a", True, 11 * SECOND)
        assert watch.look([("a", ASKED, 12 * SECOND, True)], 13 * SECOND) == ([], [])
        assert watch.look([("a", ASKED, 12 * SECOND, True)], 21 * SECOND) == ([], [])
        assert watch.look([("a", ASKED, 12 * SECOND, True)], 22 * SECOND) == ([], ["a"])

    def test_an_answer_after_that_means_nothing(self):
        watch = Watch(True)
        looks(watch, 10)
        watch.look([("a", ASKED, 11 * SECOND, True)], 12 * SECOND)
        watch.answered("a", True, 12 * SECOND)
        assert watch.look([("a", ASKED, 11 * SECOND, True)], 20 * SECOND) == ([], [])

    def test_an_answer_about_an_earlier_silence_says_nothing_of_a_later_one(self):
        watch = Watch(True)
        looks(watch, 10)
        later = [("a", ASKED, 12 * SECOND, True)]
        assert watch.look(later, 30 * SECOND) == ([], []), "the question of second 10 has no answer yet"
        watch.answered("a", True, 31 * SECOND)
        assert watch.look(later, 40 * SECOND) == ([], ["a"])

    def test_an_answer_about_what_was_unsubscribed_from_meanwhile_means_nothing(self):
        watch = Watch(True)
        looks(watch, 10)
        watch.forget("a")
        looks(watch, 11)
        watch.answered("a", True, 12 * SECOND)
        assert looks(watch, 20) == ([], ["a"])

    def test_a_quiet_market_is_asked_about_ever_more_seldom(self):
        watch, asked = Watch(True), []
        for second in range(3600):
            stale, suspects = looks(watch, second)
            assert stale == []
            if suspects:
                asked.append(second)
                watch.answered("a", False, second * SECOND)
        assert asked[:6] == [10, 30, 70, 150, 310, 610]
        assert {later - earlier for earlier, later in pairwise(asked[5:])} == {300}

    def test_what_is_due_whatever_happens_is_stale_without_a_question(self):
        watch = Watch(False)
        assert looks(watch, 80, DUE) == ([], [])
        assert looks(watch, 80.1, DUE) == (["a"], [])

    def test_what_never_came_is_stale_sooner(self):
        watch = Watch(True)
        assert looks(watch, 14.9, flowing=False) == ([], [])
        assert looks(watch, 15, flowing=False) == (["a"], [])

    def test_nothing_is_asked_where_there_is_nobody_to_ask_or_nothing_to_ask_about(self):
        assert looks(Watch(False), 1000) == ([], [])
        assert looks(Watch(True), 1000, NEITHER) == ([], [])

    def test_the_slow_are_given_time(self):
        watch = Watch(True)
        slow = Pace(5.0, due=5.0)
        assert looks(watch, 24.9, slow) == ([], [])
        assert looks(watch, 25, slow) == (["a"], [])

    def test_few_are_asked_about_at_once_the_longest_silent_first(self):
        watch = Watch(True)
        heard = [(str(key), ASKED, key * SECOND // 10, True) for key in range(9, -1, -1)]
        asked = [watch.look(heard, (20 + second) * SECOND)[1] for second in range(4)]
        assert asked == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9"], []]

    def test_what_is_forgotten_begins_anew(self):
        watch = Watch(True)
        looks(watch, 10)
        watch.answered("a", True, 10 * SECOND)
        watch.forget("a")
        assert looks(watch, 30) == ([], ["a"])

    @given(
        st.lists(
            st.tuples(
                st.sampled_from("abc"), st.sampled_from(["came", "newer", "older"]), st.integers(1, 40), st.booleans()
            ),
            max_size=40,
        )
    )
    def test_nothing_is_stale_that_spoke_within_ten_seconds_nor_asked_about_twice_at_once(self, steps):
        watch, now, heard, open_ = Watch(True), 0, dict.fromkeys("abc", 0), set()
        for key, what, seconds, flowing in steps:
            now += seconds * SECOND
            if what == "came":
                heard[key] = now
            elif key in open_:
                watch.answered(key, what == "newer", now)
                open_.discard(key)
            stale, asked = watch.look([(one, ASKED, last, flowing) for one, last in heard.items()], now)
            open_ = {one for one in open_ if heard[one] <= now - 10 * SECOND}
            assert all(now - heard[one] >= 10 * SECOND for one in [*stale, *asked])
            assert not open_ & set(asked)
            open_ |= set(asked)
            for one in stale:
                watch.forget(one)
                heard[one] = now
                open_.discard(one)


# -- what a session does about it


class Overseen:
    """Sources of one connection that have brought something at second 0, and what is made of their silence."""

    def __init__(self, *subs: str, asks: bool = True) -> None:
        self.call = Call(subs)
        self.call.accept()
        sources = [feed.sources[0] for feed in self.call.feeds.values()]
        self.sources: dict[str, Source] = {str(source.feed.sub): source for source in sources}
        self.healed: list[str] = []
        self.oversight = Oversight(
            {source.key: source for source in sources}, lambda source: self.healed.append(str(source.feed.sub)), asks,
            0.0, RECV,
        )  # fmt: skip
        self.now = 0.0

    def hears(self, *messages: Any) -> None:
        self.call.now = self.now
        self.call.hears(*messages)

    def look(self, seconds: float, *, wall: float = 0.0) -> list[Any]:
        """Look each second; return what is said. `wall`: seconds that the wall clock is ahead."""
        said: list[Any] = []
        until = self.now + seconds
        while self.now < until:
            self.now += min(1.0, until - self.now)
            said += records(self.oversight.look(self.now, RECV + int((self.now + wall) * SECOND)))
        return said

    def answer(self, sub: str, newer: bool) -> None:
        self.oversight.answered(self.sources[sub], newer, RECV + int(self.now * SECOND))


BTC, ETH = "ticker:BTC-USDT", "ticker:ETH-USDT"


def test_the_first_verdict_asks_anew_and_declares_the_gap():
    one = Overseen(BTC, ETH)
    one.hears(ticker(1), ticker(1, inst="ETH-USDT"))
    one.look(8)
    one.hears(ticker(2, inst="ETH-USDT"))
    assert one.look(2) == []
    assert [str(source.feed.sub) for source in one.oversight.probes] == [BTC]
    one.answer(BTC, True)
    said = one.look(3)
    assert words(said) == ["open stale", "stale"]
    assert {record.inst for record in said} == {"BTC-USDT"}
    assert said[1].detail["silent"] == pytest.approx(12, abs=1)
    assert (one.healed, one.oversight.leaving, one.oversight.alarms) == ([BTC], None, [])


def test_the_second_replaces_the_link_and_the_third_is_said_aloud():
    one = Overseen(BTC, ETH)
    one.sources[BTC].feed.stale_times = 1
    one.hears(ticker(1), ticker(1, inst="ETH-USDT"))
    one.look(8)
    one.hears(ticker(2, inst="ETH-USDT"))
    one.look(2)
    one.answer(BTC, True)
    one.look(3)
    assert one.healed == []
    assert one.oversight.leaving == f"{BTC} stays silent though it was asked for anew"
    other = Overseen(BTC)
    other.sources[BTC].feed.stale_times = 2
    other.look(20)
    assert other.oversight.alarms == [f"{BTC} stays silent on a new connection, too; trying on, more slowly"]
    assert other.healed == [BTC]


def test_what_is_said_of_a_channel_that_nobody_asked_for_names_what_it_watches_over():
    one = Overseen("account", "orders")
    one.sources["account"].feed.stale_times = 2
    one.look(60)
    assert one.oversight.alarms == [
        "account (it shows whether orders can come) stays silent on a new connection, too; trying on, more slowly"
    ]


def test_where_all_are_silent_it_is_the_link():
    one = Overseen(BTC, ETH)
    one.hears(ticker(1), ticker(1, inst="ETH-USDT"))
    one.look(10)
    one.answer(BTC, True)
    one.look(3)
    assert one.oversight.leaving == "connected, but no data comes"
    assert one.healed == []
    assert one.oversight.mute
    one.hears(ticker(2, inst="ETH-USDT"))
    assert not one.oversight.mute, "it speaks again, and may fall silent again"


def test_what_was_asked_for_anew_and_acknowledged_shows_nothing_of_the_link():
    """Else a mute connection of many subscriptions, found silent one after another, would be kept for long."""
    one = Overseen(BTC, ETH)
    one.hears(ticker(1), ticker(1, inst="ETH-USDT"))
    one.look(8)
    eth = one.sources[ETH]
    eth.lose("stale", RECV + int(one.now * SECOND), "stale")
    eth.ask()
    eth.acknowledge(RECV + int(one.now * SECOND))
    one.look(2)
    one.answer(BTC, True)
    said = one.look(3)
    assert {record.inst for record in said} == {"BTC-USDT"}
    assert one.oversight.leaving == "connected, but no data comes"


def test_without_anybody_to_ask_a_busy_link_is_suspected_soon_and_a_quiet_one_later():
    busy, quiet = Overseen(BTC, asks=False), Overseen(BTC, asks=False)
    for number in range(200):
        busy.hears(ticker(number))
        busy.look(0.1)
    quiet.hears(ticker(1))
    busy.look(9)
    assert busy.oversight.leaving is None
    busy.look(2)
    assert busy.oversight.leaving == "nothing came for 10 s"
    quiet.look(59)
    assert quiet.oversight.leaving is None
    quiet.look(2)
    assert quiet.oversight.leaving == "nothing came for 60 s"


@pytest.mark.parametrize("wall", [3600.0, -3600.0])
def test_a_clock_that_was_set_begins_every_wait_anew(wall):
    one = Overseen(BTC, "book:BTC-USDT")
    one.hears(ticker(1))
    one.look(9)
    assert one.look(9, wall=wall) == []
    assert one.oversight.probes == []
    one.look(2, wall=wall)
    assert [str(source.feed.sub) for source in one.oversight.probes] == [BTC]


def test_having_stood_still_begins_every_wait_anew():
    one = Overseen(BTC)
    one.hears(ticker(1))
    one.look(3)
    one.now += 60
    assert one.look(9) == []
    assert one.oversight.probes == []


def test_what_is_refused_or_carries_events_alone_is_not_judged():
    one = Overseen("liquidations:instType=SWAP", BTC)
    one.sources[BTC].feed.refuse(one.sources[BTC], "60018", "no", RECV)
    assert one.look(600) == []
    assert (one.oversight.probes, one.oversight.leaving) == ([], None)


def test_what_is_well_for_a_minute_is_forgiven():
    one = Overseen("trades:BTC-USDT")
    source = one.sources["trades:BTC-USDT"]
    source.feed.stale_times = 3
    for number in range(1, 80):
        one.hears(trades(number))
        one.look(1)
    assert source.feed.stale_times == 0


def test_a_message_that_is_nothing_new_counts_as_a_sign_of_life():
    one = Overseen("book:BTC-USDT")
    row = {"asks": [["5", "1", "0", "1"]], "bids": [], "ts": "100", "checksum": 0}
    one.hears(push("book:BTC-USDT", {**row, "prevSeqId": -1, "seqId": 1}, action="snapshot"))
    for _ in range(5):
        one.look(60)
        keep = {"asks": [], "bids": [], "ts": "200", "checksum": 0, "prevSeqId": 1, "seqId": 1}
        one.hears(push("book:BTC-USDT", keep, action="update"))
    assert one.oversight.leaving is None
    assert words(one.look(90)) == ["open stale", "stale"]


def test_an_acknowledgement_is_no_message():
    """A connection that answers may be mute all the same."""
    one = Overseen(BTC, ETH)
    assert one.oversight.messages == 0
    one.sources[BTC].acknowledge(RECV + SECOND)
    assert (one.oversight.messages, one.oversight.speaks) == (0, False)
    one.hears(ticker(1), ticker(2))
    assert (one.oversight.messages, one.oversight.speaks) == (2, True)


def test_what_is_unsubscribed_from_is_not_kept_in_mind():
    """Asked about ever more seldom, it is asked about soon again once it is subscribed to anew."""
    call = Call([BTC, ETH], asks=True)
    call.accept()
    call.hears(ticker(1), ticker(1, inst="ETH-USDT"))
    watched = call.session.oversight
    while call.now < 100:
        call.tick(1.0)
        call.hears(ticker(int(call.now), inst="ETH-USDT"))
        for source in watched.probes:
            watched.answered(source, False, call.wall)
        watched.probes = []
    (key,) = [key for key in call.feeds if "BTC" in key]
    call.session.unwant(key)
    call.feeds[key] = feed(BTC)
    call.session.want(key)
    call.accept()
    call.hears(ticker(101))
    while call.now < 111:
        call.tick(1.0)
        call.hears(ticker(int(call.now), inst="ETH-USDT"))
    assert [source.key for source in watched.probes] == [key]
