"""After a kill, a sink that proves nothing and was written to directly: what is said of the time in between."""

import asyncio
import gc
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from core.exchange import RECV, trades
from test_pump import Scripted, lived, pump, put
from test_pump_spool import Gate, over, until

from okstream.entries import Entry
from okstream.fanout import places
from okstream.fanout.pump import Pump
from okstream.feed.continuity import Delivery
from okstream.sinks import Proven

ETH = "trades:ETH-USDT"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is remembered with every batch, not once a second."""
    monkeypatch.setattr(places, "EVERY", 0.0)
    monkeypatch.setattr(places, "_RATE", 1e12)


async def after_a_kill(spool: Path, *new: int, eth: int | None = None) -> list[str]:
    """
    Return what a sink gets of the process that finds `spool` as it is now, with trades that come `new`.

    The disk as it is at a moment is what a process finds that comes after a kill at that moment.
    """
    left = shutil.copytree(spool, spool.with_name("left"), dirs_exist_ok=False)
    sink = Scripted()
    one = pump(sink, when_full="spill", spool=left)
    await one.start()
    running = asyncio.create_task(one.run())
    put(one, lived(), *new)
    if eth is not None:
        one.lane.put(lived(ETH).push(trades(eth, inst="ETH-USDT"), RECV, weight=100))
    await until(lambda: one.state.spooled == 0 and one.state.waiting == 0)
    await over(one, running)
    shutil.rmtree(left)
    return sink.data


class Killed(Scripted):
    """Before it writes trade `at` its process is killed, so to speak: `after` is what a sink gets of the next one."""

    def __init__(self, spool: Path, at: str) -> None:
        super().__init__()
        self.after: list[str] = []
        self._spool = spool
        self._at = at

    async def write(self, batch: Sequence[Entry]) -> None:
        if batch[0].fields.get("id") == self._at:
            self.after = await after_a_kill(self._spool, 9, 10)
        await super().write(batch)


async def written(one: Pump, count: int) -> None:
    """Wait until so many are, and the disk knows what it is to know."""
    await until(lambda: one.written == count)
    assert one._spooling is not None
    kept = one._spooling._places
    assert kept is not None
    await until(lambda: kept._task is None or kept._task.done())


async def killed(spool: Path, at: str) -> Killed:
    """Return a sink that was given six trades, one by one."""
    sink, trading = Killed(spool, at), lived()
    one = pump(sink, when_full="spill", spool=spool)
    await one.start()
    running = asyncio.create_task(one.run())
    for number in range(1, 7):
        put(one, trading, number)
        await written(one, number)
    await over(one, running)
    return sink


def test_it_begins_at_what_was_written_last(tmp_path: Path, at_once: None):
    sink = asyncio.run(killed(tmp_path / "spool", "6"))
    assert sink.after == ["open start 5..None", "closed start 5..9", "9", "10"]


def test_it_may_begin_a_second_too_early_and_after_an_orderly_end_does_not(tmp_path: Path):
    sink = asyncio.run(killed(tmp_path / "spool", "6"))
    assert sink.after == ["open start 1..None", "closed start 1..9", "9", "10"]
    told = asyncio.run(after_a_kill(tmp_path / "spool", 9))
    assert told == ["open start 6..None", "closed start 6..9", "9"]


def test_of_what_it_may_have_had_for_the_first_time_it_has_no_beginning(tmp_path: Path):
    sink = asyncio.run(killed(tmp_path / "spool", "1"))
    assert sink.after == ["open start None..None", "closed start None..9", "9", "10"]


def test_of_raw_text_a_sink_that_proves_records_knows_nothing(tmp_path: Path):
    class Unsure(Scripted):
        def proven(self) -> list[Proven]:
            return []

        async def write(self, batch: Sequence[Entry]) -> None:
            self.batches.append([entry.line for entry in batch])

    async def run() -> list[bytes]:
        sink, source = Unsure(), lived()
        one = pump(sink, when_full="spill", spool=tmp_path / "spool", form="raw")
        await one.start()
        running = asyncio.create_task(one.run())
        one.lane.put([Delivery(source.feed, text=b"text", weight=100)])
        await until(lambda: one.written == 1)
        await over(one, running)
        return [line for batch in sink.batches for line in batch]

    assert asyncio.run(run()) == [b"text\n"]
    opened, closed, text = asyncio.run(run())
    assert b'"state":"open","reason":"start"' in opened
    assert b'"state":"closed","reason":"start"' in closed
    assert text == b"text\n"


@pytest.mark.parametrize("every", [0.0, 3600.0])
def test_what_went_through_the_disk_later_or_earlier_is_told_from_what_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: float
):
    monkeypatch.setattr(places, "EVERY", every)
    monkeypatch.setattr(places, "_RATE", 1e12)

    async def scenario() -> None:
        sink, trading, other = Gate(), lived(), lived(ETH)
        options: Any = {"when_full": "spill", "spool": tmp_path / "spool", "records": 12}
        one = pump(sink, **options)
        await one.start()
        running = asyncio.create_task(one.run())
        sink.gate.set()
        one.lane.put(other.push(trades(70, inst="ETH-USDT"), RECV, weight=100))
        put(one, trading, 1)
        await written(one, 2)
        put(one, trading, 2)
        await written(one, 3)

        sink.gate.clear()
        put(one, trading, 3)
        await until(lambda: one.state.waiting == 1 and not len(one.lane))
        put(one, trading, *range(4, 12))
        await until(lambda: one.state.spooled >= 9)
        told = await after_a_kill(tmp_path / "spool", 20, eth=90)
        assert told == [
            *map(str, range(3, 12)), "open start 11..None", "closed start 11..20", "20",
            "open start 70..None", "closed start 70..90", "90",
        ]  # fmt: skip

        sink.gate.set()
        await until(lambda: one.state.spooled == 0)
        for number in (12, 13):
            put(one, trading, number)
            await written(one, number + 1)
        begin = (await after_a_kill(tmp_path / "spool", 20))[0]
        assert begin == ("open start 11..None" if every else "open start 13..None")
        await over(one, running)
        assert await after_a_kill(tmp_path / "spool", 20) == ["open start 13..None", "closed start 13..20", "20"]

    asyncio.run(scenario())


def test_a_subscription_that_ended_is_let_go(tmp_path: Path, at_once: None):
    async def scenario() -> None:
        sink, trading, other = Scripted(), lived(), lived(ETH)
        one = pump(sink, when_full="spill", spool=tmp_path / "spool")
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, trading, 1)
        await written(one, 1)
        left = ref(trading.feed)
        one.lane.forget(trading.feed)
        del trading
        for number in (1, 2):
            one.lane.put(other.push(trades(number, inst="ETH-USDT"), RECV, weight=100))
            await written(one, 1 + number)
        gc.collect()
        assert left() is None
        await over(one, running)

    asyncio.run(scenario())
