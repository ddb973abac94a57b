"""A book that is kept as it was delivered holds no more than levels do, whether it is levels or text."""

import tracemalloc
from typing import Any

import orjson
import pytest
from bounds import FULL, churned, long, rows, size
from exchange import RECV

from okstream.feed.kept import KeptLevels, KeptText
from okstream.levels import MOST_LEVELS, ROW_BYTES
from okstream.records import Book, Row

KEPT = [KeptLevels, KeptText]


def delivered(action: str, bids: list[Row], asks: list[Row] | None = None) -> Book:
    book = Book("okx", "book", "BTC-USDT", 1, RECV, action, [], [], 2, 1, None)
    book.sides = (orjson.dumps(bids), orjson.dumps(asks or []))
    return book


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("looked", [False, True], ids=["nobody looks", "somebody looks"])
class TestKept:
    def begun(self, kind: Any, looked: bool, some: list[Row]) -> Any:
        kept = kind()
        kept.take([delivered("snapshot", some, some)])
        if looked:
            kept.levels()
        return kept

    def test_the_limits_are_held(self, kind: Any, looked: bool):
        kept = self.begun(kind, looked, FULL)
        kept.take([delivered("update", [["1000", "0"], long("5", "1", ROW_BYTES)])])
        assert kept.levels().depth == (MOST_LEVELS, MOST_LEVELS)

    @pytest.mark.parametrize("row", [["5", "1"], long("1000", "1", ROW_BYTES + 1)])
    def test_beyond_them_it_is_unknown_until_its_next_snapshot(self, kind: Any, looked: bool, row: Row):
        kept = self.begun(kind, looked, FULL)
        kept.take([delivered("update", [], [row])])
        for _ in range(2):
            assert kept.levels() is None
            assert not kept.known
            assert kept.copy().levels() is None
            kept.take([delivered("update", [["1000", "2"]])])
        kept.take([delivered("snapshot", [["8", "1"]])])
        assert kept.levels().top() == ([["8", "1"]], [])

    def test_a_snapshot_beyond_them_is_none(self, kind: Any, looked: bool):
        for some in (rows(1000, MOST_LEVELS + 1), [long("8", "1", ROW_BYTES + 1)], rows(100_000, 30_000)):
            kept = self.begun(kind, looked, some)
            kept.take([delivered("update", [["8", "0"]])])
            assert kept.levels() is None
            assert not kept.known

    def test_rows_that_are_long_but_not_too_long_are_kept(self, kind: Any, looked: bool):
        some = [long(f"{place}.{'1' * 40}", "1", ROW_BYTES) for place in range(1, 9)]
        kept = self.begun(kind, looked, some)
        kept.take([delivered("update", [long("7.5", "1", ROW_BYTES), [some[0][0], "0"]])])
        assert kept.copy().levels().top()[1] == some
        assert kept.levels().top()[0] == [some[7], long("7.5", "1", ROW_BYTES), *some[6:0:-1]]

    def test_one_that_only_grows_is_let_go_though_nobody_looks(self, kind: Any, looked: bool):
        kept = self.begun(kind, looked, FULL)
        for begin in range(10_000, 13_000, 5):
            kept.take([delivered("update", rows(begin, 5))])
        assert not kept.known

    def test_what_goes_makes_room(self, kind: Any, looked: bool):
        kept = self.begun(kind, looked, rows(1000, 900))
        for begin in range(1000, 9000, 50):
            kept.take([delivered("update", rows(begin, 50, "0") + rows(begin + 900, 50))])
        assert kept.levels().depth == (900, 900)
        assert kept.levels().top(1)[0] == [["9899", "1"]]

    def test_one_level_in_several_spellings_is_one(self, kind: Any, looked: bool):
        kept = self.begun(kind, looked, rows(1000, 600))
        for digits in range(1, 6):
            kept.take([delivered("update", [[f"{price}.{'0' * digits}", "2"] for price in range(1000, 1600)])])
        assert kept.levels().depth == (600, 600)
        assert kept.levels().top(1)[0] == [["1599.00000", "2"]]


def a_book_of_text() -> Any:
    kept = KeptText()
    churned(lambda action, some: kept.take([delivered(action, some, some)]))
    assert kept.known
    return kept


def test_a_book_of_text_at_its_limits_takes_what_is_printed_and_no_more():
    assert 300 < size(a_book_of_text) < 832


@pytest.mark.parametrize("kind", KEPT)
def test_a_hostile_book_that_is_kept_holds_no_more(kind: Any):
    """Levels without end, ends of levels that never were, one price in many spellings, and large messages."""

    def make() -> Any:
        kept = kind()
        kept.take([delivered("snapshot", FULL)])
        for begin in range(10_000, 100_000, 4000):
            kept.take([delivered("update", rows(begin, 4000))])
        for begin in range(30):
            kept.take([delivered("snapshot", FULL)] if begin % 10 == 0 else [])
            kept.take([delivered("update", [long(str(10_000 + 60 * begin + row), "0", 120) for row in range(60)])])
            kept.take([delivered("update", [[f"1000.{'0' * (begin % 90)}", "1"]])])
        for _ in range(20):
            kept.take([delivered("update", [long(str(price), "0", 120) for price in range(10_000, 12_000)])])
        return kept

    assert size(make) < 832


def test_a_message_without_end_is_refused_before_it_is_taken_apart():
    kept, endless = KeptText(), delivered("update", [])
    kept.take([delivered("snapshot", FULL)])
    endless.sides = (b"[]", orjson.dumps(rows(100_000, 200_000)))
    tracemalloc.start()
    try:
        kept.take([endless])
        assert tracemalloc.get_traced_memory()[1] < len(endless.sides[1]) / 2
    finally:
        tracemalloc.stop()
    assert not kept.known
