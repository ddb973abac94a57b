"""The contract that okstream.testing exports, over the sinks that come with okstream."""

import asyncio
import fcntl
import os
import resource
import threading
import unittest
from contextlib import suppress
from pathlib import Path

import pytest
from backports import zstd
from nats_server import NatsServer, stored

from okstream.records import Trade
from okstream.sinks.file import File
from okstream.sinks.lines import Lines
from okstream.sinks.nats import Nats
from okstream.testing import SinkContract


class TestLines(SinkContract):
    """A pipe, whose reader may stop reading."""

    async def begin(self):
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 65536)
        self.data = bytearray()
        self.flows = threading.Event()
        self.flows.set()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        while True:
            self.flows.wait()
            data = os.read(self.reading, 65536)
            if not data:
                return
            self.data += data

    def sink(self):
        return Lines(self.writing, "the pipe")

    async def held(self):
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1
            await asyncio.to_thread(self.thread.join)
        return bytes(self.data).splitlines(keepends=True)

    async def freeze(self):
        self.flows.clear()
        os.write(self.writing, b"")

    async def thaw(self):
        self.flows.set()

    async def end(self):
        self.flows.set()
        await self.held()
        os.close(self.reading)


class Limited(SinkContract):
    """Files, and a disk that has no room for them while it is down: no file may grow."""

    compress = "none"

    async def take_down(self):
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self.limits[1]))

    async def bring_up(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)

    async def end(self):
        with suppress(AttributeError):
            await self.bring_up()

    def read(self, path: Path) -> list[bytes]:
        data = path.read_bytes()
        return (zstd.decompress(data) if path.suffix == ".zst" else data).splitlines(keepends=True)


class TestGrowingFile(Limited):
    def sink(self):
        return File(path=str(self.folder / "lines.jsonl"))

    async def held(self):
        return self.read(self.folder / "lines.jsonl")


class TestGrowingZstdFile(Limited):
    def sink(self):
        return File(path=str(self.folder / "lines.jsonl.zst"))

    async def held(self):
        return self.read(self.folder / "lines.jsonl.zst")


class TestSegments(Limited):
    """Files of a hundred kilobytes, one after the other for each instrument."""

    def sink(self):
        return File(path=str(self.folder / "{inst}" / "{date}.jsonl"), rotate_mib=0.1)

    async def held(self):
        paths = [path for path in sorted(self.folder.glob("*/*.jsonl*")) if path.suffix in {".jsonl", ".part"}]
        return [line for path in paths for line in self.read(path)]


class TestNats(SinkContract):
    once = True
    many = 1000

    async def begin(self):
        self.server = NatsServer(self.folder)
        await asyncio.to_thread(self.server.start)

    async def end(self):
        await asyncio.to_thread(self.server.stop)

    def sink(self):
        return Nats(servers=self.server.url, ack_timeout=2.0)

    async def held(self):
        return [message.data for message in await stored(self.server)]

    async def take_down(self):
        await asyncio.to_thread(self.server.kill)

    async def bring_up(self):
        await asyncio.to_thread(self.server.start)

    async def freeze(self):
        self.server.freeze()

    async def thaw(self):
        self.server.thaw()

    def poison(self):
        return Trade("okx", "trades", "AAA-USDT", 1, 1, "x" * 2_000_000, "1", "1", "buy", 1)


# -- what the contract finds


class Kept:
    """Lines in a list, which outlives it; as good as a sink can be."""

    def __init__(self, lines):
        self.lines = lines
        self.open_now = False

    async def open(self):
        self.open_now = True

    async def write(self, batch):
        assert self.open_now
        self.lines += [entry.line for entry in batch]

    async def close(self):
        self.open_now = False


class Forgetful(Kept):
    async def write(self, batch):
        self.lines += [entry.line for entry in batch if entry.type != "trade" or entry.about.id != "7"]


class Swapping(Kept):
    async def write(self, batch):
        self.lines += [entry.line for entry in reversed(batch)]


class Doubling(Kept):
    async def write(self, batch):
        self.lines += [entry.line for entry in batch for _ in "ab"]


class Editing(Kept):
    async def write(self, batch):
        self.lines += [entry.line.replace(b"\\n", b"n") for entry in batch]


class Silent(Kept):
    async def write(self, batch):
        self.lines += [entry.line for entry in batch if entry.type not in {"gap", "status"}]


class Queueing(Kept):
    """Says that it has written what it has not."""

    late = ()

    async def write(self, batch):
        self.lines += self.late
        self.late = [entry.line for entry in batch]


class Once(Kept):
    """Cannot be opened again."""

    opened = 0

    async def open(self):
        self.opened += 1
        assert self.opened == 1


class Overwriting(Kept):
    """Begins anew each time."""

    async def open(self):
        self.lines.clear()


def verdicts(kind, folder):
    """Run the whole contract over a kind of sink; return which tests it fails."""

    class Suite(SinkContract):
        patience = 5.0
        many = 300

        async def begin(self):
            self.lines = []

        def sink(self):
            return kind(self.lines)

        async def held(self):
            return self.lines

    failed = []
    for number, name in enumerate(name for name in vars(SinkContract) if name.startswith("test_")):
        place = folder / str(number)
        place.mkdir()
        try:
            getattr(Suite(), name)(place)
        except AssertionError:
            failed.append(name)
        except unittest.SkipTest:
            continue
    return failed


def test_a_good_sink_passes(tmp_path):
    assert verdicts(Kept, tmp_path) == []


@pytest.mark.parametrize("kind", [Forgetful, Swapping, Doubling, Editing, Silent, Queueing, Once, Overwriting])
def test_a_sink_that_breaks_its_promise_is_found(kind, tmp_path):
    assert verdicts(kind, tmp_path)


@pytest.mark.parametrize("name", [name for name in vars(SinkContract) if name.startswith("test_")])
def test_the_contract_s_tests_have_names_that_are_sentences(name):
    assert len(name.split("_")) > 5
