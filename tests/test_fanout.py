"""All lanes of a stream: what is put in comes out of each, or is declared there; a slow one harms nobody."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson
import pytest
from core.exchange import RECV, STATEMENTS, book, feed, order, source, ticker, trades
from hypothesis import given, settings
from hypothesis import strategies as st

from okstream import testing
from okstream.entries import Entry
from okstream.errors import ConfigError, SinkError
from okstream.fanout import Fanout
from okstream.fanout.lane import Lane
from okstream.fanout.lanes import Lanes
from okstream.fanout.rendering import records
from okstream.fanout.surroundings import Surroundings
from okstream.feed import Feed
from okstream.feed.continuity import Delivery
from okstream.feed.source import Source
from okstream.options import LaneOptions
from okstream.records import Gap, Status

WEIGHT = 100
INSTS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")


class Kept:
    """A sink that keeps what it gets, and never returns from a write once it is told to."""

    def __init__(self, stuck: bool = False) -> None:
        self.entries: list[Entry] = []
        self.stuck = stuck

    async def open(self) -> None: ...

    async def write(self, batch: Sequence[Entry]) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        self.entries += batch

    async def close(self) -> None: ...


def fanout(*sinks: Any, **default: Any) -> Fanout:
    return Fanout(sinks, LaneOptions(**default), Surroundings(STATEMENTS, lambda: RECV, random.Random(1)))


def lived(text: str = "trades:BTC-USDT") -> Source:
    one = source(text)
    one.ask()
    one.acknowledge(RECV)
    return one


def weighed(deliveries: list[Delivery], weight: int = WEIGHT) -> list[Delivery]:
    for delivery in deliveries:
        delivery.weight = weight
    return deliveries


def lane(limit: int, **more: Any) -> Lane:
    return Lane(LaneOptions(bytes=limit * WEIGHT, **more), wall_ns=lambda: RECV)


def audit(put: Sequence[int], said: Sequence[Any], ends: frozenset[str] = frozenset()) -> None:
    """
    Every number is handed out once and in order, or lies within a gap; no gap holds what was handed out.

    `ends` are gaps that are said at the very end, and may lie within one that is open already.
    """
    handed, holes, opened, last = [], [], None, 0
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
        elif not isinstance(record, Status):
            assert opened is None, "no data within a gap"
            last, before = int(getattr(record, "id", 0) or getattr(record, "seq", 0) or record.ts), last
            assert last > before
            handed.append(last)
    missing = set(put) - set(handed)
    undeclared = [number for number in missing if not any(low < number < high for low, high in holes)]
    assert undeclared == []
    assert set(handed) <= set(put)


# -- policies


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 2), st.integers(1, 3)),
        st.tuples(st.just("put"), st.integers(0, 2), st.integers(1, 3)),
        st.tuples(st.just("lose"), st.integers(0, 2), st.just(1)),
        st.tuples(st.just("take"), st.integers(0, 6), st.just(1)),
        st.tuples(st.just("hold"), st.integers(0, 3), st.just(1)),
    ),
    max_size=80,
)


@pytest.mark.parametrize("bounds", [{}, {"records": 3}])
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
@settings(max_examples=200)
@given(steps=STEPS, limit=st.integers(1, 9))
def test_trades_come_out_or_are_declared(policy: str, bounds: Any, steps: list[Any], limit: int):
    one = lane(limit, when_full=policy, **bounds)
    sources = [lived(f"trades:{inst}") for inst in INSTS]
    put: list[list[int]] = [[], [], []]
    got: dict[Feed, list[Any]] = {source.feed: [] for source in sources}

    def hand_out(deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            got[delivery.feed] += records([delivery])  # type: ignore[index]

    for step, which, count in steps:
        if step == "take":
            hand_out(one.take(which))
        elif step == "hold":
            one.held = which * WEIGHT
        elif step == "lose":
            one.put(weighed(sources[which].lose("disconnected", RECV, "disconnected")))
            sources[which].ask()
            sources[which].acknowledge(RECV)
        else:
            numbers = range(len(put[which]) + 1, len(put[which]) + 1 + count)
            put[which] += numbers
            one.put(weighed(sources[which].push(trades(*numbers, inst=INSTS[which]), RECV), WEIGHT))
        if policy == "drop_oldest":
            assert one.weight <= limit * WEIGHT
        assert one.waiting <= bounds.get("records", 10**9)
    one.held = 0
    hand_out(one.take(10_000))
    unsaid = one.unsaid()
    ends = frozenset(gap.gap for gap in records(unsaid) if isinstance(gap, Gap))
    hand_out(unsaid)
    for numbers, each in zip(put, sources, strict=True):
        audit(numbers, got[each.feed], ends)
    total = sum(len(numbers) for numbers in put)
    handed = sum(not isinstance(record, Gap | Status) for said in got.values() for record in said)
    assert handed + one.dropped == total


def test_drop_newest_keeps_what_waits():
    one, trading = lane(3, when_full="drop_newest"), lived()
    for number in range(1, 8):
        one.put(weighed(trading.push(trades(number), RECV)))
    assert one.dropped == 4
    one.held = 0
    first = records(one.take())
    one.put(weighed(trading.push(trades(8), RECV)))
    said = first + records(one.take())
    assert [record.id for record in said if record.type == "trade"] == ["1", "2", "3", "8"]
    audit(range(1, 9), said)


def test_latest_drops_all_but_the_last_of_each_subscription():
    one = lane(6, when_full="latest", statements=False)
    sources = [lived(f"ticker:{inst}") for inst in INSTS]
    for ts in range(1, 20):
        for inst, each in zip(INSTS, sources, strict=True):
            one.put(weighed(each.push(ticker(ts, inst=inst), RECV)))
    said = one.take()
    lasts = [records([delivery])[-1] for delivery in said]
    assert {record.inst: record.ts for record in lasts if record.type == "ticker"} == dict.fromkeys(INSTS, 19)
    assert one.dropped + sum(record.type == "ticker" for record in records(said)) == 19 * 3
    assert one.dropped >= 16 * 3 - 3
    opened = [record for record in records(said) if isinstance(record, Gap) and record.state == "open"]
    assert len(opened) == 3


def test_latest_is_for_states():
    with pytest.raises(ConfigError, match="trades"):
        lane(1, when_full="latest", channels=("trades",))
    with pytest.raises(ConfigError, match="none of them"):
        fanout(Kept(), when_full="latest").check("okx", lived().feed.sub)
    fanout(Kept(), when_full="latest", channels=("ticker",)).check("okx", lived().feed.sub)


def test_the_users_own_records_are_not_pushed_out_and_come_first():
    one, trading, own = lane(4), lived(), lived("orders:instType=ANY")
    one.put([Delivery(None, [Status("okx", None, None, None, None, RECV, "started", None)])])
    one.put(weighed(trading.push(trades(1), RECV)))
    one.put(weighed(own.push(order(), RECV)))
    one.put(weighed(own.push(order("filled"), RECV)))
    for number in range(2, 20):
        one.put(weighed(trading.push(trades(number), RECV)))
    said = records(one.take())
    assert [record.state for record in said if record.type == "order"] == ["live", "filled"]
    kinds = [record.type for record in said if record.type in ("order", "trade")]
    assert kinds[:2] == ["order", "order"]
    assert one.dropped == 19 - kinds.count("trade")


def test_a_lane_that_blocks_hands_out_what_came_in_the_order_it_came_in():
    one, trading, own = lane(4, when_full="block"), lived(), lived("orders:instType=ANY")
    one.put(weighed(trading.push(trades(1), RECV)))
    one.put(weighed(own.push(order(), RECV)))
    one.put(weighed(trading.push(trades(2), RECV)))
    said = [record.type for record in records(one.take()) if record.type in ("order", "trade")]
    assert said == ["trade", "order", "trade"]


def test_a_lane_that_blocks_makes_its_producer_wait_and_loses_nothing():
    async def scenario() -> tuple[list[str], int]:
        sink, trading = Kept(), lived()
        both = fanout((sink, LaneOptions(when_full="block", bytes=5000, statements=False, batch_records=2)))
        (pump,) = both.pumps
        await pump.start()
        running, waits = asyncio.create_task(pump.run()), 0
        for number in range(1, 500):
            both.put(trading.push(trades(number), RECV, weight=300))
            assert pump.lane.weight < 10_000
            waits += pump.lane.full
            await both.room()
        pump.finish()
        await running
        await pump.close()
        assert pump.lost == 0
        return [entry.fields["id"] for entry in sink.entries], waits

    told, waits = testing.run(scenario)
    assert told == [str(number) for number in range(1, 500)]
    assert waits > 10


# -- several lanes


def test_json_is_made_once_for_all_lanes_that_want_it():
    async def scenario() -> tuple[Any, ...]:
        sinks, trading = [Kept() for _ in range(3)], lived()
        several = fanout(*sinks)
        for pump in several.pumps:
            await pump.start()
        several.put(trading.push(trades(1, 2), RECV))
        tasks = [asyncio.create_task(pump.run()) for pump in several.pumps]
        for pump in several.pumps:
            pump.finish()
        await asyncio.gather(*tasks)
        return tuple([entry for entry in sink.entries if entry.type == "trade"] for sink in sinks)

    first, second, third = testing.run(scenario)
    assert len(first) == 2
    assert all(a is b and b is c for a, b, c in zip(first, second, third, strict=True))


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest"])
def test_beside_a_sink_that_never_returns_the_healthy_one_loses_nothing_and_memory_is_bounded(policy: str):
    """Ten seconds at 5,000 records a second; nothing here is ever awaited by who puts them in."""

    async def scenario() -> None:
        stuck, healthy = Kept(stuck=True), Kept()
        bound = 256 * 1024
        both = fanout((stuck, LaneOptions(bytes=bound, when_full=policy)), healthy)
        sick, well = both.pumps
        for pump in both.pumps:
            await pump.start()
        tasks = [asyncio.create_task(pump.run()) for pump in both.pumps]
        sources, number = [lived(f"ticker:{inst}") for inst in INSTS], 0
        for _ in range(1000):
            for _ in range(50):
                number += 1
                inst = number % 3
                both.put(sources[inst].push(ticker(number, inst=INSTS[inst]), RECV, weight=500))
                assert sick.lane.weight + sick.lane.held <= bound
                assert well.lane.weight + well.lane.held <= 200 * 1024
            await asyncio.sleep(0.01)
            assert (len(well.lane), well.lane.weight, well.state.waiting) == (0, 0, 0)
        assert (well.written, well.lost, sick.written) == (50_000, 0, 0)
        assert sick.lane.dropped + sick.state.waiting == 50_000
        tasks[0].cancel()
        await asyncio.gather(*tasks[:1], return_exceptions=True)
        well.finish()
        await tasks[1]
        assert Counter(entry.type for entry in healthy.entries) == {"ticker": 50_000, "status": 3}

    testing.run(scenario)


def test_levels_are_kept_only_where_a_lane_may_drop():
    assert fanout().keeps, "who iterates may be slow"
    assert fanout(Kept()).keeps
    assert not fanout((Kept(), LaneOptions(when_full="block"))).keeps
    assert not fanout((Kept(), LaneOptions(form="raw"))).keeps


def test_levels_that_are_wanted_later_begin_with_the_next_snapshot():
    kept = feed("book:BTC-USDT")
    booked = kept.source()
    booked.ask()
    booked.push(book("snapshot", -1, 1), RECV)
    kept.keep()
    booked.push(book("update", 1, 2), RECV)
    assert kept.snapshot(RECV) is None
    booked.lose("sequence", RECV, "void")
    booked.ask()
    booked.push(book("snapshot", -1, 5), RECV)
    booked.push(book("update", 5, 6, price="7"), RECV)
    snapshot = kept.snapshot(RECV)
    assert snapshot is not None
    assert (snapshot.seq, [row[0] for row in snapshot.asks]) == (6, ["5", "7"])


# -- sinks that come and go


def test_sinks_are_added_and_removed_while_it_runs():
    async def scenario() -> None:
        first, second, trading = Kept(), Kept(), lived()
        head = Delivery(None, [Status("okx", None, None, None, None, RECV, "started", None)])
        lanes = Lanes(fanout(first), lambda: head, lambda error: None)
        await lanes.open()
        lanes.fanout.put(trading.push(trades(1), RECV))
        assert await lanes.add(second, None, []) == "kept-2"
        lanes.fanout.put(trading.push(trades(2), RECV))
        with pytest.raises(ConfigError, match="kept-3"):
            await lanes.remove("kept-3", 5)
        with pytest.raises(ConfigError, match="raw"):
            await lanes.add(Kept(), LaneOptions(form="raw"), [])
        with pytest.raises(ConfigError, match="replays"):
            await lanes.add(Kept(), LaneOptions(when_full="block"), [])
        with pytest.raises(ConfigError, match="two sinks"):
            await lanes.add(Kept(), LaneOptions(name="kept"), [])
        state = await lanes.remove("kept", 5)
        assert (state.written, state.lost) == (2, 0)
        lanes.fanout.put(trading.push(trades(3), RECV))
        assert await lanes.close(5) == 0
        told = [[entry.fields.get("id") or entry.fields["state"] for entry in sink.entries] for sink in (first, second)]
        assert told == [["live", "1", "2"], ["started", "2", "3"]]

    testing.run(scenario)


def test_the_stream_is_forsaken_when_the_last_sink_has_failed():
    class Failing(Kept):
        def __init__(self, after: float) -> None:
            super().__init__()
            self.after = after

        async def write(self, batch: Sequence[Entry]) -> None:
            await asyncio.sleep(self.after)
            raise SinkError(f"after {self.after:g} s")

    async def scenario() -> list[str]:
        said: list[str] = []
        lanes = Lanes(fanout(Failing(1), Failing(2)), lambda: Delivery(None), lambda error: said.append(str(error)))
        await lanes.open()
        lanes.fanout.put(lived().push(trades(1), RECV))
        await asyncio.sleep(1.5)
        assert said == []
        assert len(lanes.fanout.lanes) == 1
        await asyncio.sleep(1)
        assert await lanes.close(1) == 2
        return said

    assert testing.run(scenario) == ["after 2 s"]


def test_what_is_left_when_time_is_up_is_lost_and_known_for_each():
    async def scenario() -> list[tuple[str, int, int]]:
        stuck, healthy, trading = Kept(stuck=True), Kept(), lived()
        lanes = Lanes(fanout(stuck, healthy), lambda: Delivery(None), lambda error: None)
        await lanes.open()
        for number in range(1, 11):
            lanes.fanout.put(trading.push(trades(number), RECV))
        assert await lanes.close(3) == 10
        return [(state.name, state.written, state.lost) for state in lanes.fanout.states]

    assert testing.run(scenario) == [("kept", 0, 10), ("kept-2", 10, 0)]


@pytest.mark.parametrize("where", ["write", "close"])
def test_a_sink_that_goes_on_though_it_was_cancelled_is_left_and_the_others_are_closed(where: str, caplog: Any):
    class Deaf(Kept):
        def __init__(self, where: str) -> None:
            super().__init__()
            self.where, self.calls, self.over = where, list[str](), asyncio.Event()

        async def write(self, batch: Sequence[Entry]) -> None:
            await self.called("write")

        async def close(self) -> None:
            await self.called("close")

        async def called(self, what: str) -> None:
            self.calls.append(what)
            while self.where == what and not self.over.is_set():
                with suppress(asyncio.CancelledError):
                    await self.over.wait()

    async def scenario() -> None:
        deaf, other = Deaf(where), Deaf("nowhere")
        lanes = Lanes(fanout((deaf, LaneOptions(name="deaf")), other), lambda: Delivery(None), lambda error: None)
        await lanes.open()
        lanes.fanout.put(lived().push(trades(1), RECV))
        assert await lanes.close(3) == (where == "write")
        assert (deaf.calls, other.calls) == (["write"] if where == "write" else ["write", "close"], ["write", "close"])
        closed = asyncio.get_running_loop().time()
        await lanes.close(3)
        assert asyncio.get_running_loop().time() == closed
        deaf.over.set()
        await asyncio.sleep(1)

    testing.run(scenario)
    assert [message for message in caplog.messages if message.startswith("deaf")] != []


def test_a_sink_that_quits_in_its_close_is_said_and_the_others_are_closed(caplog: Any):
    class Quitting(Kept):
        async def close(self) -> None:
            raise SystemExit(9)

    async def scenario() -> None:
        lanes = Lanes(fanout(Quitting(), Kept()), lambda: Delivery(None), lambda error: None)
        await lanes.open()
        lanes.fanout.put(lived().push(trades(1), RECV))
        assert await lanes.close(3) == 0

    testing.run(scenario)
    assert "quitting was not closed properly: it wants the process to end" in caplog.messages


def test_each_line_is_what_it_is_about():
    async def scenario() -> list[Entry]:
        sink = Kept()
        one = fanout(sink)
        await one.pumps[0].start()
        one.put(lived().push(trades(1), RECV))
        one.pumps[0].finish()
        await one.pumps[0].run()
        return sink.entries

    for entry in testing.run(scenario):
        line = orjson.loads(entry.line)
        assert (entry.type, entry.venue, entry.channel, entry.inst, entry.ts, entry.recv) == tuple(
            line[name] for name in ("type", "venue", "channel", "inst", "ts", "recv")
        )


def test_a_sink_that_opens_while_all_are_closed_is_closed_and_never_written_to():
    class Late(Kept):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []

        async def open(self) -> None:
            await asyncio.sleep(5)
            self.calls.append("open")

        async def write(self, batch: Sequence[Entry]) -> None:
            self.calls.append("write")

        async def close(self) -> None:
            self.calls.append("close")

    async def scenario() -> None:
        lanes = Lanes(fanout(Kept()), lambda: Delivery(None, ()), lambda error: None)
        await lanes.open()
        adding = asyncio.create_task(lanes.add(late := Late(), LaneOptions(name="late"), ()))
        await asyncio.sleep(1)
        with pytest.raises(ConfigError, match="still being opened"):
            await lanes.remove("late", 1.0)
        await lanes.close(1.0)
        with pytest.raises(SinkError, match="closed while"):
            await adding
        assert late.calls == ["open", "close"]

    testing.run(scenario)
