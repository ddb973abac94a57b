"""A lane that lost changes of a book goes on from the present book, and tells its consumer so."""

from typing import Any

import pytest
from exchange import RECV, gaps, push, words
from exchange import feed as one_feed
from hypothesis import given, settings
from hypothesis import strategies as st

from okstream.fanout.lane import Lane
from okstream.fanout.rendering import records
from okstream.feed import Delivery, Feed
from okstream.feed.source import Source
from okstream.options import LaneOptions
from okstream.records import Book, Gap

WEIGHT = 100
INSTS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")


class Exchange:
    """One book as the exchange has it, and as each of its numbers left it; what it says goes to `lane`."""

    def __init__(self, inst: str, lane: Lane) -> None:
        self.text = f"book:{inst}"
        kept = one_feed(self.text)
        self.feed = Feed(kept.sub, "okx", kept._dialect, kept._statements, keeps=True)
        self.source: Source = self.feed.source()
        self.lane = lane
        self.seq = 1
        self.bids: dict[str, str] = {"9": "1"}
        self.truth: dict[int, dict[str, str]] = {}
        self.ask()

    def ask(self) -> None:
        """Subscribe; the snapshot comes at once."""
        self.source.ask()
        self.put(self.source.acknowledge(RECV))
        self.truth[self.seq] = dict(self.bids)
        self.says("snapshot", -1, self.bids)

    def change(self, price: int, size: int) -> None:
        self.seq += 1
        if size:
            self.bids[str(price)] = str(size)
        else:
            self.bids.pop(str(price), None)
        self.truth[self.seq] = dict(self.bids)
        self.says("update", self.seq - 1, {str(price): str(size)})

    def breaks(self, reason: str, state: str) -> None:
        self.put(self.source.lose(reason, RECV, state))

    def says(self, action: str, prev: int, bids: dict[str, str]) -> None:
        rows = [[price, size, "0", "1"] for price, size in bids.items()]
        row = {"asks": [], "bids": rows, "ts": str(self.seq), "checksum": 0, "prevSeqId": prev, "seqId": self.seq}
        self.put(self.source.push(push(self.text, row, action=action), RECV))

    def put(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            delivery.weight = WEIGHT
        self.lane.put(deliveries)


class Reader:
    """Keeps the book of one feed as documented: a snapshot begins it, a gap ends it, each change follows the last."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.bids: dict[str, str] | None = None
        self.seq = 0
        self.gap: Gap | None = None
        self.until: str | int | None = None

    def takes(self, record: Any) -> None:
        if isinstance(record, Gap) and record.state == "open":
            assert self.gap is None, "one gap at a time"
            self.gap, self.bids = record, None
        elif isinstance(record, Gap):
            assert self.gap is not None
            assert (record.gap, record.after) == (self.gap.gap, self.gap.after)
            self.gap, self.until = None, record.until
        elif isinstance(record, Book):
            assert self.gap is None, "no book within a gap"
            assert record.seq is not None
            if record.action == "snapshot":
                assert record.seq >= self.seq, "nothing goes back"
                assert self.until in (None, record.seq), "a gap ends with the snapshot"
                self.bids = {}
            else:
                assert self.bids is not None, "a change of no book"
                assert record.prev == self.seq, "a change of another book"
            for price, size, *_ in record.bids:
                assert self.bids is not None
                self.bids.pop(price, None)
                if size != "0":
                    self.bids[price] = size
            self.seq, self.until = record.seq, None
            assert self.bids == self.exchange.truth[self.seq]


def lane(limit: int) -> Lane:
    return Lane(LaneOptions(bytes=limit), wall_ns=lambda: RECV)


def test_after_a_loss_come_a_gap_the_present_book_and_only_what_is_newer():
    one = lane(2 * WEIGHT)
    exchange = Exchange("BTC-USDT", one)
    one.take()
    for number in range(5):
        exchange.change(number, 1)
    said = records(one.take())
    assert words(said) == ["open overflow", "closed overflow", "book snapshot"]
    opened, closed = gaps(said)
    assert (opened.after, closed.until, said[2].seq, said[2].prev) == (1, 6, 6, -1)
    assert sorted(row[0] for row in said[2].bids) == ["0", "1", "2", "3", "4", "9"]
    assert one.dropped == 3
    exchange.change(7, 1)
    (follows,) = records(one.take())
    assert (follows.action, follows.prev, follows.seq) == ("update", 6, 7)


def test_the_present_book_is_that_of_the_moment_it_is_taken():
    one = lane(2 * WEIGHT)
    exchange = Exchange("BTC-USDT", one)
    one.take()
    for number in range(5):
        exchange.change(number, 1)
    (first,) = [said for said in records(one.take(1)) if said.type == "book"]
    assert (first.action, first.seq) == ("snapshot", 6)
    exchange.change(7, 1)
    assert [said.seq for said in records(one.take())] == [7], "what waited is within the snapshot"
    assert len(one) == 0


def test_a_snapshot_that_waits_needs_no_other():
    one = lane(2 * WEIGHT)
    exchange = Exchange("BTC-USDT", one)
    one.take()
    exchange.change(1, 1)
    exchange.breaks("sequence", "void")
    exchange.ask()
    exchange.change(2, 1)
    said = records(one.take())
    assert words(said)[-2:] == ["book snapshot", "book update"]
    assert [record.seq for record in said if record.type == "book"] == [2, 3]


def test_a_book_that_is_void_when_it_is_met_waits_for_its_next_snapshot():
    one = lane(3 * WEIGHT)
    exchange = Exchange("BTC-USDT", one)
    one.take()
    for number in range(4):
        exchange.change(number, 1)
    exchange.breaks("sequence", "void")
    said = records(one.take())
    assert words(said) == ["open sequence", "void"]
    assert one.dropped == 4, "changes to what nobody has are of no use"
    exchange.ask()
    said = records(one.take())
    assert words(said) == ["closed sequence", "live", "open overflow", "closed overflow", "book snapshot"]
    assert (gaps(said)[-2].after, gaps(said)[-1].until) == (1, 5)


def test_what_was_renewed_and_is_dropped_is_no_second_loss():
    one = lane(4 * WEIGHT)
    exchange, other = Exchange("BTC-USDT", one), Exchange("ETH-USDT", one)
    one.take()
    for number in range(6):
        exchange.change(number, 1)
    one.take(1)
    dropped = one.dropped
    for number in range(4):
        other.change(number, 1)
    assert one.dropped == dropped
    assert words(records(one.take())) == ["book update"] * 4


def test_a_feed_that_ended_is_not_renewed():
    one = lane(2 * WEIGHT)
    exchange = Exchange("BTC-USDT", one)
    one.take()
    for number in range(5):
        exchange.change(number, 1)
    one.take(1)
    one.forget(exchange.feed)
    assert records(one.take()) == []
    assert (one.losses.renewed, one.losses.lost, one.losses.last, records(one.unsaid())) == ({}, {}, {}, [])


STEPS = st.one_of(
    st.tuples(st.just("change"), st.integers(0, 2), st.integers(1, 9), st.integers(0, 2)),
    st.tuples(st.just("change"), st.integers(0, 2), st.integers(1, 9), st.integers(0, 2)),
    st.tuples(st.just("breaks"), st.integers(0, 2), st.sampled_from(["sequence", "disconnected"]), st.just(0)),
    st.tuples(st.just("ask"), st.integers(0, 2), st.just(0), st.just(0)),
    st.tuples(st.just("take"), st.integers(0, 5), st.just(0), st.just(0)),
    st.tuples(st.just("hold"), st.integers(0, 3), st.just(0), st.just(0)),
)


@pytest.mark.parametrize("books", [1, 3])
@settings(max_examples=300)
@given(steps=st.lists(STEPS, max_size=80), limit=st.integers(0, 8))
def test_a_book_that_a_reader_trusts_is_the_exchanges(books: int, steps: list[Any], limit: int):
    one = lane(limit * WEIGHT)
    exchanges = [Exchange(inst, one) for inst in INSTS[:books]]
    readers = {exchange.feed: Reader(exchange) for exchange in exchanges}

    def hand_out(deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            for record in records([delivery]):
                readers[delivery.feed].takes(record)  # type: ignore[index]

    for step, which, first, second in steps:
        exchange = exchanges[which % books]
        if step == "take":
            hand_out(one.take(which))
        elif step == "hold":
            one.held = which * WEIGHT
        elif step == "change":
            if exchange.feed.state == "live":
                exchange.change(first, second)
        elif step == "ask":
            if exchange.feed.state != "live":
                exchange.ask()
        else:
            exchange.breaks(first, "void" if first == "sequence" else "disconnected")
        assert one.weight <= limit * WEIGHT
    one.held = 0
    hand_out(one.take(10_000))
    for exchange in exchanges:
        if exchange.feed.state == "live":
            reader = readers[exchange.feed]
            lost = exchange.feed in one.losses.lost
            assert lost or (reader.bids, reader.seq) == (exchange.bids, exchange.seq)
    assert all(gap.state == "open" for gap in gaps(records(one.unsaid())))
