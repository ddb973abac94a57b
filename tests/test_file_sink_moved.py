"""The file that grows, when what is at its path goes away and comes back."""

import asyncio
import fcntl
import os

import orjson
import pytest
from support.filed import lines

from okstream.sinks.file import File
from okstream.testing.behind import Behind

TIMEOUT = 30


async def met(true):
    for _ in range(100 * TIMEOUT):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def volume(path):
    """Have `path` lead to a volume; return what takes that away, and what brings it back."""
    there, aside = path.parent / "there", path.parent / "aside"
    there.mkdir()
    path.symlink_to(there / path.name)
    return lambda: there.rename(aside), lambda: aside.rename(there)


def folder(path):
    """Have a folder stand there once the file is moved."""

    def take():
        path.rename(path.with_name("all.1"))
        path.mkdir()

    return take, path.rmdir


def lock(path):
    """Have somebody else hold what is there once the file is moved."""
    holders = []

    def take():
        path.rename(path.with_name("all.1"))
        holders.append(path.open("ab"))
        fcntl.flock(holders[0], fcntl.LOCK_EX)

    return take, lambda: holders[0].close()


def pipe(path):
    """Have a named pipe that nobody reads stand there once the file is moved."""

    def take():
        path.rename(path.with_name("all.1"))
        os.mkfifo(path)

    return take, path.unlink


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.zst"])
@pytest.mark.parametrize("absent", [volume, folder, lock, pipe])
async def test_a_file_that_cannot_be_made_again_yet_is_tried_again_and_everything_stands_once(tmp_path, absent, name):
    path = tmp_path / name
    take, give_back = absent(path)
    behind = Behind(File(path=str(path)), "a1")
    await behind.start()
    behind.trades(3)
    await met(lambda: behind.state.written == 3)
    take()
    behind.trades(3)
    await met(lambda: behind.state.retries > 2 or behind.pump.failure is not None)
    assert (behind.state.state, behind.pump.failure) == ("recovering", None)
    give_back()
    behind.trades(3)
    await behind.finish(TIMEOUT)
    assert (behind.state.state, behind.state.written, behind.state.lost) == ("ok", 9, 0)
    before = tmp_path / "all.1"
    held = [line for one in (before, path) if one.exists() for line in lines(one)]
    assert [orjson.loads(line)["id"] for line in held] == [one.id for one in behind.given]
    again = File(path=str(path))
    await again.open()
    assert sorted(one.after for one in again.proven()) == ["7", "8", "9"]
    await again.close()


async def test_a_file_that_is_away_to_the_end_is_closed_all_the_same(tmp_path):
    path = tmp_path / "all.jsonl"
    take, _ = volume(path)
    behind = Behind(File(path=str(path)), "a1")
    await behind.start()
    behind.trades(3)
    await met(lambda: behind.state.written == 3)
    take()
    behind.trades(2)
    await met(lambda: behind.state.retries > 2)
    await behind.abandon()
    assert (behind.state.lost, len(lines(tmp_path / "aside" / path.name))) == (2, 3)
