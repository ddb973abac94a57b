"""Batches of lines: when they are handed out, and what they hold of the lane's bound."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from exchange import RECV, trades
from exchange import source as one_source

from okstream import testing
from okstream.entries import Entry
from okstream.fanout.batching import Batch, Batches
from okstream.fanout.lane import Lane
from okstream.feed.continuity import Delivery
from okstream.feed.source import Source
from okstream.options import LaneOptions


class Lines:
    """A sink like standard output."""

    linger = 0.5
    lines_only = True

    async def open(self) -> None: ...

    async def write(self, batch: Sequence[Entry]) -> None: ...

    async def close(self) -> None: ...


class Fields(Lines):
    lines_only = False


class Joined(Lines):
    joined = True


def batches(sink: Any, **options: Any) -> Batches:
    given = LaneOptions(**options)
    one = Batches(Lane(given, wall_ns=lambda: RECV), given, sink)
    one.start()
    return one


def lived() -> Source:
    one = one_source("trades:BTC-USDT")
    one.ask()
    one.acknowledge(RECV)
    one.push(trades(0), RECV)
    return one


def put(one: Batches, source: Source, first: int, count: int, weight: int = 1000) -> None:
    for number in range(first, first + count):
        one.lane.put(source.push(trades(number), RECV, b'{"i":%d}' % number, weight=weight))


async def timed(one: Batches) -> tuple[Batch, float]:
    began = asyncio.get_running_loop().time()
    batch = await one.next()
    assert batch is not None
    return batch, asyncio.get_running_loop().time() - began


def test_a_flood_does_not_linger_where_nobody_asked_for_it():
    async def scenario() -> list[tuple[int, float]]:
        one, source, seen = batches(Lines()), lived(), []
        for first, count in ((1, 3), (4, 200), (204, 200)):
            put(one, source, first, count)
            batch, took = await timed(one)
            one.done(batch)
            seen.append((batch.data, took))
        return seen

    # A few wait for others, for as long as the sink says; many do not.
    assert testing.run(scenario) == [(3, pytest.approx(0.5)), (200, 0.0), (200, 0.0)]


def test_a_flood_lingers_as_asked_for_until_a_batch_is_as_large_as_may_be():
    async def scenario() -> list[float]:
        one, source, took = batches(Fields(), linger=2.0, bytes=8_000_000), lived(), []
        for first, count in ((1, 200), (201, 5000)):
            put(one, source, first, count)
            batch, seconds = await timed(one)
            one.done(batch)
            took.append(seconds)
        assert one.lane.dropped == 0
        return took

    assert testing.run(scenario) == [pytest.approx(2.0), 0.0]


@pytest.mark.parametrize("form", ["json", "raw"])
def test_lines_alone_do_not_hold_their_records(form: str):
    one, source = batches(Lines(), form=form), lived()
    put(one, source, 1, 640, weight=100_000)
    assert one.lane.held < 640 * 400
    batch = one.take()
    assert (batch.data, len(batch.entries)) == (640, 640)
    assert {entry.recv for entry in batch.entries} == {RECV}
    one.done(batch)
    assert (one.lane.held, one.under_way, one.lost) == (0, 0, 0)


def test_records_that_others_want_too_are_made_into_lines_once():
    one, two, source = batches(Lines()), batches(Fields()), lived()
    one.lane.alone = two.lane.alone = False
    deliveries = source.push(trades(1), RECV, weight=100)
    for each in (one, two):
        each.lane.put(deliveries)
    mine, others = one.take(), two.take()
    assert mine.entries[0].line is others.entries[0].line
    assert mine.entries[0].about is others.entries[0].about


def test_a_line_is_the_same_with_its_record_and_without():
    sources = lived(), lived()
    one, two = batches(Lines()), batches(Fields())
    for each, source in ((one, sources[0]), (two, sources[1])):
        each.lane.put(source.lose("disconnected", RECV, "disconnected"))
        source.ask()
        source.acknowledge(RECV)
        put(each, source, 1, 5)
    mine, others = one.take(), two.take()
    lines = [[entry.line.split(b'"gap":')[-1][-60:] for entry in batch.entries] for batch in (mine, others)]
    assert lines[0] == lines[1]
    assert (mine.data, len(mine.entries)) == (others.data, len(others.entries))


@pytest.mark.parametrize("statements", [True, False])
@pytest.mark.parametrize("form", ["json", "raw"])
def test_joined_lines_are_the_same_lines(form: str, statements: bool):
    batch: dict[type[Lines], Batch] = {}
    said = lived().feed.overflow(None, None, RECV)
    for kind in (Lines, Joined):
        one, source = batches(kind(), form=form, statements=statements), lived()
        put(one, source, 1, 3)
        one.lane.put([Delivery(source.feed, said)])
        one.lane.put(source.push(trades(4, 5), RECV, b'{"a":\n1}', weight=100))
        batch[kind] = one.take()
        one.done(batch[kind])
        assert (one.lane.held, one.lane.weight, one.lost) == (0, 0, 0)
    alone, joined = batch[Lines], batch[Joined]
    lines = b"".join(entry.line for entry in alone.entries)
    assert lines.count(b"\n") == alone.data + 2 * statements
    assert [(entry.line, entry.recv) for entry in joined.entries] == [(lines, RECV)]
    assert joined.data == alone.data


def test_joined_lines_are_apart_where_a_batch_is_of_so_many():
    one, source = batches(Joined(), batch_records=2), lived()
    put(one, source, 1, 4)
    assert len(one.take().entries) == 4
