"""A power cut, by what was synced before it: what was accepted is there, and what the next run is told is true."""

import asyncio
from pathlib import Path

import pytest
from support.filed import DAY, SECOND, START, crash, finished, held, trade, unfinished
from support.powercut import watched

from okstream.sinks.file import File
from okstream.spool import Spool

FORMS = ("all.jsonl", "all.jsonl.zst", "deep/{inst}/{date}.jsonl", "deep/{inst}/{date}.jsonl.zst")
INSTRUMENTS = ("A", "B")


async def written(folder: Path, name: str, batches: int, **options: object) -> list[bytes]:
    """Write so many batches, of a day each; the sink is left open, and what it had accepted is returned."""
    sink = File(path=f"{folder}/{name}", **options)  # type: ignore[arg-type]
    await sink.open()
    accepted = []
    for day in range(batches):
        at = START + day * DAY + 5 * SECOND
        batch = [trade(2 * day + n, inst, at=at + n) for n in (0, 1) for inst in INSTRUMENTS]
        await sink.write(batch)
        accepted += [entry.line for entry in batch]
    return accepted


async def reopened(folder: Path, name: str) -> dict[str | None, str | int | None]:
    """Return what a sink proves that finds this."""
    sink = File(path=f"{folder}/{name}")
    await sink.open()
    proven = {one.inst: one.after for one in sink.proven()}
    await sink.close()
    return proven


@pytest.mark.parametrize("names", [False, True], ids=["what was synced", "all names"])
@pytest.mark.parametrize("name", FORMS)
def test_what_was_accepted_is_in_the_files_after_a_power_cut(tmp_path: Path, name: str, names: bool):
    folder = tmp_path / "data"
    folder.mkdir()
    with watched(folder) as disk:
        accepted = asyncio.run(written(folder, name, 3))
        disk.cut(names=names)
    crash(folder)
    assert asyncio.run(reopened(folder, name)) == {"A": "5", "B": "5"}
    assert sorted(held(folder)) == sorted(accepted)
    assert not unfinished(folder)


@pytest.mark.parametrize("names", [False, True], ids=["what was synced", "all names"])
@pytest.mark.parametrize("name", FORMS[2:])
def test_what_is_finished_is_there_after_a_power_cut_and_no_more_is_proven(tmp_path: Path, name: str, names: bool):
    """With `fsync = "segment"`: three days, of which the last is not over."""
    folder = tmp_path / "data"
    folder.mkdir()
    with watched(folder) as disk:
        accepted = asyncio.run(written(folder, name, 3, fsync="segment"))
        done = [path.relative_to(folder) for path in finished(folder)]
        disk.cut(names=names)
    crash(folder)
    assert asyncio.run(reopened(folder, name)) == {"A": "3", "B": "3"}
    assert [path.relative_to(folder) for path in finished(folder)] == done
    assert sorted(held(folder)) == sorted(accepted[:8])


@pytest.mark.parametrize("names", [False, True], ids=["what was synced", "all names"])
def test_what_a_spool_accepted_comes_after_a_power_cut(tmp_path: Path, names: bool):
    """What was acknowledged in the last second comes again."""

    async def scenario() -> None:
        folder = tmp_path / "data"
        folder.mkdir()
        sent = [b"%d" % number for number in range(100)]
        with watched(folder) as disk:
            spool = Spool(folder / "spool", limit=1 << 20, segment_bytes=500)
            await spool.open()
            assert await spool.append(sent[:60]) == 60
            acked = len(await spool.read(45, 1 << 20))
            await spool.ack(acked)
            assert await spool.append(sent[60:]) == 40
            disk.cut(names=names)
            await spool.close()
        again = Spool(folder / "spool", limit=1 << 20)
        opened = await again.open()
        items = await again.read(200, 1 << 20)
        await again.close()
        assert opened.corrupt == 0
        assert items == sent[-len(items) :]
        assert 100 - acked <= len(items) <= 100

    asyncio.run(scenario())
