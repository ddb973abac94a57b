"""Books as a program reads them, in any generation, whatever happens to them; and books at fixed times."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from okstream import BookVoidError, ConfigError, Stream, testing, venues
from okstream.entries import Entry
from okstream.options import LaneOptions
from okstream.records import Book, Gap, Status, Trade
from okstream.simulator import Settings, Simulator

START_MS = testing.START_NS // 1_000_000
DIALECTS = ("okx-v5", "okex-v3", "okex-v1")
SECOND = 1_000_000_000

everywhere = pytest.mark.parametrize("dialect", DIALECTS)


class Kept:
    """The books of a stream as its reader rebuilds them, by instrument."""

    def __init__(self, streaming: Stream) -> None:
        self.said: list[Any] = []
        self.sides: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
        self.last: dict[str, Book] = {}
        self.reading = asyncio.create_task(self._read(streaming))

    async def _read(self, streaming: Stream) -> None:
        async for record in streaming:
            self.said.append(record)
            if isinstance(record, Gap) and record.channel == "book":
                self.sides.pop(record.inst or "", None)
            elif isinstance(record, Book):
                self._take(record)

    def _take(self, book: Book) -> None:
        inst = book.inst or ""
        if book.action == "snapshot":
            self.sides[inst] = ({}, {})
        self.last[inst] = book
        for side, rows in zip(self.sides[inst], (book.bids, book.asks), strict=True):
            for price, size, *_ in rows:
                side.pop(price, None)
                if Decimal(size):
                    side[price] = size

    def top(self, inst: str, depth: int) -> list[list[tuple[str, str]]]:
        bids, asks = self.sides[inst]
        return [
            sorted(bids.items(), key=lambda level: -Decimal(level[0]))[:depth],
            sorted(asks.items(), key=lambda level: Decimal(level[0]))[:depth],
        ]

    def of(self, kind: type) -> list[Any]:
        return [said for said in self.said if isinstance(said, kind)]


def virtually(scenario: Callable[..., Any], dialect: str = "okx-v5", **options: Any) -> Any:
    """Run `scenario` with a simulated exchange, an open stream to it, and all that it says."""
    settings = options.pop("settings", {})

    async def whole() -> Any:
        async with Simulator(dialect, Settings(start_ms=START_MS, **settings)) as sim:
            venue = replace(venues.simulated(dialect, sim.url, sim.rest_url), name="okx")
            async with Stream(venue, **{"wall_ns": testing.wall_ns, "chance": random.Random(1), **options}) as stream:
                kept = Kept(stream)
                result = await scenario(sim, stream, kept)
            await kept.reading
            return result

    return testing.run(whole)


def pairs(rows: list[list[str]]) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in rows]


def agrees(stream: Stream, kept: Kept, inst: str = "BTC-USDT") -> None:
    """Hold the book that can be asked for against the one its reader has."""
    view = stream.book(inst)
    assert [pairs(side) for side in view.top(30)] == kept.top(inst, 30)
    assert view.depth == tuple(map(len, kept.sides[inst]))
    last = kept.last[inst]
    assert (view.inst, view.ts, view.seq, view.recv) == (inst, last.ts, last.seq, last.recv)


async def settle() -> None:
    """Let the reader catch up with what has been delivered."""
    for _ in range(5):
        await asyncio.sleep(0)


# -- asked for


@everywhere
@pytest.mark.parametrize("redundancy", [1, 2])
def test_the_book_is_the_one_that_was_delivered(dialect, redundancy):
    async def scenario(sim, stream, kept):
        await stream.subscribe("book", "BTC-USDT", "ETH-USDT", timeout=20)
        for _ in range(25):
            await asyncio.sleep(0.317)
            await settle()
            for inst in ("BTC-USDT", "ETH-USDT"):
                agrees(stream, kept, inst)
        view = stream.book("BTC-USDT")
        bid, ask = view.best
        assert bid is not None
        assert ask is not None
        assert Decimal(bid[0]) < view.mid < Decimal(ask[0])
        assert 0 <= view.age < 1
        return kept.of(Gap)

    assert virtually(scenario, dialect, redundancy=redundancy) == []


@everywhere
def test_a_book_that_was_read_goes_on_after_thousands_of_changes_in_which_nobody_looked(dialect):
    async def scenario(sim, stream, kept):
        await stream.subscribe("book:BTC-USDT", timeout=20)
        for seconds in (1, 110, 1):
            await asyncio.sleep(seconds)
            await settle()
            agrees(stream, kept)
        assert len(kept.of(Book)) > 1000

    virtually(scenario, dialect)


def test_what_is_not_subscribed_to_has_no_book():
    async def scenario(sim, stream, kept):
        await stream.subscribe("ticker:BTC-USDT", timeout=20)
        with pytest.raises(ConfigError, match="book:BTC-USDT is not subscribed to at okx"):
            stream.book("BTC-USDT")
        asking = asyncio.create_task(stream.subscribe("book:BTC-USDT", timeout=20))
        await asyncio.sleep(0)
        with pytest.raises(BookVoidError, match="not here yet"):
            stream.book("BTC-USDT")
        await asking
        await asyncio.sleep(1)
        stream.book("BTC-USDT")
        await stream.unsubscribe("book:BTC-USDT")
        with pytest.raises(ConfigError, match="not subscribed"):
            stream.book("BTC-USDT")

    virtually(scenario)


@everywhere
def test_a_book_whose_connection_is_lost_is_void_until_it_is_there_again(dialect):
    async def scenario(sim, stream, kept):
        await stream.subscribe("book:BTC-USDT", timeout=20)
        await asyncio.sleep(5)
        sim.inject("drop")
        await asyncio.sleep(0.001)
        with pytest.raises(BookVoidError, match="disconnected"):
            stream.book("BTC-USDT")
        await asyncio.sleep(10)
        await settle()
        agrees(stream, kept)

    virtually(scenario, dialect)


@everywhere
def test_with_a_second_connection_it_is_never_void(dialect):
    async def scenario(sim, stream, kept):
        await stream.subscribe("book:BTC-USDT", timeout=20)
        for turn in range(3):
            await asyncio.sleep(12)
            sim.inject(f"drop:connection={sim.connections[turn % 2].id}")
            await asyncio.sleep(0.001)
            if dialect == "okx-v5":
                stream.book("BTC-USDT")  # without numbers it takes a moment until the two are seen to be level
            await asyncio.sleep(0.2)
            for _ in range(20):
                await asyncio.sleep(0.25)
                await settle()
                agrees(stream, kept)
        return kept.of(Gap)

    assert virtually(scenario, dialect, redundancy=2) == []


def test_a_broken_book_is_void_and_whole_again_after_its_snapshot():
    async def scenario(sim, stream, kept):
        await stream.subscribe("book:BTC-USDT", timeout=20)
        await asyncio.sleep(5)
        sim.inject("gap:channel=books")
        sim.inject("slow-ack:seconds=3")
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if stream.state().subscriptions[0].state != "live":
                break
        with pytest.raises(BookVoidError, match="void"):
            stream.book("BTC-USDT")
        await asyncio.sleep(8)
        await settle()
        agrees(stream, kept)
        return [(gap.state, gap.reason) for gap in kept.of(Gap)]

    assert virtually(scenario) == [("open", "sequence"), ("closed", "sequence")]


def test_the_age_of_a_book_counts_from_its_last_message_keep_alives_included():
    async def scenario(sim, stream, kept):
        await stream.subscribe("book:BTC-USDT", timeout=20)
        await asyncio.sleep(50)
        assert stream.book("BTC-USDT").age == pytest.approx(50, abs=1)
        await asyncio.sleep(30)
        return stream.book("BTC-USDT").age

    assert virtually(scenario, settings={"rate": 0.0}) == pytest.approx(20, abs=2)


def test_a_view_does_not_outlive_its_moment():
    async def scenario(sim, stream, kept):
        await stream.subscribe("book:BTC-USDT", timeout=20)
        await asyncio.sleep(5)
        view = stream.book("BTC-USDT")
        bids = view.bids
        assert bids
        await asyncio.sleep(5)
        with pytest.raises(ConfigError, match="has changed since"):
            view.top(1)

    virtually(scenario)


# -- many at once


@pytest.mark.parametrize(
    ("dialect", "by", "checksum", "books"),
    [("okx-v5", "gap", "zero", 100), ("okx-v5", "checksum", "real", 40), ("okex-v3", "checksum", "zero", 40)],
)
def test_many_books_that_break_at_once_are_all_mended_with_few_requests(dialect, by, checksum, books):
    insts = [f"SIM{number:03d}-USDT" for number in range(books)]

    async def scenario(sim, stream, kept):
        await stream.subscribe("book", *insts, timeout=60)
        await asyncio.sleep(3)
        asked, links = sim.counters.requests, len(sim.connections)
        sim.inject(f"break-books:by={by}")
        await asyncio.sleep(8)
        await settle()
        for inst in insts:
            agrees(stream, kept, inst)
        opened = Counter(gap.inst for gap in kept.of(Gap) if gap.state == "open")
        reasons = {gap.reason for gap in kept.of(Gap)}
        states = {state.state for state in stream.state().subscriptions}
        assert sim.counters.connections == links
        return opened, reasons, states, (sim.counters.requests - asked) / links, sim.counters.faults["break-books"]

    settings = {"checksum": checksum, "rate": 10.0, "step": 0.05}
    opened, reasons, states, requests, broken = virtually(scenario, dialect, settings=settings)
    assert broken == books
    assert opened == dict.fromkeys(insts, 1)
    assert reasons == {"sequence" if by == "gap" else "checksum"}
    assert states == {"live"}
    assert requests <= 6, "those of a moment share them; a few break later"


def test_real_checksums_of_numbered_books_are_checked():
    async def scenario(sim, stream, kept):
        await stream.subscribe("book:BTC-USDT", timeout=20)
        await asyncio.sleep(20)
        assert kept.of(Gap) == []
        sim.inject("checksum:channel=books")
        await asyncio.sleep(10)
        await settle()
        agrees(stream, kept)
        assert any(book.checksum for book in kept.of(Book))
        return [(gap.state, gap.reason) for gap in kept.of(Gap)]

    said = virtually(scenario, settings={"checksum": "real"})
    assert said == [("open", "checksum"), ("closed", "checksum")]


# -- at fixed times


@everywhere
def test_books_at_fixed_times_are_on_the_grid_and_right(dialect):
    async def scenario(sim, stream, kept):
        await asyncio.sleep(0.37)
        await stream.subscribe("book", "BTC-USDT", "ETH-USDT", timeout=20)
        await stream.subscribe("trades:BTC-USDT", timeout=20)
        await asyncio.sleep(10)
        for book in kept.of(Book):
            assert book.action == "snapshot"
            assert (len(book.bids), len(book.asks), book.checksum) == (5, 5, None)
            assert book.recv % (SECOND // 2) < SECOND // 100, "on the grid"
            assert [row[0] for row in book.bids] == sorted((row[0] for row in book.bids), key=Decimal, reverse=True)
        view = stream.book("BTC-USDT")
        assert view.depth[0] > 5
        return Counter(book.inst for book in kept.of(Book)), len(kept.of(Trade)), kept.of(Gap)

    counts, trades, gaps = virtually(scenario, dialect, depth=5, every=0.5)
    assert all(18 <= counts[inst] <= 22 for inst in ("BTC-USDT", "ETH-USDT"))
    assert trades > 5
    assert gaps == []


def test_a_book_at_fixed_times_comes_once_each_however_early_a_timer_is():
    begun: list[int] = []

    def slow_ns() -> int:
        now = testing.wall_ns()
        begun.append(now)
        return now - (now - begun[0]) // 50

    async def scenario(sim, stream, kept):
        await stream.subscribe("book:BTC-USDT", timeout=20)
        await asyncio.sleep(10)
        return [book.recv for book in kept.of(Book)]

    times = virtually(scenario, depth=5, every=0.5, wall_ns=slow_ns)
    assert 15 <= len(times) <= 20
    assert {after - before for before, after in pairwise(times)} == {SECOND // 2}


def test_a_book_at_fixed_times_is_left_out_while_it_is_void_and_its_gap_is_said():
    async def scenario(sim, stream, kept):
        await stream.subscribe("book", "BTC-USDT", "ETH-USDT", timeout=20)
        await asyncio.sleep(5.05)
        sim.inject("slow-ack:seconds=3")
        sim.inject("gap:channel=books,inst=BTC-USDT")
        await asyncio.sleep(10)
        opened, closed = (gap.recv for gap in kept.of(Gap))
        within = [book.inst for book in kept.of(Book) if opened < book.recv < closed]
        words = [said.state for said in kept.of(Status) if said.inst == "BTC-USDT"]
        after = [book for book in kept.of(Book) if book.inst == "BTC-USDT" and book.recv > closed]
        return set(within), words, len(after)

    within, words, after = virtually(scenario, depth=10, every=1)
    assert within == {"ETH-USDT"}
    assert words == ["live", "void", "live"]
    assert after >= 4


class Raw:
    """A sink that gets nothing."""

    async def open(self) -> None: ...

    async def write(self, batch: Sequence[Entry]) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depth": 5}, "take both"),
        ({"every": 1}, "take both"),
        ({"depth": 0, "every": 1}, "1 to 400"),
        ({"depth": 401, "every": 1}, "1 to 400"),
        ({"depth": 5, "every": 0}, "more than 0"),
        ({"depth": 5, "every": 1, "sinks": [(Raw(), LaneOptions(form="raw"))]}, "raw"),
    ],
)
def test_what_books_at_fixed_times_need(options, said):
    with pytest.raises(ConfigError, match=said):
        Stream("okx", **options)
