"""What a spool, and the sink behind it, make of files and folders that are removed while they are in use."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_pump import Scripted, lived, pump, put
from test_pump_spool import Gate, fed, numbers, over, until
from test_spool import ALL, MIB, drained, files, numbered

from okstream.errors import SpoolError
from okstream.spool import Spool
from okstream.spool.segments import Corrupt

SMALL: dict[str, Any] = {"limit": MIB, "segment_bytes": 300}


async def opened(folder: Path, count: int = 0, **options: Any) -> Spool:
    """Return a spool with so many payloads, of which a segment has ten or so."""
    spool = Spool(folder, **SMALL, **options)
    await spool.open()
    for payload in numbered(count):
        assert await spool.append([payload]) == 1
    return spool


def bounds(folder: Path, which: int, count: int) -> tuple[int, int]:
    """Return from which number to before which a segment has records, of `count` in all."""
    firsts = [*(int(path.stem) for path in files(folder)), count]
    return firsts[which], firsts[which + 1]


@pytest.mark.parametrize("which", [0, 2, 5])
async def test_a_segment_that_vanishes_is_a_hole_of_exactly_its_records(tmp_path, which):
    spool = await opened(tmp_path, 60)
    assert len(files(tmp_path)) == 6
    first, end = bounds(tmp_path, which, 60)
    files(tmp_path)[which].unlink()
    assert await drained(spool) == [*numbered(first), Corrupt(end - first), *numbered(60 - end, end)]
    assert (len(spool), spool.lost) == (0, end - first)
    assert await spool.append(numbered(5, 60)) == 5
    await spool.close()
    assert (await spool.open()).waiting == 5
    assert await drained(spool) == numbered(5, 60)
    await spool.close()


async def test_of_a_segment_that_vanishes_while_it_is_read_all_comes(tmp_path):
    spool = await opened(tmp_path, 60)
    assert await spool.read(3, ALL) == numbered(3)
    first, end = bounds(tmp_path, 1, 60)
    for path in files(tmp_path)[:2]:
        path.unlink()
    await spool.ack(3)
    assert await drained(spool) == [*numbered(first - 3, 3), Corrupt(end - first), *numbered(60 - end, end)]
    await spool.close()


async def test_nothing_is_written_to_a_segment_that_has_vanished(tmp_path):
    spool = await opened(tmp_path, 3)
    size = spool.bytes
    files(tmp_path)[0].unlink()
    assert await spool.append(numbered(2, 3)) == 2
    assert spool.bytes < size, "what is gone takes no room"
    await spool.close()
    assert len(spool) == 2
    assert (await spool.open()).waiting == 2
    assert await drained(spool) == numbered(2, 3)
    await spool.close()


@pytest.mark.parametrize("again", [False, True])
async def test_a_folder_that_vanishes_is_made_again_for_what_comes_and_is_locked(tmp_path, again):
    folder = tmp_path / "spool"
    spool = await opened(folder, 30, mark=lambda payload: (payload[-1:].decode(), payload.decode()))
    await spool.note(b"a note")
    shutil.rmtree(folder)
    if again:
        folder.mkdir()
    assert await spool.append(numbered(5, 30)) == 5
    with pytest.raises(SpoolError, match="in use by process"):
        await Spool(folder, **SMALL).open()
    assert await spool.read(100, ALL) == [Corrupt(30), *numbered(5, 30)]
    await spool.ack(3)
    await spool.close()
    assert (len(spool), spool.lost) == (3, 30)
    spool = Spool(folder, **SMALL)
    found = await spool.open()
    assert (found.waiting, found.note) == (3, b"a note")
    assert found.marks["9"] == "payload 29", "what it remembers is not gone with the folder"
    assert await drained(spool) == numbered(3, 32)
    await spool.close()


async def test_a_full_spool_has_room_once_its_folder_has_vanished(tmp_path):
    folder = tmp_path / "spool"
    spool = Spool(folder, limit=4096)
    await spool.open()
    assert await spool.append(numbered(500)) < 500
    shutil.rmtree(folder)
    assert await spool.append([b"next"]) == 1
    assert sum(path.stat().st_size for path in folder.iterdir()) <= spool.bytes <= 4096
    await spool.close()


async def test_a_folder_that_another_process_took_meanwhile_is_its_own(tmp_path):
    folder = tmp_path / "spool"
    spool = await opened(folder, 5)
    folder.rename(tmp_path / "moved")
    other = await opened(folder, 1)
    with pytest.raises(SpoolError, match="in use by process"):
        await spool.append(numbered(1))
    await other.close()
    shutil.rmtree(folder)
    assert await spool.append(numbered(1, 5)) == 1
    await spool.close()


async def test_what_is_begun_after_its_file_has_vanished_is_known(tmp_path):
    def mark(payload: bytes) -> tuple[str, str]:
        return payload[:1].decode(), payload[1:].decode().rstrip("\n")

    folder = tmp_path / "spool"
    spool = await opened(folder, mark=mark)
    spool.begin([b"a?\n"])
    shutil.rmtree(folder)
    spool.begin([b"b?\n"])
    await spool.close()
    spool = Spool(folder, **SMALL, mark=mark)
    assert (await spool.open()).marks == {"b": "?"}
    await spool.close()


async def test_what_waits_at_the_end_is_what_the_next_start_finds(tmp_path):
    spool = await opened(tmp_path, 60)
    assert await spool.read(2, ALL) == numbered(2)
    await spool.ack(1)
    first, _ = bounds(tmp_path, 3, 60)
    for path in files(tmp_path)[3:]:
        path.unlink()
    await spool.close()
    assert (len(spool), spool.lost) == (first - 1, 60 - first)
    assert (await spool.open()).waiting == first - 1
    await spool.close()


# -- the sink behind it

OPTIONS: dict[str, Any] = {"spool_always": True, "spool_bytes": 64 * 1024, "batch_records": 10}


def said(sink: Scripted) -> list[str]:
    return [word for word in sink.data if word.startswith(("open", "closed"))]


def test_a_sink_gets_what_is_left_of_its_spool_and_is_told_what_is_not(tmp_path: Path, caplog):
    async def scenario() -> None:
        sink, trading, folder = Gate(), lived(), tmp_path / "spool"
        one = pump(sink, spool=folder, **OPTIONS)
        await one.start()
        running = asyncio.create_task(one.run())
        await fed(one, trading, 1, 100)
        await until(lambda: one.state.spooled == 100 and not len(one.lane))
        first, end = bounds(folder, 1, 100)
        assert end < 100
        files(folder)[1].unlink()
        sink.gate.set()
        await until(lambda: one.state.spooled == 0)
        await over(one, running)
        assert numbers(sink) == [*range(1, first + 1), *range(end + 1, 101)]
        assert said(sink) == [f"open sink {first}..None", f"closed sink {first}..{end + 1}"]
        assert (one.written, one.lost) == (100 - (end - first), end - first)
        assert f"{end - first} records in its spool are corrupt or gone" in caplog.text

    asyncio.run(scenario())


def test_a_sink_goes_on_when_the_folder_of_its_spool_has_vanished_and_the_end_is_told_as_it_is(tmp_path: Path):
    async def scenario() -> None:
        sink, trading, folder = Gate(), lived(), tmp_path / "spool"
        one = pump(sink, spool=folder, **OPTIONS)
        await one.start()
        running = asyncio.create_task(one.run())
        await fed(one, trading, 1, 50)
        await until(lambda: one.state.spooled == 50 and not len(one.lane))
        shutil.rmtree(folder)
        await fed(one, trading, 51, 80)
        sink.gate.set()
        await until(lambda: one.state.spooled == 0)
        assert numbers(sink)[-30:] == list(range(51, 81))
        held = len(numbers(sink)) - 30
        assert one.lost == 50 - held
        assert said(sink)[-1].startswith("closed sink ")

        sink.gate.clear()
        await fed(one, trading, 81, 100)
        await until(lambda: one.state.spooled == 20 and not len(one.lane))
        shutil.rmtree(folder)
        put(one, trading, 101, 102)
        await until(lambda: one.state.spooled == 22 and not len(one.lane))
        await over(one, running, within=0.05)
        assert one.lost > 50 - held
        assert one.state.spooled == 2

        sink = Gate()
        sink.gate.set()
        one = pump(sink, spool=folder, **OPTIONS)
        await one.start()
        running = asyncio.create_task(one.run())
        await until(lambda: one.state.spooled == 0)
        await over(one, running)
        assert numbers(sink) == [101, 102]
        assert said(sink)[0] == "open sink None..None", "nobody knows how far it had come"

    asyncio.run(scenario())


def test_a_sink_is_recovering_while_its_spool_fails(tmp_path: Path):
    async def scenario() -> None:
        sink, trading, folder = Scripted(), lived(), tmp_path / "spool"
        one = pump(sink, spool=folder, **OPTIONS)
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, trading, 1)
        await until(lambda: one.written == 1)
        assert one.state.state == "ok"
        shutil.rmtree(folder)
        folder.write_bytes(b"in its place")
        put(one, trading, 2)
        await until(lambda: one.state.state == "recovering")
        assert "its spool cannot be written" in str(one.state.detail)
        folder.unlink()
        await until(lambda: one.written == 2)
        assert (one.state.state, one.state.detail) == ("ok", None)
        await over(one, running)
        assert (sink.data, one.lost) == (["1", "2"], 0)

    asyncio.run(scenario())
