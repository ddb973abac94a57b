"""One consumer's buffer: bounded, honest about what it drops, and in order."""

import asyncio
import random
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from exchange import RECV, STATEMENTS, Call, book, gaps, push, records, trades, words
from exchange import source as one_source
from hypothesis import given, settings
from hypothesis import strategies as st

from okstream.entries import Entry
from okstream.fanout import Fanout
from okstream.fanout.lane import Lane
from okstream.fanout.rendering import entries
from okstream.fanout.surroundings import Surroundings
from okstream.feed import Delivery, Feed
from okstream.feed.source import Source
from okstream.options import LaneOptions
from okstream.records import Gap, Status

TRADES, BOOK = "trades:BTC-USDT", "book:BTC-USDT"
WEIGHT = 100


def lane(limit: int = 5 * WEIGHT, **more: Any) -> Lane:
    return Lane(LaneOptions(bytes=limit, **more), wall_ns=lambda: RECV)


def lived(text: str = TRADES) -> Source:
    one = one_source(text)
    one.ask()
    one.acknowledge(RECV)
    one.push(trades(1) if text == TRADES else book("snapshot", -1, 1), RECV)
    return one


def weighed(deliveries: list[Delivery]) -> list[Delivery]:
    for delivery in deliveries:
        delivery.weight = WEIGHT
    return deliveries


def puts(one: Lane, source: Source, *numbers: int) -> None:
    for number in numbers:
        one.put(weighed(source.push(trades(number), RECV)))


def lost(source: Source) -> list[Delivery]:
    return weighed(source.lose("disconnected", RECV, "disconnected"))


def status(state: str, *, venue: str = "okx", account: str | None = None) -> Delivery:
    return Delivery(None, [Status(venue, None, None, account, None, RECV, state, None)], weight=WEIGHT)


def taken(one: Lane, most: int = 1000) -> list[Any]:
    return records(one.take(most))


def test_what_is_put_is_taken_in_order():
    one, source = lane(), lived()
    puts(one, source, 2, 3, 4)
    assert one.ready.is_set()
    assert one.waiting == 3
    assert [record.id for record in taken(one, 2)] == ["2", "3"]
    assert one.ready.is_set(), "there is more"
    assert [record.id for record in taken(one)] == ["4"]
    assert (one.weight, len(one), one.dropped) == (0, 0, 0)
    assert not one.ready.is_set()


def test_a_full_lane_drops_the_oldest_and_says_so_in_its_place():
    one, source = lane(), lived()
    puts(one, source, 2)
    taken(one)
    puts(one, source, *range(3, 11))
    assert one.dropped == 3
    assert one.weight == 5 * WEIGHT
    said = taken(one)
    assert words(said) == ["open overflow", "closed overflow"] + ["trade"] * 5
    opened, closed = gaps(said)
    assert (opened.after, opened.after_ts, opened.until) == ("2", 1002, None)
    assert (closed.gap, closed.after, closed.until, closed.until_ts, closed.lost) == (opened.gap, "2", "6", 1006, None)


def test_what_was_never_handed_out_is_lost_since_the_beginning():
    one, source = lane(), lived()
    puts(one, source, *range(2, 10))
    assert gaps(taken(one))[0].after is None


def test_each_overflow_has_its_own_gap_and_only_of_what_lost_something():
    one, source, other = lane(2 * WEIGHT), lived(), lived()
    puts(one, source, 2)
    puts(one, other, 2, 3)
    said = one.take()
    assert [delivery.feed for delivery in said if delivery.statements] == []
    puts(one, source, 3, 4, 5)
    assert words(taken(one)) == ["open overflow", "closed overflow", "trade", "trade"]
    puts(one, source, 6, 7, 8)
    assert [gap.after for gap in gaps(taken(one))] == ["5", "5"]


def test_statements_are_never_dropped_but_coalesced():
    one, source = lane(0), lived()
    one.put(lost(source))
    source.ask()
    puts(one, source, 3)  # closes the gap that the lane still keeps
    one.put(lost(source))
    assert len(one) == 1
    assert words(taken(one)) == ["open disconnected", "disconnected"]


def test_the_end_of_a_gap_that_was_handed_out_is_kept():
    one, source = lane(WEIGHT), lived()
    one.put(lost(source))
    (opened, _) = taken(one)
    source.ask()
    puts(one, source, 5, 6)
    said = taken(one)
    assert words(said) == ["live", "closed disconnected", "trade"]
    assert (said[1].gap, said[1].after, said[1].until, said[1].lost) == (opened.gap, "1", "6", None)


def test_a_gap_that_would_have_closed_with_what_was_dropped_is_ended_before_another_opens():
    one, source = lane(WEIGHT), lived()
    one.put(lost(source))
    (opened, _) = taken(one)
    source.ask()
    puts(one, source, 5, 6)
    one.put(lost(source))  # drops 6, too
    said = taken(one)
    assert words(said) == ["live", "closed disconnected", "open disconnected", "disconnected"]
    assert (said[1].gap, said[1].until, said[1].until_ts) == (opened.gap, None, None), "nobody got 5"
    source.ask()
    puts(one, source, 9)
    said = taken(one)
    assert words(said) == ["closed disconnected", "live", "open overflow", "closed overflow", "trade"]
    assert (said[2].after, said[3].until) == (None, "9")


def test_a_gap_whose_end_was_dropped_stays_open_when_nothing_follows():
    one, source, other = lane(WEIGHT), lived(), lived()
    for each in (source, other):
        one.put(lost(each))
        taken(one)
        each.ask()
        puts(one, each, 5, 6)
        one._drop(one._queue.popleft())
    one.forget(other.feed)
    taken(one)
    assert records(one.unsaid()) == []
    assert (len(one.losses.lost), len(one.losses.unclosed)) == (0, 0)


def test_what_a_consumer_still_holds_is_within_the_bound():
    one, source = lane(), lived()
    puts(one, source, 2, 3, 4, 5)
    assert len(one.take(within=2 * WEIGHT - 1)) == 2
    one.held = 2 * WEIGHT
    puts(one, source, 6, 7, 8)
    assert (one.weight, one.dropped) == (3 * WEIGHT, 2)


def test_one_gap_is_open_at_a_time():
    one, source = lane(2 * WEIGHT), lived()
    puts(one, source, 2)
    taken(one)
    puts(one, source, 3, 4)
    one.put(lost(source))
    source.ask()
    puts(one, source, 9)
    said = taken(one)
    told = words(said)
    assert told[:4] == ["open disconnected", "disconnected", "closed disconnected", "live"]
    assert told[4:] == ["open overflow", "closed overflow", "trade"]
    assert (gaps(said)[-1].after, gaps(said)[-1].until) == ("2", "9")


def test_statuses_of_several_venues_and_accounts_are_kept_and_so_is_the_head_of_the_stream():
    one = lane(0)
    one.put([status("started"), status("connecting"), status("live"), status("live", account="main")])
    one.put([status("live", venue="okx-eea"), status("disconnected")])
    assert sorted((said.state, said.venue, said.account or "") for said in taken(one)) == [
        ("disconnected", "okx", ""),
        ("live", "okx", "main"),
        ("live", "okx-eea", ""),
        ("started", "okx", ""),
    ]


def test_memory_is_bounded_even_if_nobody_ever_takes():
    one, source = lane(20 * WEIGHT), lived()
    for number in range(2, 5000):
        puts(one, source, number)
        one.put([*lost(source), status("live"), status("disconnected")])
        source.ask()
    assert one.weight <= 20 * WEIGHT
    assert len(one) <= 22
    assert sum(len(statements) for statements in one.losses.kept.values()) <= 6


def test_a_message_too_large_for_the_lane_is_dropped_and_said():
    one, source = lane(), lived()
    puts(one, source, 2)
    taken(one)
    large = source.push(trades(3), RECV)
    large[0].weight = 100 * WEIGHT
    one.put(large)
    assert (one.dropped, len(one)) == (1, 0)
    puts(one, source, 4)
    assert words(taken(one)) == ["open overflow", "closed overflow", "trade"]


def test_at_the_end_the_loss_that_nothing_followed_is_said():
    one, source = lane(0), lived()
    puts(one, source, 2, 3)
    assert taken(one) == []
    said = records(one.unsaid())
    assert words(said) == ["open overflow"]
    assert one.unsaid() == []


def test_what_was_lost_of_a_feed_that_ended_is_said_and_the_feed_forgotten():
    one, source = lane(10_000), lived()
    puts(one, source, 2)
    taken(one)
    large = source.push(trades(3), RECV)
    large[0].weight = 20_000
    one.put(large)
    one.forget(source.feed)
    said = taken(one)
    assert words(said) == ["open overflow"]
    assert said[0].after == "2"
    assert records(one.unsaid()) == []
    assert source not in one.losses.last


def test_feeds_that_come_and_go_leave_nothing_behind():
    one = lane(50 * WEIGHT)
    for _ in range(200):
        source = lived()
        puts(one, source, *range(2, 10))
        one.forget(source.feed)
        taken(one)
    assert (len(one.losses.last), len(one.losses.lost), len(one.losses.kept), len(one)) == (0, 0, 0, 0)


def test_raw_text_is_dropped_and_said_as_well():
    one, source = lane(2 * WEIGHT, form="raw"), one_source(TRADES, parsed=False)
    source.ask()
    for number in range(4):
        one.put(weighed(source.push_raw(RECV, str(number).encode(), 1)))
    assert one.dropped == 2
    deliveries = one.take()
    assert [delivery.text for delivery in deliveries if delivery.text is not None] == [b"2", b"3"]
    assert words(records(deliveries)) == ["live", "open overflow", "closed overflow"]


class Slow:
    """A sink that waits in its first write until it may go on."""

    def __init__(self, stuck: bool = True) -> None:
        self.go = asyncio.Event()
        self.lines: list[bytes] = []
        self.stuck = stuck

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def write(self, batch: Sequence[Entry]) -> None:
        if self.stuck:
            self.lines += [entry.line for entry in batch]
            await self.go.wait()


def served(sink: Slow, limit: int, count: int | None = None) -> Fanout:
    around = Surroundings(STATEMENTS, lambda: RECV, random.Random(1))
    return Fanout([sink], LaneOptions(bytes=limit), around, count)


def test_what_was_dropped_before_the_count_was_reached_is_lost_and_what_waits_after_it_is_not():
    async def scenario(dropping: bool) -> tuple[int, int, int]:
        sink, source = Slow(), lived()
        fanout = served(sink, 20_000, 5)
        (pump,) = fanout.pumps
        await pump.start()
        pumping = asyncio.create_task(pump.run())
        fanout.put(source.push(trades(2), RECV, weight=600))
        await asyncio.sleep(0)
        for number in range(3, 2000 if dropping else 7):
            fanout.put(source.push(trades(number), RECV, weight=600))
        before = fanout.dropped
        sink.go.set()
        await pump.done.wait()
        for number in range(2000, 4000):  # nobody asked for these
            fanout.put(source.push(trades(number), RECV, weight=600))
        pump.finish()
        await pumping
        await pump.close()
        return pump.written, before, fanout.lost

    written, dropped, told = asyncio.run(scenario(dropping=True))
    assert written == 5
    assert told == dropped > 1000
    assert asyncio.run(scenario(dropping=False)) == (5, 0, 0)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("rows", [1, 20, 200])
def test_a_lane_of_books_takes_no_more_memory_than_its_bound(rows: int, beside: bool):
    """Also where another lane, which is not full, has had lines made of the records that wait."""

    async def scenario() -> tuple[int, int]:
        sink, bound = Slow(), 8 << 20
        call = Call([BOOK])
        call.accept()
        fanout = served(sink, bound)
        if beside:
            fanout.add(Slow(stuck=False), None)
        tasks = []
        for pump in fanout.pumps:
            await pump.start()
            tasks.append(asyncio.create_task(pump.run()))
        tracemalloc.start()
        try:
            before, number = tracemalloc.get_traced_memory()[0], 0
            while fanout.pumps[0].lane.dropped < 100:
                number += 1
                side = [[f"{60000 + row}.1", f"0.{number:06d}{row:04d}", "0", "12"] for row in range(rows)]
                row = {"asks": side, "bids": side, "ts": str(number), "prevSeqId": number - 1 or -1, "seqId": number}
                fanout.put(call.hears(push(BOOK, row, action="update" if number > 1 else "snapshot")))
                if number == 50 or beside:
                    await asyncio.sleep(0)  # the sink takes what it will never let go
            return tracemalloc.get_traced_memory()[0] - before, bound
        finally:
            tracemalloc.stop()
            for task in tasks:
                task.cancel()

    used, bound = asyncio.run(scenario())
    assert bound / 8 < used < bound + (4 << 20), "beside the lane there is what the feed remembers"


STEPS = st.one_of(
    st.tuples(st.just("trade"), st.integers(0, 2), st.integers(1, 400)),
    st.tuples(st.just("lost"), st.integers(0, 2), st.just(WEIGHT)),
    st.tuples(st.just("take"), st.integers(0, 6), st.just(0)),
)


@settings(max_examples=200)
@given(steps=st.lists(STEPS, max_size=80), limit=st.integers(0, 1500))
def test_every_record_is_handed_out_once_or_lies_in_a_gap(steps: list[Any], limit: int):
    one, sources, next_id = lane(limit), [lived() for _ in range(3)], [2, 2, 2]
    put: dict[Feed, list[int]] = {source.feed: [1] for source in sources}
    got: dict[Feed, list[Any]] = {source.feed: [] for source in sources}

    def hand_out(deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            assert delivery.feed is not None
            got[delivery.feed] += records([delivery])

    for step, which, weight in steps:
        if step == "take":
            hand_out(one.take(which))
        elif step == "lost":
            one.put(lost(sources[which]))
            sources[which].ask()
        else:
            deliveries = sources[which].push(trades(next_id[which]), RECV)
            put[sources[which].feed].append(next_id[which])
            next_id[which] += 1
            deliveries[-1].weight = weight
            one.put(deliveries)
        assert one.weight <= limit
    hand_out(one.take(10_000))
    # At the end what was lost last may lie within a gap that is open already; neither is closed any more.
    end = one.unsaid()
    ends = {gap.gap for gap in gaps(records(end))}
    hand_out(end)
    for source, said in got.items():
        opened: Gap | None = None
        last, holes, handed = 1, [], []
        for record in said:
            if isinstance(record, Gap) and record.state == "open":
                assert opened is None or record.gap in ends, "one gap at a time"
                opened = record
                holes.append((int(record.after or 0), 10**9))
            elif isinstance(record, Gap):
                assert opened is not None
                assert opened.gap == record.gap
                holes[-1] = (holes[-1][0], int(record.until or 10**9))
                opened = None
            elif record.type == "trade":
                assert opened is None, "no data within a gap"
                assert int(record.id) > last
                last = int(record.id)
                handed.append(last)
        missing = set(put[source][1:]) - set(handed)
        assert all(any(low < number < high for low, high in holes) for number in missing)


def test_a_lane_that_is_not_full_changes_nothing():
    one, source = lane(10**6), lived(BOOK)
    deliveries = source.push(book("update", 1, 2), RECV)
    deliveries += source.lose("malformed", RECV, "void")
    one.put(deliveries)
    assert one.take() == deliveries


def test_a_newline_within_raw_text_makes_no_second_line():
    (made,) = entries([Delivery(lived().feed, text=b'{"a":\n1}')], "raw")
    assert made.line == b'{"a": 1}\n'
