"""A lane by way of the disk: order, what a restart finds there, and what has no room there."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from core.exchange import RECV, book, ticker, trades
from test_pump import Scripted, lived, pump, put

from okstream.entries import Entry, unpack
from okstream.errors import RejectedError, RetryError, SinkError, SpoolFullError
from okstream.fanout.declaring import REMEMBERED, remember
from okstream.fanout.pump import Pump
from okstream.feed.continuity import Delivery
from okstream.feed.source import Source
from okstream.sinks import Proven
from okstream.spool import Spool

PATIENCE = 20.0


class Gate(Scripted):
    """Writes only while it is open."""

    def __init__(self, *script: Any) -> None:
        super().__init__(*script)
        self.gate = asyncio.Event()

    async def write(self, batch: Sequence[Entry]) -> None:
        await self.gate.wait()
        await super().write(batch)


class Turnstile(Scripted):
    """Writes as often as it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = asyncio.Semaphore(0)

    async def write(self, batch: Sequence[Entry]) -> None:
        await self.turns.acquire()
        await super().write(batch)


def numbers(sink: Scripted) -> list[int]:
    return [int(line["id"]) for line in sink.lines if line["type"] == "trade"]


async def until(true: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def fed(one: Pump, trading: Source, first: int, last: int) -> None:
    """Put trades in, some at a time, as a disk can take them."""
    for number in range(first, last + 1):
        one.lane.put(trading.push(trades(number), RECV, weight=400))
        if number % 20 == 0:
            await asyncio.sleep(0)
            await until(lambda: one.lane.weight + one.lane.held < one.options.bytes * 3 // 4)


async def overflown(sink: Gate, trading: Source, spool: Path) -> tuple[Pump, "asyncio.Task[None]"]:
    """Put trades 1 to 1500 before a sink that is shut, into a spool without room for all; then open it."""
    one = pump(sink, when_full="spill", bytes=64 * 1024, spool=spool, spool_bytes=64 * 1024)
    await one.start()
    running = asyncio.create_task(one.run())
    await fed(one, trading, 1, 1500)
    await until(lambda: one.lost > 0 and not len(one.lane))
    sink.gate.set()
    await until(lambda: one.state.spooled == 0)
    return one, running


async def over(one: Pump, running: "asyncio.Task[None]", within: float = PATIENCE) -> None:
    one.finish()
    await asyncio.wait([running], timeout=within)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await one.close()


@pytest.mark.parametrize("always", [True, False])
def test_what_does_not_fit_goes_through_the_disk_in_order_and_nothing_is_lost(tmp_path: Path, always: bool):
    async def scenario() -> None:
        sink = Gate()
        bound = 64 * 1024
        one = pump(sink, when_full="spill", bytes=bound, spool=tmp_path / "spool", spool_always=always)
        trading = lived()
        await one.start()
        running = asyncio.create_task(one.run())
        await fed(one, trading, 1, 1000)
        assert one.lane.weight + one.lane.held <= bound
        await until(lambda: one.state.spooled > 500)
        assert one.lane.dropped == 0
        sink.gate.set()
        await fed(one, trading, 1001, 1500)
        await until(lambda: one.written == 1500)
        await until(lambda: one.state.spooled == 0)
        await fed(one, trading, 1501, 1600)
        await over(one, running)
        assert numbers(sink) == list(range(1, 1601))
        assert (one.written, one.lost, one.state.dropped) == (1600, 0, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("start", ["fail", "retry"])
def test_what_the_sink_did_not_take_before_the_end_is_on_the_disk_and_comes_first_afterwards(
    tmp_path: Path, start: Any
):
    async def scenario() -> None:
        trading = lived()
        stuck = Gate()
        one = pump(stuck, when_full="spill", spool=tmp_path / "spool")
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, trading, 1, 2, 3)
        await asyncio.sleep(0)
        put(one, trading, 4, 5)
        await over(one, running, within=0.05)
        assert (numbers(stuck), one.lost) == ([], 0)

        sink = Scripted()
        one = pump(sink, when_full="spill", spool=tmp_path / "spool", on_start=start)
        await one.start()
        assert one.state.spooled == 5
        put(one, trading, 9)
        running = asyncio.create_task(one.run())
        await until(lambda: one.written == 6)
        await over(one, running)
        assert sink.data == ["1", "2", "3", "4", "5", "open start 5..None", "closed start 5..9", "9"]
        assert one.lost == 0

    asyncio.run(scenario())


def test_what_was_in_memory_before_what_is_on_the_disk_is_declared_where_the_sink_proves_what_it_has(tmp_path: Path):
    class Proving(Scripted):
        def proven(self) -> list[Proven]:
            return [Proven("okx", "trades", "BTC-USDT", None, "90", 900)]

    async def scenario() -> None:
        trading = lived()
        one = pump(Gate(), when_full="spill", spool=tmp_path / "spool")
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, trading, 100, 101)
        await over(one, running, within=0.05)

        sink = Proving()
        one = pump(sink, when_full="spill", spool=tmp_path / "spool")
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, trading, 200)
        await until(lambda: one.written == 3)
        await over(one, running)
        assert sink.data == [
            "open start 90..None", "closed start 90..100", "100", "101", "open start 101..None",
            "closed start 101..200", "200",
        ]  # fmt: skip

    asyncio.run(scenario())


def test_a_spool_that_cannot_be_opened_is_refused_with_the_name_of_its_sink(tmp_path: Path):
    (tmp_path / "spool").touch()

    async def scenario() -> None:
        one = pump(Scripted(), when_full="spill", spool=tmp_path / "spool")
        with pytest.raises(SinkError, match=f"^{one.name}: its spool {tmp_path}/spool: File exists$"):
            await one.start()

    asyncio.run(scenario())


@pytest.mark.parametrize("always", [True, False])
def test_a_spool_that_another_has_is_tried_again_if_so_told_and_what_waited_comes(tmp_path: Path, always: bool, caplog):
    async def scenario() -> None:
        other, sink = Spool(tmp_path / "spool", limit=1 << 20), Scripted()
        await other.open()
        one = pump(
            sink, when_full="spill", spool=tmp_path / "spool", spool_always=always, on_start="retry", retry_most=0.01
        )
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, lived(), 1, 2, 3)
        await until(lambda: one.state.retries >= 2)
        assert (one.state.state, sink.calls.count("open")) == ("starting", 0)
        assert "in use by process" in (one.state.detail or "")
        await other.close()
        await until(lambda: one.written == 3)
        await over(one, running)
        assert (numbers(sink), one.lost, one.state.spooled) == ([1, 2, 3], 0, 0)

    asyncio.run(scenario())
    assert sum("cannot be opened yet" in record.message for record in caplog.records) == 1


def test_what_waited_for_a_spool_that_was_never_free_is_lost_and_counted(tmp_path: Path):
    async def scenario() -> None:
        other, sink = Spool(tmp_path / "spool", limit=1 << 20), Scripted()
        await other.open()
        one = pump(sink, spool=tmp_path / "spool", on_start="retry", **SPILLING)
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, lived(), 1, 2, 3)
        await until(lambda: one.state.retries > 0)
        await over(one, running, within=0.05)
        await other.close()
        assert (sink.data, one.lost) == ([], 3)

    asyncio.run(scenario())


def test_a_sink_whose_spool_cannot_be_opened_is_left_out_if_so_told(tmp_path: Path, caplog):
    (tmp_path / "spool").touch()

    async def scenario() -> None:
        sink = Scripted()
        one = pump(sink, when_full="spill", spool=tmp_path / "spool", on_start="ignore")
        await one.start()
        await one.run()
        await one.close()
        assert (one.state.state, one.state.excused, "open" in sink.calls) == ("failed", True, False)

    asyncio.run(scenario())
    assert f"is left out: its spool {tmp_path}/spool: File exists" in caplog.text


SPILLING = {"when_full": "spill", "bytes": 64 * 1024}


async def spilt(one: Pump, trading: Source, last: int) -> "asyncio.Task[None]":
    """Put trades in until the disk has some, and wait until it has all."""
    await one.start()
    running = asyncio.create_task(one.run())
    await fed(one, trading, 1, last)
    await until(lambda: one.state.spooled > last // 2 and not len(one.lane))
    return running


async def afterwards(folder: Path, *new: int) -> Scripted:
    """Return what a sink has once a spool was opened again, and something more has come."""
    sink = Scripted()
    one = pump(sink, spool=folder, **SPILLING)
    await one.start()
    put(one, lived(), *new)
    running = asyncio.create_task(one.run())
    await until(lambda: one.state.spooled == 0 and not len(one.lane))
    await over(one, running)
    return sink


@pytest.mark.parametrize("end", ["it never returns", "it fails for good", "it is asked for more time"])
def test_what_the_sink_was_at_when_the_disk_came_in_comes_before_what_the_disk_has(tmp_path: Path, end: str):
    async def scenario() -> None:
        errors = {"it fails for good": SinkError("broken"), "it is asked for more time": RetryError("busy")}
        stuck = Gate(*[errors[end]] * 1000 if end in errors else ())
        one = pump(stuck, spool=tmp_path / "spool", retry_first=0.001, retry_most=0.001, **SPILLING)
        running = await spilt(one, lived(), 600)
        if end in errors:
            stuck.gate.set()
        await over(one, running, within=0.05)
        assert (numbers(stuck), one.lost) == ([], 0)
        sink = await afterwards(tmp_path / "spool", 601)
        assert numbers(sink) == list(range(1, 602))

    asyncio.run(scenario())


def test_what_was_written_while_the_disk_came_in_does_not_come_again(tmp_path: Path):
    class Once(Gate):
        async def write(self, batch: Sequence[Entry]) -> None:
            await super().write(batch)
            self.gate.clear()

    async def scenario() -> None:
        sink = Once()
        one = pump(sink, spool=tmp_path / "spool", **SPILLING)
        running = await spilt(one, lived(), 600)
        await until(lambda: one.state.spooled == 600)
        sink.gate.set()
        await until(lambda: one.state.spooled < 600)
        await over(one, running, within=0.05)
        first = numbers(sink)
        assert 0 < len(first) < 600
        rest = numbers(await afterwards(tmp_path / "spool", 601))
        assert first + rest == list(range(1, 602))

    asyncio.run(scenario())


@pytest.mark.parametrize("room", [8 * 1024, 12 * 1024, 16 * 1024])
def test_what_is_neither_written_nor_has_room_on_the_disk_at_the_end_is_counted(tmp_path: Path, room: int):
    async def scenario() -> None:
        one = pump(Gate(), spool=tmp_path / "spool", spool_bytes=room, **SPILLING)
        await one.start()
        running = asyncio.create_task(one.run())
        await fed(one, lived(), 1, 1000)
        await until(lambda: one.lost > 0 and not len(one.lane))
        await over(one, running, within=0.05)
        sink = Scripted()
        again = pump(sink, spool=tmp_path / "spool", **SPILLING)
        await again.start()
        running = asyncio.create_task(again.run())
        await until(lambda: again.state.spooled == 0)
        await over(again, running)
        assert len(numbers(sink)) + one.lost == 1000

    asyncio.run(scenario())


def test_what_is_rejected_is_said_before_the_disk_forgets_it(tmp_path: Path):
    async def scenario() -> None:
        class Down(Scripted):
            async def write(self, batch: Sequence[Entry]) -> None:
                if any(b'"id":"11"' in entry.line for entry in batch):
                    raise RetryError("down")
                await super().write(batch)

        down, trading = Down(RejectedError("bad", {9: "too large"})), lived()
        one = pump(down, spool=tmp_path / "spool", spool_always=True, batch_records=10)
        await one.start()
        running = asyncio.create_task(one.run())
        await fed(one, trading, 1, 10)
        await until(lambda: one.state.spooled == 0)
        await fed(one, trading, 11, 20)
        await until(lambda: one.state.state == "recovering")
        await over(one, running, within=0.05)
        assert down.data == [*map(str, range(1, 10)), "open sink 9..None"]
        sink = await afterwards(tmp_path / "spool")
        assert numbers(sink) == list(range(11, 21))

    asyncio.run(scenario())


def test_what_the_disk_spoilt_is_said_of_all_that_it_may_have_been_before_the_disk_forgets_it(tmp_path: Path):
    async def scenario() -> None:
        before, others = pump(Gate(), spool=tmp_path / "spool", spool_always=True), lived("trades:ETH-USDT")
        await before.start()
        running = asyncio.create_task(before.run())
        before.lane.put(others.push(trades(1, 2, inst="ETH-USDT"), RECV, weight=100))
        put(before, lived(), 1)
        await until(lambda: before.state.spooled == 3)
        await over(before, running, within=0.05)
        (segment,) = (tmp_path / "spool").glob("*.spool")
        data = segment.read_bytes()
        at = data.index(b'"id":"2"')
        segment.write_bytes(data[:at] + b"#" + data[at + 1 :])
        sink = await afterwards(tmp_path / "spool", 2)
        said = {(line["inst"], line["state"]) for line in sink.lines if line.get("reason") == "sink"}
        assert said == {("BTC-USDT", "open"), ("BTC-USDT", "closed"), ("ETH-USDT", "open")}

    asyncio.run(scenario())


def test_what_follows_a_rejected_record_closes_the_gap_that_was_opened_at_once(tmp_path: Path):
    async def scenario() -> None:
        sink = Scripted(RejectedError("bad", {0: "too large", 2: "too large"}))
        one = pump(sink, spool=tmp_path / "spool", spool_always=True, batch_records=3)
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, lived(), 1, 2, 3, 4, 5)
        await over(one, running)
        assert sink.data == ["2", "open sink None..None", "closed sink None..4", "4", "5"]

    asyncio.run(scenario())


def test_after_a_kill_changes_of_a_book_that_lost_one_are_left_out_up_to_its_next_snapshot(tmp_path: Path):
    """The disk as it is while the gap is said is what a process finds that comes after a kill."""

    class Copying(Gate):
        async def write(self, batch: Sequence[Entry]) -> None:
            if batch[0].type == "gap" and not (tmp_path / "left").exists():
                shutil.copytree(tmp_path / "spool", tmp_path / "left")
            self.script = [RejectedError("bad", {0: "too large"})] if batch[0].fields.get("seq") == 2 else []
            await super().write(batch)

    async def scenario() -> None:
        options: Any = {"spool_always": True, "batch_records": 1}
        sink, source = Copying(), lived("book:BTC-USDT")
        one = pump(sink, spool=tmp_path / "spool", **options)
        await one.start()
        running = asyncio.create_task(one.run())
        pushes = [book("snapshot", -1, 1), book("update", 1, 2), book("update", 2, 3), book("snapshot", -1, 4)]
        for message in pushes:
            one.lane.put(source.push(message, RECV))
        await until(lambda: one.state.spooled >= 4)
        sink.gate.set()
        await over(one, running)
        assert sink.data == ["1", "open sink 1..None", "closed sink 1..4", "4"]

        sink = Scripted()
        one = pump(sink, spool=tmp_path / "left", **options)
        await one.start()
        running = asyncio.create_task(one.run())
        await until(lambda: one.state.spooled == 0)
        await over(one, running)
        assert sink.data == ["open sink 1..None", "closed sink 1..4", "4"]

    asyncio.run(scenario())


class Proving(Scripted):
    """Proves that it has trades up to one."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def proven(self) -> list[Proven]:
        return [Proven("okx", "trades", "BTC-USDT", None, str(self.after), 1000 + self.after)]


@pytest.mark.parametrize("always", [True, False])
@pytest.mark.parametrize("start", ["fail", "retry"])
def test_what_a_sink_has_lost_is_missing_though_the_disk_remembers_it_as_written(
    tmp_path: Path, always: bool, start: str
):
    async def scenario() -> None:
        options: Any = {"when_full": "spill", "spool": tmp_path / "spool", "spool_always": always, "on_start": start}
        before = pump(Scripted(), **options)
        await before.start()
        running = asyncio.create_task(before.run())
        put(before, lived(), *range(1, 11))
        await until(lambda: before.written == 10)
        await over(before, running)

        sink = Proving(5)
        one = pump(sink, **options)
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, lived(), 11, 12)
        await until(lambda: one.written == 2)
        await over(one, running)
        assert sink.data == ["open start 5..None", "closed start 5..11", "11", "12"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("has", "told"), [(20, []), (23, []), (27, []), (15, ["open start 15..None", "closed start 15..21"])]
)
def test_what_a_sink_proves_is_compared_with_what_the_disk_has_for_it(tmp_path: Path, has: int, told: list[str]):
    async def scenario() -> None:
        options: Any = {"spool": tmp_path / "spool", "spool_always": True}
        before, trading = pump(Gate(), **options), lived()
        trading.push(trades(*range(1, 21)), RECV)
        await before.start()
        running = asyncio.create_task(before.run())
        put(before, trading, *range(21, 26))
        await until(lambda: before.state.spooled == 5)
        await over(before, running, within=0.05)

        sink = Proving(has)
        one = pump(sink, **options)
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, lived(), 31)
        await until(lambda: one.written == 6)
        await over(one, running)
        kept = [str(number) for number in range(21, 26)]
        last = max(has, 25)
        assert sink.data == [*told, *kept, f"open start {last}..None", f"closed start {last}..31", "31"]

    asyncio.run(scenario())


class Remembering(Gate):
    """Proves the last that it was told it has, or something that was before it."""

    def __init__(self, last: Entry | None = None, identity: str | None = None, seq: int | None = None) -> None:
        super().__init__()
        self.last, self.identity, self.seq = last, identity, seq
        self.gate.set()

    async def write(self, batch: Sequence[Entry]) -> None:
        await super().write(batch)
        self.last = next((entry for entry in reversed(batch) if entry.type != "status"), self.last)

    def proven(self) -> list[Proven]:
        last = self.last
        if last is None:
            return []
        seq = last.fields.get("seq") if self.seq is None else self.seq
        ts = last.ts if self.seq is None else 0
        return [Proven(last.venue, last.channel or "", last.inst, None, seq, ts, self.identity or last.identity)]


@pytest.mark.parametrize(
    ("text", "pushes", "identity", "told"),
    [
        ("ticker:BTC-USDT", [ticker(number) for number in (10, 20, 30)], None, ["20", "30"]),
        ("ticker:BTC-USDT", [ticker(number) for number in (10, 20, 30)], "lost",
         ["open start None..None", "closed start None..None", "20", "30"]),
        ("book:BTC-USDT", [book("snapshot", -1, 1), book("update", 1, 2), book("snapshot", -1, 4)], None, ["2", "4"]),
    ],
)  # fmt: skip
def test_what_waits_on_the_disk_goes_on_from_what_the_sink_acknowledged_last(
    tmp_path: Path, text: str, pushes: list[Any], identity: str | None, told: list[str]
):
    sink = asyncio.run(_stopped_after_one(tmp_path, text, pushes, identity))
    assert sink.data == told


def test_a_gap_of_which_a_sink_has_one_line_and_the_disk_the_other_is_closed(tmp_path: Path):
    async def scenario() -> None:
        options: Any = {"spool": tmp_path / "spool", "spool_always": True}
        before, trading = pump(Gate(), **options), lived()
        feed = trading.feed
        await before.start()
        running = asyncio.create_task(before.run())
        trading.push(trades(1), RECV)
        first = feed.last
        trading.push(trades(5), RECV)
        _, end = feed.overflow(first, feed.last, RECV)
        before.lane.put([Delivery(feed, [replace(end, gap="before-l1")], [feed.last], weight=100)])
        await until(lambda: before.state.spooled == 2)
        await over(before, running, within=0.05)
        sink = Proving(1)
        one = pump(sink, **options)
        await one.start()
        running = asyncio.create_task(one.run())
        await until(lambda: one.state.spooled == 0)
        await over(one, running)
        assert sink.data == ["closed overflow 1..5", "open start 1..None", "closed start 1..5", "5"]

    asyncio.run(scenario())


def test_changes_of_a_book_of_which_a_sink_has_lost_something_are_of_no_use_before_its_next_snapshot(tmp_path: Path):
    pushes = [book("snapshot", -1, 1), book("update", 1, 2), book("update", 2, 3), book("snapshot", -1, 4)]
    sink = asyncio.run(_stopped_after_one(tmp_path, "book:BTC-USDT", pushes, "lost", seq=0))
    assert sink.data == ["open start 0..None", "closed start 0..4", "4"]


async def _stopped_after_one(
    folder: Path, text: str, pushes: list[Any], identity: str | None, seq: int | None = None
) -> Remembering:
    """Return a sink whose run before this one had acknowledged the first of `pushes` when it was stopped."""
    options: Any = {"spool": folder / "spool", "spool_always": True}
    before, first = lived(text), Remembering()
    one = pump(first, **options)
    await one.start()
    running = asyncio.create_task(one.run())
    one.lane.put(before.push(pushes[0], RECV))
    await until(lambda: one.written == 1 and one.state.spooled == 0)
    first.gate.clear()
    for message in pushes[1:]:
        one.lane.put(before.push(message, RECV))
    await until(lambda: one.state.spooled >= len(pushes) - 1)
    await over(one, running, within=0.05)
    assert first.last is not None
    sink = Remembering(first.last, identity, seq)
    one = pump(sink, **options)
    await one.start()
    running = asyncio.create_task(one.run())
    await until(lambda: one.state.spooled == 0)
    await over(one, running)
    return sink


def test_a_batch_that_is_tried_again_is_acknowledged_once(tmp_path: Path):
    async def scenario() -> None:
        sink = Scripted(RetryError("busy"), RetryError("part", [1, 2]))
        one = pump(sink, spool=tmp_path / "spool", spool_always=True, retry_first=0.001)
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, lived(), 1, 2, 3)
        await until(lambda: one.written == 3)
        await over(one, running)
        assert sink.data == ["1", "2", "3"]
        assert (one.written, one.lost, one.state.spooled) == (3, 0, 0)

    asyncio.run(scenario())


def test_what_a_full_spool_has_no_room_for_is_declared(tmp_path: Path, caplog):
    async def scenario() -> None:
        sink, trading = Gate(), lived()
        one, running = await overflown(sink, trading, tmp_path / "spool")
        await fed(one, trading, 1501, 1501)
        await over(one, running)
        lost = one.lost
        handed = numbers(sink)
        assert handed == sorted(set(handed))
        assert len(handed) + lost == 1501
        gaps = [line for line in sink.lines if line["type"] == "gap" and line["state"] == "closed"]
        holes = [(int(gap["after"]), int(gap["until"])) for gap in gaps]
        missing = set(range(1, 1502)) - set(handed)
        assert [number for number in missing if not any(low < number < high for low, high in holes)] == []
        assert {gap["reason"] for gap in gaps} == {"overflow"}

    asyncio.run(scenario())
    assert any("its spool is full" in record.message for record in caplog.records)


def test_what_has_no_room_at_once_after_a_restart_is_missing_behind_what_the_disk_has(tmp_path: Path):
    async def scenario() -> None:
        options: Any = {"spool": tmp_path / "spool", "spool_always": True, "spool_bytes": 4096}
        before = pump(Gate(), **options)
        await before.start()
        running = asyncio.create_task(before.run())
        put(before, lived(), *range(1, 41))
        await until(lambda: before.lost > 0)
        await over(before, running, within=0.05)

        sink = Gate()
        one = pump(sink, **options)
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, lived(), 50)
        await until(lambda: one.lost > 0)
        sink.gate.set()
        await until(lambda: one.state.spooled == 0)
        put(one, lived(), 60)
        await over(one, running)
        last = numbers(sink)[-2]
        assert 1 < last < 40
        assert sink.data[-3:] == [f"open overflow {last}..None", f"closed overflow {last}..60", "60"]

    asyncio.run(scenario())


def test_what_has_no_room_is_missing_behind_what_was_on_its_way_to_the_sink(tmp_path: Path):
    async def scenario() -> None:
        sink = Gate()
        one = pump(sink, when_full="spill", records=100, spool=tmp_path / "spool", spool_bytes=8192)
        trading = lived()
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, trading, *range(1, 41))
        await until(lambda: one.state.waiting and not len(one.lane))
        put(one, trading, *range(41, 81))
        await until(lambda: one.lost > 0 and not len(one.lane))
        sink.gate.set()
        await until(lambda: one.state.spooled == 0)
        put(one, trading, 101)
        await over(one, running)
        handed = numbers(sink)
        assert handed == [*range(1, handed[-2] + 1), 101]
        assert handed[-2] >= 40
        assert f"closed overflow {handed[-2]}..101" in sink.told

    asyncio.run(scenario())


def test_what_was_on_its_way_when_the_disk_came_in_is_not_the_last_there_was(tmp_path: Path):
    async def scenario() -> None:
        sink, bound = Turnstile(), 64 * 1024
        one = pump(sink, when_full="spill", bytes=bound, spool=tmp_path / "spool", spool_bytes=bound)
        trading = lived()
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, trading, *range(1, 6))
        await until(lambda: one.state.waiting == 5 and not len(one.lane))
        await fed(one, trading, 6, 1000)
        await until(lambda: one.lost > 0 and not len(one.lane))
        sink.turns.release()
        await until(lambda: one.written == 5)
        lost = one.lost
        put(one, trading, *range(1001, 1021))
        await until(lambda: one.lost == lost + 20)
        for _ in range(1000):
            sink.turns.release()
        await until(lambda: one.state.spooled == 0)
        put(one, trading, 1100)
        await over(one, running)
        closed = [line for line in sink.lines if line["type"] == "gap" and line["state"] == "closed"]
        holes = [(int(gap["after"]), int(gap["until"])) for gap in closed]
        assert holes
        assert not [number for number in numbers(sink) if any(low < number < high for low, high in holes)]

    asyncio.run(scenario())


def test_a_sink_that_keeps_up_and_waits_for_a_batch_loses_nothing(tmp_path: Path, caplog):
    async def scenario() -> None:
        sink = Scripted()
        one = pump(sink, spool=tmp_path / "spool", linger=1.0, batch_records=100_000, **SPILLING)
        trading = lived()
        await one.start()
        running = asyncio.create_task(one.run())
        for number in range(1, 2001):
            one.lane.put(trading.push(trades(number), RECV, weight=400))
            if number % 20 == 0:
                await asyncio.sleep(0.001)
        await over(one, running)
        assert (numbers(sink), one.lost) == (list(range(1, 2001)), 0)

    asyncio.run(scenario())
    assert sum("is too slow" in record.message for record in caplog.records) <= 1


def test_of_very_many_subscriptions_those_that_were_heard_of_last_are_remembered():
    def entry(number: int) -> Entry:
        return unpack(b'["%d","trade","okx","trades","I-%d",null,1,2]\n{}' % (number, number))

    last: dict[Any, Entry] = {}
    for number in range(3 * REMEMBERED):
        remember(last, [entry(0), entry(number)])
        assert len(last) <= REMEMBERED
    assert {entry.inst for entry in last.values()} >= {"I-0", f"I-{3 * REMEMBERED - 1}"}


def test_a_full_spool_can_be_the_end(tmp_path: Path):
    async def scenario() -> None:
        sink = Gate()
        one = pump(
            sink, when_full="spill", bytes=64 * 1024, spool=tmp_path / "spool", spool_bytes=64 * 1024,
            spool_full="stop", batch_records=10,
        )  # fmt: skip
        await one.start()
        running = asyncio.create_task(one.run())
        feeding = asyncio.create_task(fed(one, lived(), 1, 1500))
        await asyncio.wait_for(running, PATIENCE)  # though its write has never returned
        feeding.cancel()
        assert isinstance(one.failure, SpoolFullError)
        assert one.fatal

    asyncio.run(scenario())


@pytest.mark.parametrize("room", range(4100, 6100, 125))
def test_a_gap_of_which_a_full_spool_took_one_line_is_told_whole(tmp_path: Path, room: int):
    async def scenario() -> None:
        sink = Gate()
        one = pump(sink, spool=tmp_path / "spool", spool_always=True, spool_bytes=room)
        trading = lived()
        await one.start()
        running = asyncio.create_task(one.run())
        for number in range(1, 61):
            (delivery,) = trading.push(trades(number), RECV)
            if number % 2:
                assert delivery.feed is not None
                delivery.statements = delivery.feed.overflow(delivery.records[0], delivery.records[0], RECV)
            one.lane.put([delivery])
        await until(lambda: one.lost > 0 and not len(one.lane))
        sink.gate.set()
        await until(lambda: one.state.spooled == 0)
        await fed(one, trading, 61, 61)
        await over(one, running)
        gaps = [line for line in sink.lines if line["type"] == "gap"]
        opened = [gap["gap"] for gap in gaps if gap["state"] == "open"]
        assert sorted(opened) == sorted(gap["gap"] for gap in gaps if gap["state"] == "closed")
        assert len(opened) == len(set(opened))
        missing = set(range(1, 62)) - set(numbers(sink))
        assert len(missing) == one.lost > 0
        holes = [(int(gap["after"]), int(gap["until"])) for gap in gaps if gap["state"] == "closed"]
        assert [number for number in missing if not any(low < number < high for low, high in holes)] == []

    asyncio.run(scenario())


def test_a_record_that_the_disk_spoilt_is_declared_and_the_others_come(tmp_path: Path):
    async def scenario() -> None:
        trading = lived()
        stuck = Gate()
        before = pump(stuck, spool=tmp_path / "spool", spool_always=True)
        await before.start()
        running = asyncio.create_task(before.run())
        await fed(before, trading, 1, 30)
        await until(lambda: before.state.spooled == 30)
        await over(before, running, 0.05)
        (segment,) = (tmp_path / "spool").glob("*.spool")
        data = segment.read_bytes()
        at = data.index(b'"id":"17"')
        segment.write_bytes(data[:at] + b"#" + data[at + 1 :])
        sink = Scripted()
        one = pump(sink, spool=tmp_path / "spool", spool_always=True, batch_records=3)
        await one.start()
        running = asyncio.create_task(one.run())
        await until(lambda: one.state.spooled == 0)
        await fed(one, trading, 31, 32)
        await over(one, running)
        assert numbers(sink) == [number for number in range(1, 33) if number != 17]
        assert (one.written, one.lost) == (31, 1)
        # Nobody can know what it was of: so what comes next of each subscription is said to follow on a loss.
        assert sink.data[15:19] == ["16", "open sink 16..None", "closed sink 16..18", "18"]
        assert [word for word in sink.data if word.startswith("open")] == ["open sink 16..None", "open start 30..None"]

    asyncio.run(scenario())
