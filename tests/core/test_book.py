"""Levels are what a plain dict of exact prices says, their checksum is the exchange's, and a view tells one moment."""

import json
from decimal import Decimal, localcontext
from zlib import crc32

import pytest
from both import LEVELS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from okstream import levels as reference
from okstream.book import BookView
from okstream.errors import ConfigError
from okstream.records import Row

PATIENCE = 1000
Levels = reference.Levels


@pytest.fixture(scope="module", autouse=True, params=LEVELS)
def _of_each_kind(request: pytest.FixtureRequest) -> None:
    """Have everything here tested with the levels of Python and with the compiled ones."""
    global Levels
    Levels = request.param


DOCUMENTED = {
    "3366.1:7:3366.8:9:3366:6:3368:8": -1881014294,
    "3366.1:7:3366.8:9:3368:8:3372:8": 831078360,
    "5:7:8.8:96.99999966:3:5:9:39:2.5:100:9.5:100:1.5:100:12:12:1.1:100:95:0.42973686:1:1004.9998"
    ":11111:1003.99999795": 468410539,
    "0.236:202:0.258:201:0.2345:121:0.2595:121:0.365:10:0.8355:200": -1968485154,
    "0.235:323:0.258:201:0.2585:121:0.365:10:0.8355:200": -1126061196,
    "": 0,
    "0.0565:500:0.063:1005:0.056:505:0.0635:451:0.055:451": 1815367951,
}


def levels(bids: list[Row], asks: list[Row]) -> Levels:
    book = Levels()
    book.replace(bids, asks)
    return book


def told(*texts: str) -> list[Row]:
    """Make rows of `price:size`."""
    return [[*text.split(":"), "0", "1"] for text in texts]


def signed(text: str) -> int:
    return int.from_bytes(crc32(text.encode()).to_bytes(4), signed=True)


def laced(bids: list[Row], asks: list[Row]) -> str:
    """Write, slowly, what the exchange makes its checksum of."""
    parts = []
    for place in range(25):
        for side in (bids, asks):
            if place < len(side):
                parts += side[place][:2]
    return ":".join(parts)


def sides(text: str) -> tuple[list[Row], list[Row]]:
    """Return the bids and asks whose checksum text this is: of all ways to part it the one that is a book."""
    words = text.split(":") if text else []
    rows = [list(pair) for pair in zip(words[::2], words[1::2], strict=True)]
    for common in range(len(rows) // 2, -1, -1):
        for longer in (0, 1):
            mixed, rest = rows[: 2 * common], rows[2 * common :]
            bids, asks = mixed[::2], mixed[1::2]
            (bids, asks)[longer].extend(rest)
            prices = [Decimal(row[0]) for row in bids[::-1] + asks]
            if prices == sorted(set(prices)):
                return bids, asks
    raise AssertionError(f"{text} is no book")


# The checksum of the exchange.


@pytest.mark.parametrize(("text", "checksum"), DOCUMENTED.items())
def test_documented_checksums(text, checksum):
    bids, asks = sides(text)
    assert levels(bids, asks).checksum() == checksum
    assert levels(bids[::-1], asks[::-1]).checksum() == checksum, "whatever the order they came in"


def test_a_documented_book_changes_as_its_checksums_say():
    book = levels(told("0.236:202", "0.2345:121"), told("0.258:201", "0.2595:121", "0.365:10", "0.8355:200"))
    assert book.checksum() == -1968485154
    book.apply([], [["0.2585", "121", "0", "1"], ["0.2595", "0", "0", "0"]])
    assert book.checksum() == 1840704073
    book.apply([["0.236", "0", "0", "0"], ["0.235", "202", "0", "1"]], [])
    assert book.checksum() == 1145674981
    book.apply([], [])
    assert book.checksum() == 1145674981
    book.apply([["0.235", "323", "0", "2"], ["0.2345", "0", "0", "0"]], [])
    assert book.checksum() == -1126061196


def test_a_documented_book_begins_with_nothing():
    book = Levels()
    assert book.checksum() == 0
    book.replace([], [])
    assert book.checksum() == 0
    book.apply([["0.01", "0.01", "0", "1"]], [])
    assert book.checksum() == -462368537


def played(vector) -> int:
    """Return the checksum of a recorded vector: of its text, or of its message upon the book before."""
    if "message" not in vector:
        return levels(*sides(vector["checksum_string"])).checksum()
    book = Levels()
    if vector["book_before"]:
        book.replace(vector["book_before"]["bids"], vector["book_before"]["asks"])
    data = vector["message"]["data"][0]
    (book.apply if vector["message"]["action"] == "update" else book.replace)(data["bids"], data["asks"])
    assert laced(*book.top(25)) == vector["checksum_string"]
    return book.checksum()


def test_recorded_checksums_are_met(recordings):
    vectors = json.loads((recordings / "checksums" / "verified.json").read_text())
    assert len(vectors) == 18
    for vector in vectors:
        assert played(vector) == vector["expected_checksum"], vector["name"]


def test_recorded_checksums_that_are_wrong_are_not_met(recordings):
    vectors = json.loads((recordings / "checksums" / "unverified.json").read_text())
    assert len(vectors) == 2
    for vector in vectors:
        assert played(vector) == vector["computed_checksum"] != vector["expected_checksum"], vector["name"]


def test_recorded_checksum_texts_of_v5_are_met(recordings):
    vectors = json.loads((recordings / "checksums" / "v5-vectors.json").read_text())
    assert len(vectors) == 15
    for vector in vectors:
        assert levels(*sides(vector["crcInput"])).checksum() == vector["checksum"], vector["instId"]


def test_recorded_small_books_are_right_after_each_message(recordings):
    books = json.loads((recordings / "checksums" / "small_real_sequences.json").read_text())
    assert len(books) == 6
    for recorded in books:
        book = Levels()
        for step in recorded["steps"]:
            message = json.loads(step["text"])
            data = message["data"][0]
            (book.replace if message["action"] == "partial" else book.apply)(data["bids"], data["asks"])
            assert laced(*book.top()) == step["checksum_string"]
            assert book.checksum() == step["checksum"] == data["checksum"]


DEEP_BIDS = told(*(f"{100 - place}:{place + 1}" for place in range(30)))
DEEP_ASKS = told(*(f"{101 + place}.0:{place + 1}" for place in range(30)))


@pytest.mark.parametrize("place", range(30))
@pytest.mark.parametrize("side", [0, 1], ids=["bid", "ask"])
@pytest.mark.parametrize("size", ["77", "0", "1.0"], ids=["changed", "gone", "spelled"])
def test_one_other_level_in_the_best_25_is_another_checksum(side, place, size):
    book = levels(DEEP_BIDS, DEEP_ASKS)
    before = book.checksum()
    row = [(DEEP_BIDS, DEEP_ASKS)[side][place][0], size, "0", "1"]
    book.apply(*([row], []) if side == 0 else ([], [row]))
    assert (book.checksum() != before) == (place < 25)


# What a level is.


def test_what_a_book_returns_is_the_callers_to_keep():
    book = levels([["8.8", "1", "0", "3"]], [])
    book.top()[0][0][1] = "2"
    book.top()[0].clear()
    assert book.top() == ([["8.8", "1", "0", "3"]], [])


def test_best_first_and_as_deep_as_asked():
    book = levels(told("9:1", "10:2", "-1:3"), told("11:1", "10.5:2", "100:3"))
    assert book.depth == (3, 3)
    assert book.top() == (told("10:2", "9:1", "-1:3"), told("10.5:2", "11:1", "100:3"))
    assert book.top(2) == (told("10:2", "9:1"), told("10.5:2", "11:1"))
    assert book.top(0) == ([], [])
    assert book.top(9) == book.top()


@pytest.mark.parametrize("zero", ["0", "0.0", "0.00000000", "-0", "0E-8"])
def test_every_zero_removes(zero):
    book = levels([["8.8", "1"], ["8.7", zero]], [["9", zero]])
    assert book.depth == (1, 0), "a snapshot may hold rows of size zero"
    book.apply([["8.8", zero]], [["9", zero]])
    assert book.depth == (0, 0)
    assert book.top() == ([], [])


@pytest.mark.parametrize("read", [False, True], ids=["never read", "in order"])
def test_another_spelling_of_a_price_is_the_same_level(read):
    book = levels([["8.8", "1"], ["8.7", "1"]], [["0", "1"], ["-0.50", "1"]])
    if read:
        book.top()
    book.apply([["8.80", "2"]], [["-0", "2"], ["-5e-1", "3"]])
    assert book.depth == (2, 2)
    book.apply([["8.70", "0"]], [])
    if read:
        assert book.checksum() == signed("8.80:2:-5e-1:3:-0:2")
    assert book.top() == ([["8.80", "2"]], [["-5e-1", "3"], ["-0", "2"]])
    book.apply([["8.8", "0.0"]], [])
    assert book.top()[0] == []


def test_the_last_row_of_one_price_counts():
    rows = [["8.8", "1"], ["8.80", "2"], ["8.8", "3"], ["9", "1"], ["9.0", "0"]]
    assert levels(rows, rows).top() == ([["8.8", "3"]], [["8.8", "3"]])


def test_a_snapshot_leaves_nothing_of_what_was_before():
    book = levels(told("8:1", "7:1"), told("9:1"))
    book.checksum()
    book.replace(told("6:1"), [])
    assert book.depth == (1, 0)
    assert book.top() == (told("6:1"), [])


def test_crossed_is_when_the_best_bid_is_not_below_the_best_ask():
    book = levels(told("8.8:1", "8:1"), told("8.9:1"))
    assert not book.crossed
    book.apply(told("8.90:1"), [])
    assert book.crossed
    book.apply(told("9:1"), [])
    assert book.crossed
    book.replace(told("9:1"), [])
    assert not book.crossed
    book.replace([], told("-9:1"))
    assert not book.crossed
    book.apply(told("-10:1"), [])
    assert not book.crossed


NOT_PRICES = [
    "",
    "abc",
    "1.2.3",
    "0x10",
    "nan",
    "-nan",
    "inf",
    "-inf",
    "Infinity",
    "1e999",
    "1e-999",
    "snan",
    "1e-" + "9" * 30,
]
NOT_SIZES = ["", "abc", "1,5", "nan", "inf", "-inf", "1e999", "-1", "-0.1"]


@pytest.mark.parametrize("side", [0, 1], ids=["bid", "ask"])
@pytest.mark.parametrize(
    "row", [[price, size] for price in NOT_PRICES for size in ("1", "0")] + [["8", size] for size in NOT_SIZES]
)
def test_what_is_no_number_is_no_level(side, row):
    given = ([row], []) if side == 0 else ([], [row])
    with pytest.raises(ValueError):
        levels(*given)
    for read in (False, True):
        book = levels(told("8:1"), told("9:1"))
        if read:
            book.checksum()
        with pytest.raises(ValueError):
            book.apply(*given)
        book.replace(told("8:1"), told("9:1"))
        assert book.checksum() == signed("8:1:9:1"), "a snapshot mends it"


@pytest.mark.parametrize("size", ["1", "0"])
def test_prices_that_no_float_can_tell_apart_are_refused_rather_than_mixed_up(size):
    near = "0.1000000000000000000001"
    assert levels([[near, "1"]], []).depth == (1, 0)
    with pytest.raises(ValueError, match=near):
        levels([["0.1", "1"]], []).apply([[near, size]], [])


# Order that is made when asked for, kept, and dropped.


def test_order_that_nobody_asks_for_is_dropped_and_made_again():
    def change(turn: int) -> None:
        book.apply(told(f"7.{turn % 7}:{turn % 3}"), told(f"1{turn % 5}:{turn % 2}"))

    book = levels(told("8:1"), told("9:1"))
    for wait in (PATIENCE, PATIENCE + 1, 3 * PATIENCE):
        book.checksum()
        for turn in range(wait):
            change(turn)
        if type(book) is reference.Levels:  # the others are always in order
            assert book._bids.ordered == (wait <= PATIENCE)
            assert len(book._asks.prices) == (book.depth[1] if wait <= PATIENCE else 0)
        bids, asks = book.top()
        assert [row[0] for row in bids] == sorted((row[0] for row in bids), key=Decimal, reverse=True)
        assert book.checksum() == signed(laced(bids, asks))
        assert book.depth == (len(bids), len(asks))


def test_changes_counts_each_snapshot_and_update():
    book = Levels()
    assert book.changes == 0
    book.replace([], [])
    book.apply([], [])
    book.checksum()
    assert book.changes == 2


# Levels that come as text.


ODD = st.sampled_from(["", ".", "0", "0.", ".0", "00", "0.00", "00.5", ".5", "5.", "1.2.3", "1/2", "-0", "9" * 400])
TEXTS = st.sampled_from(["8", "8.0", "9", "10.5", "0"]) | ODD | st.just("0." + "0" * 330 + "1")
PLAIN = st.lists(st.tuples(TEXTS, TEXTS, ODD, ODD).map(list), max_size=4)


def tried(rounds) -> list:
    """Return what each of `rounds` makes of a book, until one is refused."""
    book, told = Levels(), []
    for turn, (bids, asks) in enumerate(rounds):
        try:
            (book.apply if turn else book.replace)(bids, asks)
        except ValueError:
            told.append("refused")
            break
        told.append((book.checksum(), book.top(), book.depth))
    return told


@given(st.lists(st.tuples(PLAIN, PLAIN), max_size=4))
def test_as_text_or_as_rows_they_make_the_same_book(rounds):
    texts = [tuple(json.dumps(rows, separators=(",", ":")).encode() for rows in sides) for sides in rounds]
    assert tried(texts) == tried(rounds)
    sized = [size for sides in rounds for rows in sides for _, size, *_ in rows]
    if tried(rounds)[-1:] != ["refused"]:
        assert all(0.0 <= float(size) < float("inf") for size in sized)


@pytest.mark.parametrize("more", ["]", "[", '["1","2"]', '"', "\\", "a]["])
def test_whatever_stands_behind_the_size_is_kept(more):
    rows = [["8", "1", more], ["7", "1", "0", more]]
    assert levels(rows, []).top() == (rows, [])
    assert levels(rows, []).checksum() == signed("8:1:7:1")


# Against a model: a dict by exact price.


@st.composite
def spelled(draw: st.DrawFn) -> str:
    """Return one of few prices, in one of its spellings."""
    price = Decimal(draw(st.integers(-40, 40))).scaleb(draw(st.sampled_from([0, -1, -2])))
    text = f"{price:f}"
    if draw(st.booleans()):
        text += ("" if "." in text else ".") + "0" * draw(st.integers(1, 3))
    return text


SIZES = st.sampled_from(["0", "0", "0.0", "0.00000000", "1", "1.0", "2", "30.5", "0.00000001", "1004.9998"])
ROWS = st.lists(st.tuples(spelled(), SIZES, st.just("0"), st.sampled_from(["1", "2"])).map(list), max_size=40)


class Model:
    """One side, slowly."""

    def __init__(self) -> None:
        self.rows: dict[Decimal, Row] = {}

    def apply(self, rows: list[Row]) -> None:
        for row in rows:
            self.rows.pop(Decimal(row[0]), None)
            if Decimal(row[1]):
                self.rows[Decimal(row[0])] = row

    def best(self, falling: bool) -> list[Row]:
        return [self.rows[price] for price in sorted(self.rows, reverse=falling)]


class Comparison(RuleBasedStateMachine):
    """Whatever is applied and read, in whatever order, levels and model agree."""

    @initialize()
    def begin(self) -> None:
        self.book = Levels()
        self.bids, self.asks = Model(), Model()

    @rule(bids=ROWS, asks=ROWS)
    def snapshot(self, bids: list[Row], asks: list[Row]) -> None:
        self.book.replace(bids, asks)
        self.bids, self.asks = Model(), Model()
        self.bids.apply(bids)
        self.asks.apply(asks)

    @rule(bids=ROWS, asks=ROWS)
    def update(self, bids: list[Row], asks: list[Row]) -> None:
        self.book.apply(bids, asks)
        self.bids.apply(bids)
        self.asks.apply(asks)

    @rule()
    def nobody_reads_for_long(self) -> None:
        for _ in range(PATIENCE + 1):
            self.book.apply([], [])

    @precondition(lambda self: self.bids.rows)
    @rule(data=st.data())
    def a_level_goes(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(list(self.bids.rows.values())))
        self.update([[row[0], "0", "0", "0"]], [])

    @rule(depth=st.none() | st.integers(0, 30))
    def read(self, depth: int | None) -> None:
        assert self.book.top(depth) == (self.bids.best(True)[:depth], self.asks.best(False)[:depth])

    @rule()
    def check(self) -> None:
        assert self.book.checksum() == signed(laced(self.bids.best(True), self.asks.best(False)))

    @rule()
    def cross(self) -> None:
        crossed = bool(self.bids.rows and self.asks.rows) and max(self.bids.rows) >= min(self.asks.rows)
        assert self.book.crossed == crossed

    @invariant()
    def deep(self) -> None:
        if hasattr(self, "book"):
            assert self.book.depth == (len(self.bids.rows), len(self.asks.rows))

    def teardown(self) -> None:
        self.read(None)
        self.check()


def test_levels_and_model_agree():
    run_state_machine_as_test(Comparison, settings=settings(max_examples=40, stateful_step_count=25))


@given(bids=ROWS, asks=ROWS, rest=st.lists(st.tuples(ROWS, ROWS), max_size=5))
def test_reading_changes_nothing(bids, asks, rest):
    """Levels that are read at every step end as those that are read once."""
    often, once = levels(bids, asks), levels(bids, asks)
    for change in rest:
        often.checksum()
        often.apply(*change)
        once.apply(*change)
    assert often.top() == once.top()
    assert often.checksum() == once.checksum()


# The view.


def view(book: Levels, age: float = 0.25) -> BookView:
    return BookView(book, "BTC-USDT", 1786613174873, 1786613174931234567, 10, age)


def test_a_view_tells_the_moment():
    seen = view(levels(told("8.8:1", "8.7:2"), told("8.9:3")))
    assert (seen.inst, seen.ts, seen.recv, seen.seq, seen.age) == (
        "BTC-USDT", 1786613174873, 1786613174931234567, 10, 0.25,
    )  # fmt: skip
    assert seen.best == (["8.8", "1", "0", "1"], ["8.9", "3", "0", "1"])
    assert seen.bids == told("8.8:1", "8.7:2")
    assert seen.asks == told("8.9:3")
    assert seen.top(1) == (told("8.8:1"), told("8.9:3"))
    assert seen.top() == (seen.bids, seen.asks)
    assert seen.depth == (2, 1)
    assert seen.mid == Decimal("8.85")
    assert "BTC-USDT" in repr(seen)


def test_a_view_of_a_side_that_is_empty_has_no_mid():
    for bids, asks in (([], []), (told("8:1"), []), ([], told("8:1"))):
        seen = view(levels(bids, asks))
        assert seen.best == (bids[0] if bids else None, asks[0] if asks else None)
        assert seen.mid is None


@pytest.mark.parametrize("change", ["update", "snapshot", "failure"])
def test_a_view_of_another_moment_says_so(change):
    book = levels(told("8:1"), told("9:1"))
    seen = view(book)
    kept = seen.top()
    if change == "update":
        book.apply([], told("9:2"))
    elif change == "snapshot":
        book.replace([], [])
    else:
        with pytest.raises(ValueError):
            book.apply([["x", "1"]], [])
    for read in ("best", "bids", "asks", "depth", "mid"):
        with pytest.raises(ConfigError, match="BTC-USDT"):
            getattr(seen, read)
    with pytest.raises(ConfigError):
        seen.top(1)
    assert kept == (told("8:1"), told("9:1"))
    assert seen.seq == 10
    assert view(book).depth == book.depth, "another view is of this moment"


@pytest.mark.parametrize(
    ("bid", "ask", "mid"),
    [
        ("0.1", "0.2", "0.15"),
        ("0.00000001", "100000000000000000000000000000000", "50000000000000000000000000000000.000000005"),
        ("-3", "1", "-1"),
        ("-0.5", "0.5", "0"),
        ("124.0", "124.5", "124.25"),
        ("1e-300", "1e300", None),
    ],
)
def test_mid_is_exact(bid, ask, mid):
    found = view(levels([[bid, "1"]], [[ask, "1"]])).mid
    with localcontext(prec=2000):
        assert found == (Decimal(bid) + Decimal(ask)) / 2
    if mid is not None:
        assert found == Decimal(mid)


@given(spelled(), spelled())
def test_mid_is_exact_for_all_prices(bid, ask):
    assert view(levels([[bid, "1"]], [[ask, "1"]])).mid == (Decimal(bid) + Decimal(ask)) / 2
