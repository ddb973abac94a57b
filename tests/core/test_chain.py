"""One book over one connection: which message follows on which, and whether the book it makes is right."""

import random
from typing import Any

import pytest
from exchange import RECV, V1, V3, V5, checksum_of, feed
from hypothesis import given
from hypothesis import strategies as st

from okstream.dialects import Traits
from okstream.feed.chain import AWAITED, BROKEN, REPEATED, RIGHT, Chain, Verdict
from okstream.records import Book

SEQUENCED = ["book", "book-rpi", "book-l2-tbt", "book50-l2-tbt"]
TRAITS = {name: feed(f"{name}:BTC-USDT").traits for name in SEQUENCED}
V5_BOOK, V3_BOOK, V1_BOOK = (feed("book:BTC-USDT", dialect=one).traits for one in (V5, V3, V1))


def change(
    prev: int | None,
    seq: int | None,
    bids: list[Any] | None = None,
    asks: list[Any] | None = None,
    *,
    action: str = "update",
    checksum: int | None = None,
) -> Book:
    sides = [[row if isinstance(row, list) else [row, "1"] for row in side or ()] for side in (bids, asks)]
    return Book("okx", "book", "BTC-USDT", 1000, RECV, action, *sides, seq, prev, checksum)


def whole(seq: int | None = 10, bids: Any = ("9", "8"), asks: Any = ("11", "12"), checksum: int | None = None) -> Book:
    prev = None if seq is None else -1
    return change(prev, seq, list(bids), list(asks), action="snapshot", checksum=checksum)


def begun(traits: Traits, first: Book) -> Chain:
    chain = Chain(traits)
    assert chain.check(first) is RIGHT
    return chain


def verdicts(chain: Chain, *books: Book) -> list[Verdict]:
    return [chain.check(book) for book in books]


@pytest.mark.parametrize("name", SEQUENCED)
class TestSequence:
    @pytest.fixture
    def chain(self, name: str) -> Chain:
        return begun(TRAITS[name], whole(10))

    def test_all_of_them_are_verified_by_their_numbers(self, name: str):
        assert TRAITS[name].incremental
        assert TRAITS[name].sequenced
        assert not TRAITS[name].checksums

    def test_changes_that_follow_are_right(self, chain: Chain):
        assert verdicts(chain, change(10, 15), change(15, 16), change(16, 90)) == [RIGHT] * 3
        assert (chain.seq, chain.epoch, chain.void) == (90, 0, False)

    def test_numbers_may_begin_with_zero(self, name: str):
        chain = begun(TRAITS[name], whole(0))
        assert verdicts(chain, change(0, 0), change(0, 1)) == [RIGHT] * 2

    def test_a_keep_alive_changes_nothing_however_often_it_comes(self, chain: Chain):
        assert verdicts(chain, *[change(10, 10)] * 5, change(10, 11)) == [RIGHT] * 6

    def test_the_chain_of_the_documentation(self, chain: Chain):
        numbers = [(10, 15), (15, 15), (15, 3), (3, 5)]
        assert verdicts(chain, *(change(prev, seq, ["7"]) for prev, seq in numbers)) == [RIGHT] * 4
        assert (chain.seq, chain.epoch) == (5, 1)

    def test_a_reset_is_applied_and_what_follows_chains_on_the_new_number(self, chain: Chain):
        assert verdicts(chain, change(10, 3), change(3, 3), change(3, 4)) == [RIGHT] * 3
        assert chain.check(change(10, 11)) is BROKEN

    def test_each_reset_is_a_new_epoch(self, chain: Chain):
        assert verdicts(chain, change(10, 3), change(3, 20), change(20, 0)) == [RIGHT] * 3
        assert (chain.epoch, chain.seq) == (2, 0)

    def test_what_is_missing_breaks_it(self, chain: Chain):
        assert chain.check(change(12, 13)) is BROKEN
        assert (chain.void, chain.reason) == (True, "sequence")
        assert chain.detail == {"expected": 10, "prev": 12, "seq": 13}

    def test_after_a_reset_something_is_missing(self, chain: Chain):
        assert verdicts(chain, change(10, 3), change(4, 5)) == [RIGHT, BROKEN]
        assert chain.detail == {"expected": 3, "prev": 4, "seq": 5}

    @pytest.mark.parametrize("numbers", [(9, 12), (-1, 12), (10, None), (None, 12), (None, None), (None, 10)])
    def test_what_does_not_name_the_one_before_breaks_it(self, chain: Chain, numbers: Any):
        assert chain.check(change(*numbers)) is BROKEN

    def test_a_broken_book_waits_for_a_snapshot(self, chain: Chain):
        broken = [change(12, 13), change(13, 14), change(10, 11), change(14, 14)]
        assert verdicts(chain, *broken) == [BROKEN, AWAITED, AWAITED, AWAITED]
        assert chain.awaited == 3
        assert verdicts(chain, whole(20), change(20, 21)) == [RIGHT] * 2
        assert chain.awaited == 0

    def test_changes_before_any_snapshot_are_awaited(self, name: str):
        chain = Chain(TRAITS[name])
        assert verdicts(chain, change(1, 2), change(2, 2), change(2, 1)) == [AWAITED] * 3
        assert chain.void

    @pytest.mark.parametrize(("seq", "epoch"), [(30, 0), (10, 0), (3, 1)])
    def test_a_snapshot_that_nobody_asked_for_replaces_the_book(self, chain: Chain, seq: int, epoch: int):
        assert verdicts(chain, whole(seq), change(seq, 31)) == [RIGHT] * 2
        assert chain.epoch == epoch

    def test_a_repetition_is_one_and_breaks_nothing(self, chain: Chain):
        assert verdicts(chain, change(10, 15), change(10, 15), change(15, 16)) == [RIGHT, REPEATED, RIGHT]
        assert verdicts(chain, change(10, 16), change(16, 17)) == [REPEATED, RIGHT]

    def test_an_older_repetition_is_not_taken_for_one(self, chain: Chain):
        # It is out of order, and nobody can tell what else is.
        assert verdicts(chain, change(10, 15), change(15, 16), change(10, 15)) == [RIGHT, RIGHT, BROKEN]

    @pytest.mark.parametrize(
        ("bids", "asks"),
        [(["9.5"], []), ([], ["10.5"]), ([], []), ([["7.77", "0", "0", "0"]], []), ([["9", "0"]], [["11", "0"]])],
    )
    def test_one_side_nothing_or_the_end_of_an_unknown_level(self, chain: Chain, bids: Any, asks: Any):
        assert verdicts(chain, change(10, 15, bids, asks), change(15, 16)) == [RIGHT] * 2

    def test_a_book_of_one_side_or_none(self, name: str):
        for bids, asks in (((), ("11",)), (("9",), ()), ((), ())):
            chain = begun(TRAITS[name], whole(10, bids, asks))
            assert chain.check(change(10, 11, ["8"], ["12"])) is RIGHT

    def test_to_be_crossed_is_no_fault(self, chain: Chain):
        # As before trading opens.
        assert chain.check(change(10, 11, ["100"])) is RIGHT

    def test_started_anew_it_takes_nothing_but_a_snapshot(self, chain: Chain):
        chain.restart()
        assert verdicts(chain, change(10, 11), whole(11), change(11, 12)) == [AWAITED, RIGHT, RIGHT]


@given(numbers=st.lists(st.tuples(st.booleans(), st.integers(-1, 4), st.integers(0, 4)), max_size=30))
def test_what_is_right_is_what_the_documented_table_calls_so(numbers: list[tuple[bool, int, int]]):
    chain, last = Chain(V5_BOOK), None
    for snapshot, prev, seq in numbers:
        verdict = chain.check(whole(seq) if snapshot else change(prev, seq))
        if snapshot:
            expected = RIGHT
        elif last is None:
            expected = AWAITED
        elif prev == last:
            expected = RIGHT
        else:
            expected = REPEATED if prev < seq == last else BROKEN
        assert verdict is expected
        last = {RIGHT: seq, REPEATED: last, AWAITED: None, BROKEN: None}[verdict]
        assert chain.void == (last is None)


class TestChecksums:
    """OKX v5 until June 2026, sometimes with numbers; v3 always."""

    FULL = checksum_of(["9", "8"], ["11", "12"])

    @pytest.mark.parametrize(("traits", "seq"), [(V3_BOOK, None), (V5_BOOK, None), (V5_BOOK, 10)])
    def test_a_change_is_checked_before_it_is_right(self, traits: Traits, seq: int | None):
        following = None if seq is None else seq + 1
        chain = begun(traits, whole(seq, checksum=self.FULL))
        assert (
            chain.check(change(seq, following, ["10"], checksum=checksum_of(["10", "9", "8"], ["11", "12"]))) is RIGHT
        )
        after = None if following is None else following + 1
        assert chain.check(change(following, after, [["9", "0"]], checksum=self.FULL)) is BROKEN
        assert (chain.void, chain.reason) == (True, "checksum")
        assert chain.detail == {"stated": self.FULL, "computed": checksum_of(["10", "8"], ["11", "12"])}
        assert chain.check(change(after, 99, checksum=self.FULL)) is AWAITED
        assert chain.check(whole(seq, checksum=self.FULL)) is RIGHT

    def test_a_wrong_snapshot_is_no_book(self):
        for traits, seq in ((V3_BOOK, None), (V5_BOOK, 10)):
            chain = Chain(traits)
            assert chain.check(whole(seq, checksum=self.FULL + 1)) is BROKEN
            assert chain.void

    @pytest.mark.parametrize("checksum", [0, None])
    def test_nothing_is_read_into_a_zero_of_v5_or_none(self, checksum: int | None):
        chain = begun(V5_BOOK, whole(10, checksum=checksum))
        assert chain.check(change(10, 11, ["10"], checksum=checksum)) is RIGHT
        chain = begun(V5_BOOK, whole(10, checksum=self.FULL))
        assert chain.check(change(10, 11, ["10"], checksum=checksum)) is RIGHT
        later = checksum_of(["10", "9", "8"], ["11"])
        assert chain.check(change(11, 12, [], [["12", "0"]], checksum=later)) is RIGHT, "it was applied all the same"
        assert chain.check(change(12, 13, checksum=later - 1)) is BROKEN

    def test_of_v3_a_missing_checksum_is_a_wrong_one(self):
        assert Chain(V3_BOOK).check(whole(None)) is BROKEN
        chain = begun(V3_BOOK, whole(None, checksum=self.FULL))
        assert chain.check(change(None, None, ["10"])) is BROKEN
        assert (chain.void, chain.reason) == (True, "checksum")
        assert chain.detail == {"stated": None, "computed": checksum_of(["10", "9", "8"], ["11", "12"])}

    def test_of_v3_zero_is_the_checksum_of_no_levels_and_no_other(self):
        chain = begun(V3_BOOK, whole(None, (), (), checksum=0))
        assert chain.check(change(None, None, ["9"], checksum=checksum_of(["9"], []))) is RIGHT
        assert chain.check(change(None, None, [["9", "0"]], checksum=0)) is RIGHT
        assert chain.check(change(None, None, ["9"], checksum=0)) is BROKEN
        assert Chain(V3_BOOK).check(whole(None, checksum=0)) is BROKEN

    def test_only_the_best_25_count(self):
        bids = [str(100 - number) for number in range(30)]
        chain = begun(V3_BOOK, whole(None, bids, (), checksum=checksum_of(bids, [])))
        assert chain.check(change(None, None, [["70.5", "3"]], checksum=checksum_of(bids, []))) is RIGHT
        assert chain.check(change(None, None, [[bids[0], "0"]], checksum=checksum_of(bids[1:], []))) is RIGHT

    def test_an_empty_change_bears_the_same_checksum(self):
        chain = begun(V3_BOOK, whole(None, checksum=self.FULL))
        assert verdicts(chain, *[change(None, None, checksum=self.FULL)] * 3) == [RIGHT] * 3

    def test_three_wrong_snapshots_in_a_row_and_the_numbers_have_to_do(self):
        chain, wrong = Chain(V5_BOOK), self.FULL + 1
        for number in range(3):
            assert not chain.distrusted
            assert chain.check(whole(number, checksum=wrong)) is BROKEN
        assert chain.distrusted
        assert verdicts(chain, whole(10, checksum=wrong), change(10, 11, ["10"], checksum=wrong)) == [RIGHT] * 2
        assert chain.check(change(12, 13, checksum=wrong)) is BROKEN
        assert chain.reason == "sequence"

    def test_a_right_snapshot_between_them_restores_the_trust(self):
        chain, wrong = Chain(V5_BOOK), self.FULL + 1
        for number in range(10):
            right = number % 3 == 2
            verdict = chain.check(whole(number, checksum=self.FULL if right else wrong))
            assert verdict is (RIGHT if right else BROKEN)
        assert not chain.distrusted

    def test_wrong_changes_behind_right_snapshots_are_no_reason_to_distrust(self):
        chain = Chain(V5_BOOK)
        for _ in range(5):
            assert chain.check(whole(10, checksum=self.FULL)) is RIGHT
            assert chain.check(change(10, 11, checksum=self.FULL + 1)) is BROKEN
        assert not chain.distrusted

    def test_where_there_is_nothing_else_a_checksum_is_never_given_up(self):
        chain = Chain(V3_BOOK)
        for _ in range(10):
            assert chain.check(whole(None, checksum=self.FULL + 1)) is BROKEN
        assert not chain.distrusted

    @given(seed=st.integers(0, 10**6))
    def test_random_books_are_right_until_one_size_is_not(self, seed: int):
        choice = random.Random(seed)
        chain = Chain(V3_BOOK)
        held: tuple[set[int], set[int]] = (set(choice.sample(range(50), 30)), set(choice.sample(range(51, 99), 30)))

        def stated() -> int:
            bids, asks = sorted(held[0], reverse=True), sorted(held[1])
            return checksum_of([str(price) for price in bids], [str(price) for price in asks])

        assert chain.check(whole(None, map(str, held[0]), map(str, held[1]), stated())) is RIGHT
        for _ in range(10):
            rows: tuple[list[Any], list[Any]] = ([], [])
            for side, prices in enumerate((range(50), range(51, 99))):
                for price in choice.sample(prices, choice.randrange(4)):
                    gone = choice.random() < 0.5
                    rows[side].append([str(price), "0" if gone else "1"])
                    (held[side].discard if gone else held[side].add)(price)
            assert chain.check(change(None, None, *rows, checksum=stated())) is RIGHT
        best = str(max(held[0]))
        assert chain.check(change(None, None, [[best, "2"]], checksum=stated())) is BROKEN


class TestNeither:
    """OKEx v1 sends neither numbers nor checksums."""

    MANY: tuple[Any, ...] = tuple(str(number) for number in range(1, 41))

    def test_changes_are_right_as_long_as_nothing_speaks_against_it(self):
        chain = begun(V1_BOOK, whole(None))
        assert verdicts(chain, change(None, None, ["10"]), change(None, None, [["10", "0"]], ["10"])) == [RIGHT] * 2
        assert chain.check(change(None, None, [["7", "0"]])) is RIGHT
        assert chain.levels is not None
        assert chain.levels.top() == ([["9", "1"], ["8", "1"]], [["10", "1"], ["11", "1"], ["12", "1"]])

    @pytest.mark.parametrize("bid", ["11", "11.5", "11.0"])
    def test_a_crossed_book_has_lost_something(self, bid: str):
        chain = begun(V1_BOOK, whole(None))
        assert chain.check(change(None, None, [bid])) is BROKEN
        assert (chain.void, chain.reason) == (True, "sequence")
        assert chain.detail == {"why": "crossed", "bid": bid, "ask": "11"}
        assert verdicts(chain, change(None, None), whole(None)) == [AWAITED, RIGHT]

    def test_a_crossed_snapshot_is_no_book(self):
        assert Chain(V1_BOOK).check(whole(None, ["12"], ["11"])) is BROKEN

    @pytest.mark.parametrize(("left", "verdict"), [(10, RIGHT), (9, BROKEN)])
    def test_a_side_that_lost_three_quarters_of_its_levels(self, left: int, verdict: Verdict):
        chain = begun(V1_BOOK, whole(None, self.MANY, ["100"]))
        gone = [[price, "0"] for price in self.MANY[left:]]
        assert chain.check(change(None, None, gone)) is verdict
        if verdict is BROKEN:
            assert chain.detail == {"why": "shrunken", "side": "bids", "levels": 9, "of": 40}

    def test_a_side_of_few_levels_may_lose_them_all(self):
        chain = begun(V1_BOOK, whole(None, self.MANY[:19], ["100"]))
        assert chain.check(change(None, None, [[price, "0"] for price in self.MANY], [["100", "0"]])) is RIGHT

    def test_a_new_snapshot_is_a_new_measure(self):
        chain = begun(V1_BOOK, whole(None, self.MANY, ["100"]))
        assert verdicts(chain, whole(None, self.MANY[:2], ["100"]), change(None, None, ["3"])) == [RIGHT] * 2

    @pytest.mark.parametrize("late", [[["9", "0.0"], ["8", "1"]], ["9"]])
    def test_a_change_that_was_still_on_its_way_is_no_snapshot(self, late: list[Any]):
        """Nothing but its place tells a snapshot; what is asked for anew may come behind a change of before."""
        chain = begun(V1_BOOK, whole(None, self.MANY, ["100"]))
        chain.restart()
        assert verdicts(chain, whole(None, late), change(None, None, ["9"])) == [AWAITED] * 2
        assert (chain.void, chain.awaited) == (True, 2)
        chain.restart()
        assert verdicts(chain, whole(None, self.MANY, ["100"]), change(None, None, ["12"])) == [RIGHT] * 2

    def test_a_book_that_came_to_little_is_believed_the_second_time(self):
        chain = begun(V1_BOOK, whole(None, self.MANY, ["100"]))
        chain.restart()
        assert verdicts(chain, whole(None, ["9"]), whole(None, ["9"])) == [AWAITED, RIGHT]


NO_LEVELS = [
    *(["x", "1"], ["", "1"], ["nan", "1"], ["inf", "1"], ["1e999", "1"], ["1.2.3", "1"], ["x", "0"]),
    *(["9.5", "-1"], ["9.5", "many"], ["9.5", "nan"], ["9.5", ""]),
]


class TestNumbers:
    @pytest.mark.parametrize("row", NO_LEVELS)
    @pytest.mark.parametrize("traits", [V3_BOOK, V1_BOOK])
    def test_what_is_no_number_is_no_level(self, traits: Traits, row: Any):
        full = TestChecksums.FULL if traits.checksums else None
        chain = begun(traits, whole(None, checksum=full))
        assert chain.check(change(None, None, [row], checksum=full)) is BROKEN
        assert (chain.void, chain.reason) == (True, "malformed")
        assert chain.detail is not None
        first = AWAITED if traits is V1_BOOK and row[1] == "0" else BROKEN
        assert Chain(traits).check(whole(None, [row], checksum=full)) is first
        assert verdicts(chain, change(None, None, checksum=full), whole(None, checksum=full)) == [AWAITED, RIGHT]

    @pytest.mark.parametrize("row", [["9" * 100_000, "1"], ["9.5", "x" * 100_000], ["11." + "0" * 100_000, "1"]])
    def test_what_is_told_of_a_long_one_is_short(self, row: Any):
        chain = begun(V1_BOOK, whole(None))
        assert chain.check(change(None, None, [row])) is BROKEN
        assert 0 < len(str(chain.detail)) < 1000

    def test_a_v5_book_with_checksums_is_as_strict(self):
        chain = begun(V5_BOOK, whole(10, checksum=TestChecksums.FULL))
        assert chain.check(change(10, 11, ["x"], checksum=0)) is BROKEN
        assert chain.reason == "malformed"

    def test_a_level_spelled_in_another_way_is_the_same_level(self):
        chain = begun(V3_BOOK, whole(None, ["9.0"], ["11"], checksum_of(["9.0"], ["11"])))
        assert chain.check(change(None, None, ["9"], checksum=checksum_of(["9"], ["11"]))) is RIGHT
        assert chain.check(change(None, None, [["9.00", "0"]], checksum=checksum_of([], ["11"]))) is RIGHT
