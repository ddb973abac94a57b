"""The file sink: where lines end up, when files are finished, and what readers of theirs make of it."""

import asyncio
import hashlib
import os
import shutil
import subprocess
import time

import duckdb
import orjson
import pytest
from support.filed import (
    DAY,
    SECOND,
    START,
    crash,
    finished,
    gap,
    held,
    lines,
    manifest,
    order,
    records,
    status,
    ticker,
    trade,
    unfinished,
)  # fmt: skip

import okstream.testing
from okstream.errors import ReaderGoneError, RetryError, SinkError
from okstream.sinks import SINKS, Remembering
from okstream.sinks.file import File
from okstream.sinks.lines import Lines

TIMEOUT = 30


async def written(batches, **options):
    """Write `batches` with a sink of its own; return what it proved when it was opened."""
    sink = File(**options)
    await sink.open()
    proven = list(sink.proven())
    for batch in batches:
        await sink.write(batch)
    await sink.close()
    return proven


async def told(condition):
    """Wait until `condition`, in the time of the clock on the wall: the sink's thread knows no other."""
    loop = asyncio.get_running_loop()
    until = time.monotonic() + TIMEOUT
    while not condition() and time.monotonic() < until:
        await loop.run_in_executor(None, time.sleep, 0.001)
    assert condition()


def names(folder):
    return [str(path.relative_to(folder)) for path in finished(folder)]


async def test_a_path_without_fields_is_one_file_that_grows_and_can_be_followed(tmp_path):
    path = tmp_path / "records.jsonl"
    sink = File(path=str(path))
    await sink.open()
    follower = path.open("rb")
    for number in range(3):
        await sink.write([trade(number)])
        assert follower.read() == trade(number).line
    await sink.close()
    follower.close()
    await written([[trade(3)]], path=str(path))
    assert lines(path) == [trade(number).line for number in range(4)]
    assert sorted(os.listdir(tmp_path)) == [".records.jsonl.state", "records.jsonl"]


async def test_segments_are_called_part_until_they_are_finished_and_have_a_manifest(tmp_path):
    sink = File(path=f"{tmp_path}/{{channel}}/{{date}}.jsonl")
    await sink.open()
    batch = [status("started", START), trade(1), gap("a-1", "open", START + SECOND), trade(2, "ETH-USDT")]
    await sink.write(batch)
    assert [path.name for path in unfinished(tmp_path)] == ["2026-08-14.000001.jsonl.part"] * 2
    assert not finished(tmp_path)
    await sink.close()
    assert names(tmp_path) == ["_/2026-08-14.000001.jsonl", "trades/2026-08-14.000001.jsonl"]
    path = finished(tmp_path)[1]
    assert lines(path) == [entry.line for entry in batch[1:]]
    said = manifest(path)
    assert said["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (said["segment"], said["bytes"], said["lines"], said["records"]) == (path.name, path.stat().st_size, 3, 2)
    assert (said["first_recv"], said["last_recv"]) == (batch[1].recv, batch[3].recv)
    assert [(one["inst"], one["records"], one["first"], one["last"]) for one in said["subscriptions"]] == [
        ("BTC-USDT", 1, "okx:trades::BTC-USDT:1", "okx:trades::BTC-USDT:1"),
        ("ETH-USDT", 1, "okx:trades::ETH-USDT:2", "okx:trades::ETH-USDT:2"),
    ]
    assert [(one["gap"], one["state"], one["reason"]) for one in said["gaps"]] == [("a-1", "open", "disconnected")]


@pytest.mark.parametrize("name", ["all-{date}.jsonl", "all-{date}.jsonl.zst", "all.jsonl.zst"])
def test_duckdb_and_zstd_read_what_is_written(tmp_path, name):
    batches = [[trade(batch * 100 + number) for number in range(100)] for batch in range(5)]
    asyncio.run(written(batches, path=f"{tmp_path}/{name}"))
    [path] = finished(tmp_path)
    with duckdb.connect() as base:
        found = base.execute(
            f"select count(*), min(id), max(recv), sum(count) from '{tmp_path}/*.{name.partition('.')[2]}'"
        ).fetchone()
    assert found == (500, "0", batches[-1][-1].recv, 500)
    if name.endswith("zst") and shutil.which("zstd"):
        subprocess.run(["zstd", "-q", "-t", path], check=True, timeout=TIMEOUT)
        listed = subprocess.check_output(["zstd", "-l", path], timeout=TIMEOUT, text=True)
        assert listed.splitlines()[1].split()[0] == "5", "one frame a flush"


async def test_a_day_ends_with_the_first_records_of_the_next_and_late_ones_still_find_their_file(tmp_path):
    sink = File(path=f"{tmp_path}/{{date}}.jsonl")
    await sink.open()
    late, early = trade(1, at=START + DAY - 1), trade(3, at=START + DAY)
    await sink.write([trade(0, at=START), early])
    await sink.write([late])
    assert len(unfinished(tmp_path)) == 2, "it waits a moment for those that come late"
    await sink.write([trade(4, at=START + DAY + 2 * SECOND)])
    assert names(tmp_path) == ["2026-08-14.000001.jsonl"]
    await sink.write([trade(2, at=START + DAY - 2)])
    await sink.close()
    assert names(tmp_path) == [
        "2026-08-14.000001.jsonl",
        "2026-08-14.000002.jsonl",
        "2026-08-15.000001.jsonl",
    ]
    assert [one["id"] for path in finished(tmp_path) for one in records(path)] == ["0", "1", "2", "3", "4"]


def test_a_segment_is_finished_in_time_though_nothing_comes_any_more(tmp_path):
    async def scenario():
        sink = File(path=f"{tmp_path}/{{date}}.jsonl", rotate_after=7200.0)
        await sink.open()
        start = okstream.testing.wall_ns()
        await sink.write([trade(1, at=start)])
        await asyncio.sleep(7199)
        assert not finished(tmp_path)
        await asyncio.sleep(2)
        await told(lambda: len(finished(tmp_path)) == 1)
        await sink.write([trade(2, at=okstream.testing.wall_ns())])
        await asyncio.sleep(DAY / SECOND)
        await told(lambda: len(finished(tmp_path)) == 2)
        await sink.close()

    okstream.testing.run(scenario)
    assert names(tmp_path) == ["2026-01-01.000001.jsonl", "2026-01-01.000002.jsonl"]


@pytest.mark.parametrize("ahead", [0, 600, DAY // SECOND, 3 * DAY // SECOND])
async def test_a_clock_that_was_ahead_and_is_set_back_costs_one_segment_at_most(tmp_path, ahead):
    sink = File(path=f"{tmp_path}/{{date}}.jsonl")
    await sink.open()
    noon = START + DAY // 2
    await sink.write([trade(0, at=noon + ahead * SECOND)])
    for number in range(1, 50):
        await sink.write([trade(number, at=noon + number * SECOND)])
    assert len(unfinished(tmp_path)) == 1
    assert len(finished(tmp_path)) == (1 if ahead >= DAY // SECOND else 0), "what was begun ahead is over"
    await sink.close()
    assert sorted(int(one["id"]) for path in finished(tmp_path) for one in records(path)) == list(range(50))


@pytest.mark.parametrize("ending", ["killed", "ended", "restarted in between"])
@pytest.mark.parametrize("path", ["all.jsonl", "{inst}/{date}.jsonl", "{inst}/{date}-{hour}.jsonl", "{inst}.jsonl"])
async def test_what_came_after_a_clock_that_was_ahead_is_proven_and_not_what_came_before(tmp_path, path, ending):
    folder, far = tmp_path / "files", 3000 * DAY
    sink = File(path=f"{folder}/{path}")
    await sink.open()
    await sink.write([trade(1, at=START + far), trade(1, "ETH-USDT", at=START + far)])
    if ending == "restarted in between":
        await sink.close()
        await sink.open()
    await sink.write([trade(2, at=START), trade(3, at=START + SECOND)])
    for number in range(4, 8):
        await sink.write([trade(number, at=START + number * SECOND)])
    if ending == "killed":
        crash(folder)
    else:
        await sink.close()
    proven = await written([[trade(8, at=START + DAY)]], path=f"{folder}/{path}")
    assert {one.inst: one.after for one in proven} == {"BTC-USDT": "7", "ETH-USDT": "1"}
    proven = await written([], path=f"{folder}/{path}")
    assert {one.inst: one.after for one in proven} == {"BTC-USDT": "8", "ETH-USDT": "1"}


async def test_a_segment_that_was_begun_ahead_of_the_clock_ends_in_its_time(tmp_path):
    sink = File(path=f"{tmp_path}/all.jsonl", rotate_after=60.0)
    await sink.open()
    await sink.write([trade(0, at=START + DAY)])
    for number in range(1, 123):
        await sink.write([trade(number, at=START + number * SECOND)])
    assert [len(lines(path)) for path in finished(tmp_path)] == [62, 61]
    await sink.close()


async def test_a_segment_ends_when_it_is_large_enough(tmp_path):
    batches = [[trade(batch * 10 + number) for number in range(10)] for batch in range(6)]
    await written(batches, path=f"{tmp_path}/all.jsonl", rotate_mib=0.003)
    assert names(tmp_path) == ["all.000001.jsonl", "all.000002.jsonl", "all.000003.jsonl"]
    assert held(tmp_path) == [entry.line for batch in batches for entry in batch]
    assert all(manifest(path)["lines"] == 20 for path in finished(tmp_path))


async def test_nothing_is_ever_overwritten(tmp_path):
    for name in ("all.000001.jsonl", "all.000002.jsonl.part", "all.000004.jsonl"):
        (tmp_path / name).write_text("somebody's\n")
    sink = File(path=f"{tmp_path}/all.jsonl", rotate_mib=0.0001)
    await sink.open()
    await sink.write([trade(1)])
    (tmp_path / "all.000006.jsonl").write_text("somebody's\n")
    await sink.write([trade(2)])
    await sink.write([trade(3)])
    await sink.close()
    theirs = [path.name for path in sorted(tmp_path.iterdir()) if path.read_bytes() == b"somebody's\n"]
    assert theirs == [f"all.00000{number}.jsonl" for number in (1, 2, 4, 6)], "a .part is taken for an earlier run's"
    ours = [path for path in finished(tmp_path) if path.name not in theirs]
    assert [line for path in ours for line in lines(path)] == [trade(number).line for number in (1, 2, 3)]


async def test_three_thousand_instruments_need_no_more_than_the_files_that_may_be_open(tmp_path, monkeypatch):
    most = 0
    opened = os.open

    def counting(*arguments, **options):
        nonlocal most
        descriptor = opened(*arguments, **options)
        held_open = sum(
            os.path.realpath(f"/proc/self/fd/{one}").startswith(f"{tmp_path}/okx")
            for one in os.listdir("/proc/self/fd")
        )
        most = max(most, held_open)
        return descriptor

    instruments = [f"I{number}-USDT" for number in range(3000)]
    sink = File(path=f"{tmp_path}/{{venue}}/{{inst}}.jsonl.zst", rotate_mib=64, open_files=16, fsync="segment")
    await sink.open()
    await sink.write([trade(number, inst) for number, inst in enumerate(instruments)])
    monkeypatch.setattr(os, "open", counting)
    batch = [trade(5000 + number, inst) for number, inst in enumerate(instruments[:200])]
    await sink.write(batch)
    monkeypatch.undo()
    assert 0 < most <= 17  # and a folder, while it is synced
    await sink.close()
    assert len(finished(tmp_path)) == 3000
    assert held(tmp_path / "okx").count(batch[7].line) == 1
    assert sorted(held(tmp_path)) == sorted(
        [trade(n, i).line for n, i in enumerate(instruments)] + [e.line for e in batch]
    )


async def test_a_gap_goes_to_every_file_of_its_subscription_and_to_no_other(tmp_path):
    opened, closed = gap("a-1", "open", START + SECOND), gap("a-1", "closed", START + 2 * SECOND)
    batch = [trade(1), trade(2, "ETH-USDT"), ticker(3), opened, closed, trade(4)]
    await written([batch], path=f"{tmp_path}/{{channel}}/{{type}}-{{inst}}-{{date}}.jsonl")
    found = {name: [line["type"] for line in records(tmp_path / name)] for name in names(tmp_path)}
    assert found == {
        "ticker/ticker-BTC-USDT-2026-08-14.000001.jsonl": ["ticker"],
        "trades/gap-BTC-USDT-2026-08-14.000001.jsonl": ["gap", "gap"],
        "trades/trade-BTC-USDT-2026-08-14.000001.jsonl": ["trade", "gap", "gap", "trade"],
        "trades/trade-ETH-USDT-2026-08-14.000001.jsonl": ["trade"],
    }


async def test_a_gap_without_an_instrument_makes_no_files_of_instruments_that_were_quiet_for_a_week(tmp_path):
    def stated(name, state, days):
        return gap(name, state, START + int(days * DAY), None, "orders", "main")

    def ordered(inst, days):
        return order(int(days * DAY) // 1_000_000, inst)

    batches = [
        [ordered("A", 0), ordered("B", 0), ordered("C", 0)],
        [ordered("B", 4)],
        [stated("a-1", "open", 6.9)],
        [stated("a-1", "closed", 7.1)],  # it is over wherever it was told
        [stated("a-2", "open", 8), ordered("C", 8)],
        [stated("a-2", "closed", 8)],
        [ordered("A", 9)],
        [stated("a-3", "open", 9), stated("a-3", "closed", 9)],
    ]
    await written(batches, path=f"{tmp_path}/{{inst}}/{{date}}.jsonl")
    told = {}
    for path in finished(tmp_path):
        for line in records(path):
            if line["type"] == "gap":
                told.setdefault((line["gap"], line["state"]), set()).add(path.parent.name)
    where = {"a-1": "ABC_", "a-2": "BC_", "a-3": "ABC_"}
    assert told == {(name, state): set(insts) for name, insts in where.items() for state in ("open", "closed")}


async def test_a_gap_without_an_instrument_is_about_all_of_the_channel_and_account(tmp_path):
    opened = gap("a-1", "open", START + SECOND, None, "orders", "main")
    batch = [order(1, "BTC-USDT"), order(2, "ETH-USDT"), order(3, "BTC-USDT", "other"), trade(4), opened]
    await written([batch], path=f"{tmp_path}/{{account}}/{{inst}}-{{channel}}-{{date}}.jsonl")
    gaps = [name.split("-2026")[0] for name in names(tmp_path) if records(tmp_path / name)[-1]["type"] == "gap"]
    assert gaps == ["main/BTC-USDT-orders", "main/ETH-USDT-orders", "main/_-orders"]


async def test_a_file_that_begins_within_a_gap_begins_with_it(tmp_path):
    opened = gap("a-1", "open", START + DAY - SECOND)
    closed = gap("a-1", "closed", START + DAY + 60 * SECOND)
    other = gap("a-2", "open", START + DAY - SECOND, "ETH-USDT")
    days = [
        [trade(1, at=START), trade(1, "ETH-USDT", at=START), opened, other],
        [closed, trade(2, at=START + DAY + 60 * SECOND)],
        [trade(3, at=START + 2 * DAY)],
    ]
    await written(days, path=f"{tmp_path}/{{inst}}/{{date}}.jsonl")
    found = [lines(path) for path in finished(tmp_path / "BTC-USDT")]
    assert found == [
        [days[0][0].line, opened.line],
        [opened.line, closed.line, days[1][1].line],
        [days[2][0].line],
    ]
    said = manifest(finished(tmp_path / "BTC-USDT")[1])
    assert [(one["gap"], one["state"]) for one in said["gaps"]] == [("a-1", "closed")]


async def test_what_has_ended_is_not_carried_on(tmp_path):
    days = [[trade(1, at=START), gap("a-1", "open", START + 1), status("ended", START + 2, "trades", "BTC-USDT")],
            [trade(2, at=START + DAY)]]  # fmt: skip
    await written(days, path=f"{tmp_path}/{{inst}}/{{date}}.jsonl")
    assert lines(finished(tmp_path)[-1]) == [days[1][0].line]


async def test_it_proves_the_last_record_of_each_subscription(tmp_path):
    assert isinstance(File(path="x"), Remembering)
    assert SINKS["file"] == "okstream.sinks.file:File"
    for path in ("{inst}/{date}.jsonl.zst", "{date}.jsonl", "all.jsonl", "all.jsonl.zst"):
        options = {"path": f"{tmp_path}/{path.replace('/', '-')}/{path}"}
        batches = [[trade(1), trade(2, "ETH-USDT"), gap("a-1", "open", START)], [trade(3), ticker(4)]]
        assert await written(batches, **options) == []
        proven = await written([], **options)
        assert sorted((one.channel, one.inst, one.after, one.after_ts) for one in proven) == [
            ("ticker", "BTC-USDT", None, ticker(4).ts),
            ("trades", "BTC-USDT", "3", trade(3).ts),
            ("trades", "ETH-USDT", "2", trade(2).ts),
        ]


async def test_what_it_proves_does_not_take_a_look_at_thousands_of_segments(tmp_path):
    """Were it to read them, it would see that they are gone."""
    options = {"path": f"{tmp_path}/{{inst}}/{{date}}.jsonl", "fsync": "segment"}
    await written([[trade(number, f"I{number}") for number in range(500)]], **options)
    for path in tmp_path.glob("I*/*"):
        path.write_bytes(b"")
    assert len(await written([], **options)) == 500


async def test_without_its_memory_it_looks_for_manifests(tmp_path):
    options = {"path": f"{tmp_path}/{{inst}}/{{date}}.jsonl"}
    await written([[trade(1), trade(2, "ETH-USDT")]], **options)
    await written([[trade(3)]], **options)
    for memory in tmp_path.glob(".okstream-*"):
        memory.unlink()
    assert sorted(one.after for one in await written([], **options)) == ["2", "3"]


@pytest.mark.parametrize("path", ["all.jsonl", "{date}.jsonl"])
async def test_a_second_sink_with_the_same_path_is_told_so(tmp_path, path):
    first, second = File(path=f"{tmp_path}/{path}"), File(path=f"{tmp_path}/{path}")
    await first.open()
    await first.write([trade(1)])
    with pytest.raises(RetryError, match=r"jsonl: another sink of this process writes there"):
        await second.open()
    await second.close()
    await first.close()
    await second.open()
    await second.write([trade(2)])
    await second.close()
    assert held(tmp_path) == [trade(1).line, trade(2).line]


async def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(SinkError, match="Is a directory"):
        await File(path=str(tmp_path)).open()


async def test_what_is_no_plain_file_is_written_to_as_it_is(tmp_path):
    with pytest.raises(SinkError, match="/dev/full: No space left on device"):
        await written([[trade(1)]], path="/dev/full")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="No such device"):
        await File(path=str(pipe)).open()
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    sink = File(path=str(pipe))
    await sink.open()
    await sink.write([trade(1)])
    assert os.read(reader, 1 << 16) == trade(1).line
    os.close(reader)
    with pytest.raises(ReaderGoneError):
        await sink.write([trade(2)])
    await sink.close()


async def test_lines_of_several_sinks_stand_whole_in_one_pipe(tmp_path):
    """Each batch is more than a pipe holds, so that each write has to wait for the reader in its middle."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    writer = os.open(pipe, os.O_WRONLY)
    batches = [[trade(number + 1000 * which) for number in range(1000)] for which in range(4)]
    sinks = [File(path=str(pipe)), File(path=str(pipe)), Lines(writer, "one"), Lines(writer, "other")]
    for sink in sinks:
        await sink.open()
    writing = [asyncio.create_task(sink.write(batch)) for sink, batch in zip(sinks, batches, strict=True)]
    there = b""
    while there.count(b"\n") < 4000:
        there += await asyncio.to_thread(os.read, reader, 4096)
    await asyncio.gather(*writing)
    for sink in sinks:
        await sink.close()
    assert sorted(there.splitlines(keepends=True)) == sorted(entry.line for batch in batches for entry in batch)
    os.close(writer)
    os.close(reader)


async def test_a_reader_that_stalls_holds_up_neither_the_loop_nor_the_end(tmp_path, caplog):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    sink = File(path=str(pipe))
    await sink.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await sink.write([trade(number) for number in range(2000)])
    async with asyncio.timeout(TIMEOUT):
        await sink.close()
    assert "a write hangs, and is left to itself" in caplog.text
    os.close(reader)  # ends the thread


async def test_a_file_that_was_moved_away_or_emptied_begins_anew(tmp_path):
    path, moved = tmp_path / "all.jsonl", tmp_path / "all.jsonl.1"
    sink = File(path=str(path))
    await sink.open()
    await sink.write([trade(1)])
    path.rename(moved)
    await sink.write([trade(2)])
    assert (lines(moved), lines(path)) == ([trade(1).line], [trade(2).line])
    os.truncate(path, 0)
    await sink.write([trade(3)])
    await sink.close()
    assert lines(path) == [trade(3).line]
    assert [one.after for one in await written([], path=str(path))] == ["3"]


async def test_the_last_line_of_somebody_elses_file_is_ended_and_kept(tmp_path):
    path = tmp_path / "all.jsonl"
    path.write_bytes(trade(1).line.rstrip())
    await written([[trade(2)]], path=str(path))
    assert lines(path) == [trade(1).line, trade(2).line]


async def test_a_file_of_the_other_form_is_left_alone(tmp_path):
    path = tmp_path / "all.jsonl"
    await written([[trade(1)]], path=str(path), compress="zstd")
    with pytest.raises(SinkError, match="it is zstd already"):
        await File(path=str(path)).open()
    assert lines(path) == [trade(1).line]


async def test_raw_text_goes_where_its_subscription_says(tmp_path):
    from okstream.entries import raw

    text = raw(b'[{"channel":"ok_sub_spot_btc_usdt_ticker"}]\n', "okex-v1", "ticker", "BTC-USDT", None, START)
    await written([[text]], path=f"{tmp_path}/{{venue}}/{{channel}}/{{inst}}.jsonl", rotate_mib=1)
    assert names(tmp_path) == ["okex-v1/ticker/BTC-USDT.000001.jsonl"]
    assert manifest(finished(tmp_path)[0])["last_recv"] == START
    assert orjson.loads(held(tmp_path)[0])[0]["channel"] == "ok_sub_spot_btc_usdt_ticker"
