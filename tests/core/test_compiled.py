"""What is compiled does what Python does, whatever it is given; and it keeps nothing, and reads nothing, of others."""

import gc
import json
import os
import subprocess
import sys
import tracemalloc
import zlib
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from okstream import levels as reference
from okstream.encoding import encode
from okstream.records import Book

compiled = pytest.importorskip("okstream._compiled", reason="the compiled part was not built: there is no compiler")

DIGITS = st.text("0123456789", min_size=1, max_size=24)
PLAIN = st.builds("{}.{}".format, DIGITS, DIGITS) | DIGITS
FEW = st.sampled_from(["8", "8.0", "08", "8.", "8.1", "9", "10.5", "0.1", "0", "0.0", "-1", "1e1"])
NEAR = st.sampled_from(["0.1000000000000000000001", "9007199254740993", "9007199254740992", "1" + "0" * 23, "9" * 400])
WRONG = st.sampled_from(
    ["", ".", "1.2.3", "1/2", "nan", "inf", "1e-999", " 8", "8 ", "1_0", "\u0661", "\u00e9", "x\x00"]
)
PRICE = st.integers(1, 2000).map(lambda tenths: f"{tenths / 10}") | FEW | PLAIN | NEAR
SIZE = st.sampled_from(["0", "0.0", "00.000", "1", "1.50", "5.", "0." + "0" * 50, "7" * 60]) | PLAIN
MORE = st.sampled_from(["0", "12", "", "]", "[", '"', "\\", "a]["]) | st.text(max_size=80)
ROW = st.builds(lambda price, size, more: [price, size, *more], PRICE, SIZE, st.lists(MORE, max_size=2))
ODD = st.builds(lambda price, size: [price, size], PRICE | WRONG, SIZE | WRONG)
ROWS = st.lists(ROW, max_size=8) | st.lists(ROW | ODD, max_size=3)
TENTHS = st.integers(1, 600).map(lambda tenths: f"{tenths / 10}")  # of many others one is refused, and with it all
MANY = st.lists(st.tuples(TENTHS, st.sampled_from(["0", "1", "22.5"])).map(list), min_size=40, max_size=200)


def text(rows: Any) -> bytes:
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode()


def played(kind: Any, rounds: Any) -> list[Any]:
    """Return what each of `rounds` (a snapshot or an update, how much is read of it) makes of levels of `kind`."""
    book, told = kind(), []
    for anew, depth, bids, asks in rounds:
        try:
            (book.replace if anew else book.apply)(bids, asks)
            told.append((book.depth, book.changes))
            if depth is not None:
                told.append((book.checksum(), book.crossed, book.top(depth), book.sides(depth)))
        except (ValueError, TypeError, RecursionError) as error:
            told.append(type(error))
            book = kind()
    return [*told, book.changes]


def agree(rounds: Any) -> None:
    assert played(compiled.Levels, rounds) == played(reference.Levels, rounds)


def rounds(sides: st.SearchStrategy[Any], most: int = 6) -> st.SearchStrategy[Any]:
    return st.lists(st.tuples(st.booleans(), st.none() | st.integers(-3, 40), sides, sides), max_size=most)


@settings(max_examples=400)
@given(rounds(ROWS))
def test_rows_make_the_same_book(them):
    agree(them)
    agree([(anew, depth, text(bids), text(asks)) for anew, depth, bids, asks in them])


@given(rounds(MANY | MANY.map(text), most=4))
def test_many_rows_make_the_same_book(them):
    agree(them)


@given(st.lists(st.integers(0, 5000), max_size=1000, unique=True), st.data())
@settings(max_examples=20)
def test_deep_books_are_the_same(prices, data):
    whole = [[f"{price}.5", "1", "0", "1"] for price in prices]
    gone = [[f"{price}.5", "0", "0", "0"] for price in data.draw(st.permutations(prices[:400]))]
    few = data.draw(st.lists(st.integers(0, 5000).map(lambda price: [f"{price}.5", "2"]), max_size=30))
    agree([(True, 25, whole, whole), (False, 25, text(few), few), (False, None, gone, text(gone)), (False, 40, [], [])])


NONSENSE = st.binary(max_size=40) | st.text('[]",.0189 -e{}:\\', max_size=40).map(str.encode)


@settings(max_examples=400)
@given(st.lists(st.tuples(st.booleans(), st.just(2), NONSENSE, NONSENSE), max_size=3))
def test_nonsense_is_the_same_nonsense(them):
    agree(them)


@settings(max_examples=400)
@given(ROWS, st.data())
def test_one_wrong_byte_is_the_same_wrong(rows, data):
    right = text(rows)
    place = data.draw(st.integers(0, len(right) - 1))
    put = data.draw(st.binary(max_size=2) | st.sampled_from([b"]", b"[", b'"', b",", b"\\", b"."]))
    wrong = right[:place] + put + right[place + data.draw(st.integers(0, 2)) :]
    agree([(True, 3, text([["8", "1"]]), b"[]"), (False, 3, wrong, right), (True, 3, b"[]", wrong)])
    agree([(False, 3, right[:place], b"[]")])


@pytest.mark.parametrize("rows", [None, 1, "x", {"a": 1}, [1], [[]], [["1"]], [["1", 2]], [[1, "2"]], [None], object()])
def test_what_are_no_rows_is_taken_alike(rows):
    agree([(False, 3, rows, [["8", "1"]]), (True, 3, [["8", "1"]], rows)])


def test_arguments_are_two_sides():
    for wrong in ((), ([],), ([], [], [])):
        with pytest.raises(TypeError):
            compiled.Levels().apply(*wrong)
        with pytest.raises(TypeError):
            compiled.Levels().replace(*wrong)
    with pytest.raises(TypeError):
        compiled.Levels(1)
    with pytest.raises(TypeError):
        compiled.Levels().top("1")
    with pytest.raises(AttributeError):
        compiled.Levels().changes = 3


def test_a_full_book_is_taken_and_emptied():
    rows = [[str(price), "1"] for price in range(1000, 2000)]
    book = compiled.Levels()
    for order in (rows, rows[::-1], rows[::2] + rows[1::2]):
        book.replace(order, text(order))
        assert book.depth == (1000, 1000)
        assert book.top(1) == ([["1999", "1"]], [["1000", "1"]])
    book.apply([[price, "0"] for price, _ in rows], [])
    assert book.depth == (0, 1000)


@contextmanager
def collecting_always(callback: Any) -> Any:
    before = gc.get_threshold()
    gc.callbacks.append(callback)
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(callback)


def test_levels_that_are_half_changed_cannot_be_looked_at():
    book, refused = compiled.Levels(), []

    def looked(phase: str, info: Any) -> None:
        for look in (lambda: book.top(), lambda: book.replace([], []), lambda: book.depth, book.checksum):
            try:
                look()
            except RuntimeError as error:
                refused.append(str(error))

    odd = [["1e1", "1"], ["-2", "3"], ["7", "1"]]
    with collecting_always(looked):
        book.replace(odd, [])
    assert set(refused) == {"these levels are being changed"}
    assert book.top() == ([["1e1", "1"], ["7", "1"], ["-2", "3"]], [])


def test_memory_is_given_back():
    long = "1" * 100
    sides = [text([[f"{price}.{turn}", "1" if turn % 2 else "0", long[: turn * 13]] for price in range(60)])
             for turn in range(8)]  # fmt: skip
    wrong = [text([["8", "1", long]] * 70 + [["x", "1"]]), [["0.1", "1"]] * 60 + [["0.1000000000000000000001", "1"]]]

    def work(times: int) -> int:
        for turn in range(times):
            book = compiled.Levels()
            book.replace(sides[1], sides[3])
            for side in sides:
                book.apply(side, sides[turn % 8])
                book.checksum()
                book.top(3)
            for side in wrong:
                with suppress(ValueError):
                    book.apply(side, side)
                    raise AssertionError("it was taken")
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        work(400)
        first = work(400)
        assert work(400) - first < 2_000
    finally:
        tracemalloc.stop()


def test_what_cuts_writes_and_inflates_gives_its_memory_back():
    message = (
        b'{"arg":{"channel":"books","instId":"X"},"action":"update","data":[{"asks":[["8476.98","415","0","13"]],'
        b'"bids":[],"ts":"1597026383085","checksum":-855196043,"prevSeqId":123456000000,"seqId":123457000000}]}'
    )
    cutter = compiled.Cutter(
        Book,
        "okx",
        "book",
        "X",
        ("ts", None, "seqId", "prevSeqId", "checksum"),
        False,
        lambda head: "x" + head.decode(),
    )
    encoder = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    frame = encoder.compress(message) + encoder.flush()

    def work(times: int) -> int:
        for turn in range(times):
            # Another head each time, which is remembered in place of the last; each third one is not cut.
            text = message.replace(b'"update"', b'"%d"' % turn).replace(b'"0"', [b'"0"', b'"1"', b"0"][turn % 3])
            book = cutter(text, turn << 40)
            assert (book is None) == (turn % 3 == 2)
            if book is not None:
                assert encode(book)
                book.inst = [1]
                assert encode(book)
            assert compiled.inflate(frame, 10_000) == message
            assert compiled.inflate(frame[:-1], 10_000) is None
            assert compiled.token(text, frozenset({b'{"arg":{"channel'}), b'"instId":"')
            compiled.Cutter(Book, "okx", "book", "X", ("ts", None, None, None, "checksum"), True, str)
            with suppress(TypeError):
                compiled.Cutter(Book, "okx", "book", "X", ("ts", None, None, None, 5), True, str)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        held = [work(2000) for _ in range(5)]
        # What anything else takes meanwhile comes once; what is not given back comes each time.
        assert min(after - before for before, after in pairwise(held[1:])) < 2_000
    finally:
        tracemalloc.stop()


def test_a_book_of_400_levels_a_side_takes_less_than_what_is_said_of_it():
    book, empty = compiled.Levels(), sys.getsizeof(compiled.Levels())
    side = [[f"{price}.25", "12.3456789", "0", "12"] for price in range(60_000, 60_400)]
    book.replace(side, side)
    assert 800 * 64 < sys.getsizeof(book) - empty < 96 * 1024


@pytest.mark.parametrize(("asked", "module"), [("1", "okstream.levels"), ("", "okstream._compiled")])
def test_one_can_do_without(asked, module):
    code = "from okstream.book import Levels; print(Levels.__module__)"
    command = [sys.executable, "-c", code]
    told = subprocess.run(
        command, env={**os.environ, "OKSTREAM_PURE": asked}, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == module
