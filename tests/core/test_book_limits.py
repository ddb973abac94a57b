"""A book is bounded, whatever an exchange makes of it: in levels, in rows, in memory, and in what it is asked for."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from both import LEVELS, needs_compiled
from bounds import FULL, churned, long, rows, size
from exchange import RECV, V1, V3, V5, Call, feed, gaps, push, v1, words
from hypothesis import given, settings
from hypothesis import strategies as st

from okstream import levels as reference
from okstream.dialects import Dialect
from okstream.errors import BookVoidError
from okstream.feed import chain
from okstream.levels import MOST_LEVELS, ROW_BYTES, SIDE_BYTES
from okstream.records import Row
from okstream.venues import V1_LIMITS, V3_LIMITS, V5_LIMITS

Levels = reference.Levels


@pytest.fixture(scope="module", autouse=True, params=LEVELS)
def _of_each_kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have everything here tested with the levels of Python and with the compiled ones."""
    global Levels
    Levels = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "Levels", request.param)
        yield


def full() -> Any:
    book = Levels()
    book.replace(FULL, FULL)
    return book


# Levels.


@pytest.mark.parametrize("at_once", [1, 47, 48, 600])
@pytest.mark.parametrize("side", [0, 1], ids=["bid", "ask"])
def test_a_thousand_levels_a_side_and_not_one_more(side: int, at_once: int):
    book = Levels()
    for begin in range(0, MOST_LEVELS, at_once):
        some = FULL[begin : begin + at_once]
        book.apply(some, some)
    assert book.depth == (MOST_LEVELS, MOST_LEVELS)
    with pytest.raises(ValueError, match="more than 1000 levels"):
        book.apply(*([[["9.5", "1"]], []] if side == 0 else [[], [["9.5", "1"]]]))
    book.replace(FULL, FULL)
    assert book.depth == (MOST_LEVELS, MOST_LEVELS), "a snapshot mends it"


@pytest.mark.parametrize("read", [False, True], ids=["never read", "in order"])
def test_a_full_book_changes_as_any_other(read: bool):
    book = full()
    if read:
        book.checksum()
    changed = [["1999.0", "2"], ["1000", "3"], ["1001", "0"], ["5", "1"], ["7", "0"]]
    book.apply(changed, orjson.dumps(changed))
    assert book.depth == (MOST_LEVELS, MOST_LEVELS)
    assert [book.top()[0][place] for place in (0, -2, -1)] == [["1999.0", "2"], ["1000", "3"], ["5", "1"]]
    assert book.top()[1][:2] == [["5", "1"], ["1000", "3"]]


@pytest.mark.parametrize("as_text", [False, True])
def test_a_snapshot_of_too_many_levels_is_none(as_text: bool):
    many = rows(1000, MOST_LEVELS + 1)
    book = full()
    with pytest.raises(ValueError, match="more than 1000 levels"):
        book.replace([], orjson.dumps(many) if as_text else many)
    book.replace([*rows(1000, MOST_LEVELS), ["1000.0", "5"], ["7", "0"]], [])
    assert book.depth == (MOST_LEVELS, 0), "one level may be named twice, and none at all"


@pytest.mark.parametrize("count", [1, 60, 452])
def test_levels_are_counted_in_between(count: int):
    """The deepest real side may be replaced, its new levels first; a full one only if the old ones go first."""
    gone, new = rows(1000, count, "0"), rows(5000, count)
    book = Levels()
    book.replace(rows(1000, 452), [])
    book.apply(new + gone, [])
    assert book.depth == (452, 0)
    book = full()
    book.apply(gone + new, [])
    assert book.depth == (MOST_LEVELS, MOST_LEVELS)
    with pytest.raises(ValueError, match="more than 1000 levels"):
        full().apply(new + gone, [])


@pytest.mark.parametrize("size", ["1", "0"])
@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("count", [1, 60])
def test_a_row_of_128_bytes_and_not_one_more(size: str, as_text: bool, count: int):
    def change(length: int) -> Any:
        some = [long(str(8 + place), size, length) for place in range(count)]
        return orjson.dumps(some) if as_text else some

    book = Levels()
    for take in (book.replace, book.apply):
        take(change(ROW_BYTES), change(ROW_BYTES))
        assert book.depth == ((count, count) if size == "1" else (0, 0))
        for wrong in ((change(ROW_BYTES + 1), []), ([], change(ROW_BYTES + 1))):
            with pytest.raises(ValueError, match="129 bytes is longer than 128"):
                take(*wrong)
            book.replace([], [])


@pytest.mark.parametrize(
    "row",
    [["1" + "0" * 119, "1"], ["8", "1" * 120], ["8", "1", "\\" * 58], ["8", "1", "é" * 58], ["8.", "1", '"' * 57]],
)
def test_it_is_measured_as_json_whatever_it_is_made_of(row: Row):
    least = len(orjson.dumps(row))
    assert ROW_BYTES - 1 <= least <= ROW_BYTES
    book = Levels()
    book.apply([row], orjson.dumps([row]))
    assert book.top() == ([row], [row])
    longer = [*row[:-1], row[-1] + row[-1][-1] * 2] if len(row) > 2 else [row[0] + "0", row[1] + "0"]
    for too_long in ([longer], orjson.dumps([longer])):
        with pytest.raises(ValueError, match="longer than 128"):
            Levels().apply(too_long, [])


def test_a_side_of_one_message_is_as_long_as_all_levels_replaced_by_others():
    gone = [long(str(price), "0", ROW_BYTES - 1) for price in range(10_000, 12_000)]
    text = orjson.dumps(gone)
    assert len(text) == SIDE_BYTES + 1
    with pytest.raises(ValueError, match="256001 bytes is longer than 256000"):
        full().apply([], text)
    gone[0][-1] = gone[0][-1][1:]
    book = full()
    book.apply(gone, orjson.dumps(gone))
    assert book.depth == (MOST_LEVELS, MOST_LEVELS)


NEAR = st.integers(900, 2100).map(str)
SPELLED = NEAR | NEAR.map("{}.0".format)
CHANGED = st.tuples(SPELLED, st.sampled_from(["0", "1"])).map(list)
LONG = st.builds(long, NEAR, st.sampled_from(["0", "1"]), st.integers(ROW_BYTES - 2, ROW_BYTES + 1))
CHANGES = st.lists(CHANGED, max_size=12) | st.lists(CHANGED, min_size=45, max_size=60) | st.lists(LONG, max_size=2)


@needs_compiled
@settings(max_examples=60, deadline=None)
@given(st.integers(980, 1002), st.lists(st.tuples(CHANGES, st.booleans()), max_size=6))
def test_near_the_limits_both_take_and_refuse_the_same(count: int, them: Any):
    books = [kind.values[0]() for kind in LEVELS]
    for some, as_text in [(rows(1000, count), True), *them]:
        told = []
        for book in books:
            try:
                book.apply(orjson.dumps(some) if as_text else some, [])
            except ValueError as error:
                told.append(str(error))
            else:
                told.append(book.sides())
        assert told[0] == told[1]
        if isinstance(told[0], str):
            return


# In memory.


def a_book_of_levels() -> Any:
    book = Levels()

    def take(action: str, some: list[Row]) -> None:
        text = orjson.dumps(some)
        (book.replace if action == "snapshot" else book.apply)(text, text)
        book.checksum()

    churned(take)
    assert book.depth == (MOST_LEVELS, MOST_LEVELS)
    return book


def test_a_book_at_its_limits_takes_what_is_printed_and_no_more():
    python = Levels is reference.Levels
    assert (500 if python else 300) < size(a_book_of_levels) < (832 if python else 448)


def test_a_message_without_end_is_refused_before_it_is_taken_apart():
    text = orjson.dumps(rows(100_000, 200_000))
    book = full()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="longer than 256000"):
            book.apply([], text)
        assert tracemalloc.get_traced_memory()[1] < len(text) / 2
    finally:
        tracemalloc.stop()


# What becomes of it.

KINDS = [(V5, V5_LIMITS, 1), (V3, V3_LIMITS, 0), (V1, V1_LIMITS, None)]


def message(dialect: Dialect, action: str, asks: list[Row], checksum: int | None, seq: int = 5) -> Any:
    if dialect is V5:
        row: dict[str, Any] = {"asks": asks, "bids": [], "ts": "1000", "checksum": checksum}
        return push("book:BTC-USDT", row | {"prevSeqId": seq - 1, "seqId": seq}, action=action)
    if dialect is V3:
        row = {"instrument_id": "BTC-USDT", "asks": asks, "bids": [], "checksum": checksum}
        row["timestamp"] = "2020-01-01T00:00:00.000Z"
        return {"table": "spot/depth", "action": "partial" if action == "snapshot" else action, "data": [row]}
    return v1({"asks": asks, "bids": [], "timestamp": 1000}, "ok_sub_spot_btc_usdt_depth")


TOO_MUCH = [[["5", "1"]], [long("1000", "1", ROW_BYTES + 1)]]


def right(some: list[Row]) -> int:
    book = Levels()
    book.replace([], some)
    return int(book.checksum())


@pytest.mark.parametrize(("dialect", "limits", "checksum"), KINDS, ids=["v5", "v3", "v1"])
@pytest.mark.parametrize("much", TOO_MUCH)
def test_a_verified_book_that_is_too_much_is_void_and_healed(
    dialect: Dialect, limits: Any, checksum: int | None, much: list[Row]
):
    call = Call(["book:BTC-USDT"], dialect=dialect, limits=limits)
    call.accept()
    whole = message(dialect, "snapshot", FULL, right(FULL), 5)
    assert words(call.records(whole)) == ["live", "book snapshot"]
    said = call.records(message(dialect, "update", much, checksum, 6))
    assert words(said) == ["open malformed", "void"]
    assert "longer than" in said[1].detail["why"] or "more than 1000 levels" in said[1].detail["why"]
    call.tick(5.0)
    assert call.accept() == []
    said = call.records(whole)
    assert words(said) == ["closed malformed", "live", "book snapshot"]
    assert gaps(said)[0].gap


@pytest.mark.parametrize(("dialect", "limits", "checksum"), KINDS, ids=["v5", "v3", "v1"])
def test_a_book_whose_every_snapshot_is_too_much_is_asked_for_ever_more_seldom(
    dialect: Dialect, limits: Any, checksum: int | None
):
    call = Call(["book:BTC-USDT", "ticker:BTC-USDT"], dialect=dialect, limits=limits)
    call.accept()
    whole = message(dialect, "snapshot", rows(1000, MOST_LEVELS + 1), checksum)
    asked, said = [], call.records(whole)
    while call.now < 3600:
        assert call.session.ending is None
        if answers := call.answers():
            asked.append(call.now)
            said += call.records(*answers, whole)
        call.hears(b'{"event":"pong"}' if dialect is V1 else b"pong")
        call.tick(max(0.1, min(call.session.deadline(call.now), 3600.0) - call.now))
    assert words(said) == ["open malformed", "void"]
    assert 10 < len(asked) <= 30, "an unsubscribe and a subscribe each time"


def test_a_numbered_book_that_is_too_much_goes_on_but_cannot_be_looked_at():
    one = feed("book:BTC-USDT", keeps=True)
    source = one.source()
    source.ask()
    source.acknowledge(RECV)

    def take(pushed: Any) -> None:
        source.push(pushed, RECV)

    take(message(V5, "snapshot", FULL, 0, 5))
    assert one.view(RECV).depth == (0, MOST_LEVELS)
    take(message(V5, "update", [["5", "1"]], 0, 6))
    with pytest.raises(BookVoidError, match="not known until its next snapshot"):
        one.view(RECV)
    assert one.snapshot(RECV) is None
    take(message(V5, "update", [["5", "0"]], 0, 7))
    assert one.levels is None
    assert one.state == "live"
    take(message(V5, "snapshot", [["8", "1"]], 0, 8))
    assert one.view(RECV).asks == [["8", "1"]]
