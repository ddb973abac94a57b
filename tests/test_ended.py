"""`ended` is the last of a subscription: what was lost of it is said before, and is over when it is taken up again."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from core.exchange import RECV, trades
from support.filed import finished, records
from test_pump import Scripted, lived, pump, put
from test_pump_spool import Gate, over, overflown, until

from okstream.coverage import coverage
from okstream.entries import Entry, Head
from okstream.errors import RejectedError
from okstream.fanout.lane import Lane
from okstream.fanout.rejects import parted
from okstream.fanout.rendering import entries
from okstream.feed.continuity import Delivery
from okstream.feed.source import Source
from okstream.files.evidence import read, sources
from okstream.files.names import Template
from okstream.files.writer import Writer
from okstream.options import LaneOptions
from okstream.records import Gap, Status

WEIGHT = 100
SECOND = 1_000_000_000


def end(one: Lane, source: Source) -> None:
    """Unsubscribe, as a stream does."""
    one.put([Delivery(source.feed, [source.feed.status("ended", RECV)], weight=WEIGHT)])
    one.forget(source.feed)


def told(deliveries: list[Delivery]) -> list[str]:
    words = []
    for delivery in deliveries:
        for said in delivery.statements:
            assert isinstance(said, Gap | Status)
            words.append(f"{said.state} {said.reason} {said.after}" if isinstance(said, Gap) else said.state)
        words += [str(getattr(record, "id", None)) for record in delivery.records]
    return words


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "taken in between"])
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest"])
def test_what_a_full_lane_dropped_last_is_said_before_the_end(policy: Any, apart: bool):
    one, source, other = Lane(LaneOptions(bytes=5 * WEIGHT, when_full=policy), wall_ns=lambda: RECV), lived(), lived()
    one.put(source.push(trades(1), RECV, weight=WEIGHT))
    assert told(one.take())[-1] == "1"
    large = source.push(trades(2), RECV, weight=10 * WEIGHT)
    one.put(large)
    for number in range(1, 12):  # somebody else's take all the room
        one.put(other.push(trades(number), RECV, weight=WEIGHT))
    first = one.take() if apart else []
    end(one, source)
    said = [delivery for delivery in first + one.take() if delivery.feed is source.feed]
    assert told(said) == ["open overflow 1", "closed overflow 1", "ended"]
    assert [delivery.feed for delivery in one.unsaid() if delivery.feed is source.feed] == []
    assert not {source.feed} & {*one.losses.lost, *one.losses.unclosed, *one.losses.last, *one.losses.kept}


@pytest.mark.parametrize("limit", [0, 100_000])
def test_the_end_is_said_last_whether_it_waits_or_has_no_room_either(limit: int):
    one, source = Lane(LaneOptions(bytes=limit), wall_ns=lambda: RECV), lived()
    one.put(source.push(trades(1), RECV, weight=2 * 100_000))
    end(one, source)
    assert told(one.take()) == ["open overflow None", "closed overflow None", "ended"]


def test_a_gap_whose_end_was_dropped_ends_before_its_subscription_does():
    one, source = Lane(LaneOptions(bytes=WEIGHT), wall_ns=lambda: RECV), lived()
    one.put(source.lose("disconnected", RECV, "disconnected"))
    assert told(one.take()) == ["open disconnected 0", "disconnected"]
    source.ask()
    one.put(source.push(trades(5), RECV, weight=2 * WEIGHT))
    end(one, source)
    assert told(one.take()) == ["closed disconnected 0", "ended"]
    assert one.unsaid() == []


def test_what_a_spool_had_no_room_for_is_said_before_the_end(tmp_path: Path):
    async def scenario() -> None:
        sink, trading = Gate(), lived()
        one, running = await overflown(sink, trading, tmp_path / "spool")
        end(one.lane, trading)
        await over(one, running)
        last = str(max(int(line["id"]) for line in sink.lines if line["type"] == "trade"))
        assert sink.told[-4:] == [last, f"open overflow {last}..None", f"closed overflow {last}..None", "ended"]

    asyncio.run(scenario())


@pytest.mark.parametrize("spooled", [False, True])
def test_what_was_rejected_last_is_said_before_the_end(tmp_path: Path, spooled: bool):
    sink = Scripted(None, RejectedError("poison", {0: "too long"}))

    async def scenario() -> None:
        options: Any = {"spool": tmp_path / "spool", "spool_always": True} if spooled else {}
        one, trading = pump(sink, **options), lived()
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, trading, 1)
        await until(lambda: one.written == 1)
        put(one, trading, 2)
        await until(lambda: one.state.rejected == 1)
        end(one.lane, trading)
        await over(one, running)

    asyncio.run(scenario())
    assert sink.told == ["1", "open sink 1..None", "closed sink 1..None", "ended"]


@pytest.mark.parametrize("spooled", [False, True])
def test_what_was_rejected_of_a_batch_is_said_before_the_end_that_stands_there_too(tmp_path: Path, spooled: bool):
    sink = Scripted(RejectedError("poison", {1: "too long", 3: "too long"}))

    async def scenario() -> None:
        options: Any = {"spool": tmp_path / "spool", "spool_always": True} if spooled else {}
        one = pump(sink, batch_records=100, linger=0.2, **options)
        trading, other = lived(), lived("trades:ETH-USDT")
        await one.start()
        put(one, trading, 1, 2)
        for number in (1, 2, 3):
            if number == 3:
                end(one.lane, trading)
            one.lane.put(other.push(trades(number, inst="ETH-USDT"), RECV, weight=100))
        running = asyncio.create_task(one.run())
        await until(lambda: one.written == 3)
        await over(one, running)
        assert one.state.rejected == 2

    asyncio.run(scenario())
    of = {inst: [word for word, line in zip(sink.told, sink.lines, strict=True) if line["inst"] == inst]
          for inst in ("BTC-USDT", "ETH-USDT")}  # fmt: skip
    assert of["BTC-USDT"] == ["1", "open sink 1..None", "closed sink 1..None", "ended"]
    assert of["ETH-USDT"][0] == "1"
    assert sorted(of["ETH-USDT"][1:]) == ["3", "closed sink 1..3", "open sink 1..None"]


@pytest.mark.parametrize(("inst", "cut"), [("BTC-USDT", [[1, 2, 3, 4], [5, 6, 7, 8, 9]]),
                                           ("ETH-USDT", [[1, 2, 3, 4, 5, 6, 7, 8], [9]]),
                                           (None, [[1, 2, 3, 4], [5, 6, 7, 8], [9]])])  # fmt: skip
def test_a_batch_is_parted_before_what_ends_behind_something_of_its_own(inst: str | None, cut: list[list[int]]):
    def said(state: str, of: str | None, recv: int) -> Entry:
        return Entry(orjson.dumps({"state": state}), Head("", "status", "okx", "trades", of, None, None, recv))

    def data(of: str, recv: int) -> Entry:
        return Entry(b"{}", Head("", "trade", "okx", "trades", of, None, 1, recv))

    batch = [
        said("ended", "SOL-USDT", 1), data("BTC-USDT", 2), said("ended", "ETH-USDT", 3), said("live", "ETH-USDT", 4),
        said("ended", inst, 5), said("ended", inst, 6), data("SOL-USDT", 7), data("ETH-USDT", 8),
        said("ended", inst, 9),
    ]  # fmt: skip
    made = list(parted(batch))
    assert [[entry.recv for entry in part] for part, _ in made] == cut
    assert all([*part, *later] == batch[-len(part) - len(later) :] for part, later in made)


def stream(legacy: bool) -> list[Any]:
    """A subscription that lost its last record and ended, and is taken up again; `legacy`: the gap behind the end."""
    one, source = Lane(LaneOptions(bytes=5 * WEIGHT), wall_ns=lambda: RECV), lived()
    one.put(source.push(trades(1), RECV, weight=WEIGHT))
    made = one.take()
    one.put(source.push(trades(2), RECV, weight=10 * WEIGHT))
    end(one, source)
    said = one.take()
    if legacy:
        (opened, _, status) = said[0].statements
        said = [Delivery(source.feed, [status, opened])]
    again = lived()
    made += [*said, Delivery(again.feed, [again.feed.status("live", RECV + SECOND)])]
    for number in range(1, 4):
        made += again.push(trades(number), RECV + number * 100 * SECOND)
    return entries(made, "json")


@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_taken_up_again_is_complete_in_files_that_begin_without_an_old_gap(tmp_path: Path, legacy: bool):
    writer = Writer(
        Template(f"{tmp_path}/{{inst}}.jsonl"),
        level=None, rotate_bytes=None, rotate_ns=10 * SECOND, open_files=9, sync=False,
    )  # fmt: skip
    writer.open()
    for entry in stream(legacy):
        writer.write([entry])
        if entry.recv > RECV + SECOND:  # one file each of what comes after it was taken up again
            writer.tick(entry.recv + 50 * SECOND)
    writer.close()
    files = finished(tmp_path)
    assert [[line["type"] for line in records(path)] for path in files[1:]] == [["trade"]] * 2
    (covered,) = coverage(sources(map(read, files)))
    assert [interval.complete for interval in covered.intervals] == [True, False, True]
    assert covered.intervals[-1].until - covered.intervals[-1].since == 200 * SECOND
