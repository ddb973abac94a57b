"""kill -9 of `okstream run`, for each sink and each policy: what is there then, and what the next run says of it."""

import asyncio
import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats_server import NatsServer, api, nats_server, stored
from support.commands import TIMEOUT, process, records, simulator

OWN = """
import os
from okstream.errors import RetryError


class Own:
    def __init__(self, *, path: str) -> None:
        self.path = path

    async def open(self):
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def write(self, batch):
        if os.path.exists("down"):
            raise RetryError("the line is engaged")
        os.write(self.file, b"".join(entry.line for entry in batch))

    async def close(self):
        os.close(self.file)
"""

SINKS = {
    "stdout": 'type = "stdout"',
    "file": 'type = "file"\npath = "kept.jsonl"',
    "nats": 'type = "nats"\nservers = "URL"',
    "plain": 'type = "nats"\nservers = "URL"\njetstream = false',
    "module:Class": 'type = "ownsinks:Own"\npath = "kept.jsonl"',
}
PROVING = {"file"}
"""Sinks that know what they hold."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ownsinks.py").write_text(OWN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@contextmanager
def running(folder: Path, exchange: str, sink: str, subscription: str = "trades-all:BTC-USDT") -> Iterator[Any]:
    (folder / "config.toml").write_text(
        f'stats = "50ms"\ndrain = 5\n[[source]]\nvenue = "okx"\nurl = "{exchange}"\n'
        f'subscriptions = ["{subscription}"]\n[sink.it]\n{sink}\n'
    )
    with process("run", "--config", "config.toml", cwd=folder) as one:
        yield one


class Store:
    """What there is of each run: the lines of a pipe, of files, of a stream, or what somebody heard."""

    def __init__(self, folder: Path, kind: str, server: NatsServer) -> None:
        self.folder, self.kind, self.server = folder, kind, server
        self.piped: list[str] = []
        self.heard: list[str] = []
        self._reading: threading.Thread | None = None

    def attach(self, one: Any) -> None:
        """Read what comes out of this process, so that it can write."""
        self._reading = threading.Thread(target=lambda: self.piped.extend(one.stdout))
        self._reading.start()

    def detach(self) -> None:
        assert self._reading is not None
        self._reading.join(TIMEOUT)

    async def listen(self) -> Client:
        async def keep(message: Any) -> None:
            self.heard.append(message.data.decode())

        client = Client()
        await client.connect(self.server.url)
        await client.subscribe("okstream.>", cb=keep)
        await client.flush()
        return client

    async def lines(self) -> list[dict[str, Any]]:
        """What it holds; a last line of a run that is not whole is left out."""
        if self.kind == "stdout":
            found = self.piped
        elif self.kind == "nats":
            known = "error" not in await api(self.server, "STREAM.INFO.OKSTREAM")
            found = [message.data.decode() for message in await stored(self.server)] if known else []
        elif self.kind == "plain":
            found = self.heard
        else:
            path = self.folder / "kept.jsonl"
            found = path.read_text().splitlines() if path.exists() else []
        whole = []
        for line in found:
            with suppress(json.JSONDecodeError):
                whole.append(json.loads(line))
        assert len(whole) >= len(found) - 1, "only what was being written can be torn"
        return whole


def runs(lines: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the lines of each run."""
    begins = [at for at, line in enumerate(lines) if line.get("state") == "started"]
    return [lines[begin:end] for begin, end in pairwise([*begins, len(lines)])]


async def until_trades(store: Store, one: Any, run: int, count: int) -> None:
    """Wait until there are so many trades of that run."""
    async with asyncio.timeout(TIMEOUT):
        while len(found := runs(await store.lines())) < run or sum(map(is_trade, found[run - 1])) < count:
            assert one.poll() is None
            await asyncio.sleep(0.05)


def is_trade(line: dict[str, Any]) -> bool:
    return line["type"] == "trade"


@pytest.mark.parametrize("kind", SINKS)
async def test_what_was_written_stays_after_a_kill_and_the_next_run_says_from_where_if_it_can(folder: Path, kind: str):
    with nats_server(folder / "nats") as server, simulator("--rate", "5") as (exchange, _):
        sink, store = SINKS[kind].replace("URL", server.url), Store(folder, kind, server)
        listener = await store.listen()
        with running(folder, exchange, sink) as one:
            store.attach(one)
            await until_trades(store, one, 1, 30)
            one.kill()
            one.wait()
            store.detach()
        left = await store.lines()
        with running(folder, exchange, sink) as one:
            store.attach(one)
            await until_trades(store, one, 2, 10)
            one.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(one.wait, TIMEOUT) == 0
            store.detach()
        both = await store.lines()
        await listener.close()
    assert both[: len(left)] == left
    first, second = runs(both)
    before, after = ([int(line["id"]) for line in filter(is_trade, lines)] for lines in (first, second))
    assert before == list(range(before[0], before[0] + len(before)))
    assert after == list(range(after[0], after[0] + len(after)))
    assert before[-1] < after[0]
    gaps = [(line["state"], line["reason"], line["after"], line["until"]) for line in second if line["type"] == "gap"]
    said = [("open", "start", str(before[-1]), None), ("closed", "start", str(before[-1]), str(after[0]))]
    assert gaps == (said if kind in PROVING else [])


POLICIES = {
    "drop_oldest": ("trades-all:BTC-USDT", 'lane_records = 50\nwhen_full = "drop_oldest"'),
    "drop_newest": ("trades-all:BTC-USDT", 'lane_records = 50\nwhen_full = "drop_newest"'),
    "latest": ("ticker:BTC-USDT", 'lane_records = 3\nwhen_full = "latest"'),
    "spill": ("trades-all:BTC-USDT", 'lane_records = 50\nwhen_full = "spill"\nspool = "spool"'),
    "spool_always": ("trades-all:BTC-USDT", 'lane_records = 50\nspool = "spool"\nspool_always = true'),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_of_what_waited_at_a_kill_comes_what_the_disk_has(folder: Path, policy: str):
    subscription, options = POLICIES[policy]
    sink = f"{SINKS['module:Class']}\nretry_most = 0.5\n{options}"
    down = folder / "down"
    down.touch()
    with simulator("--rate", "5") as (exchange, _):
        with running(folder, exchange, sink, subscription) as one:
            disk = 0
            for line in one.stderr:
                found = re.search(r"recovering, \d+ waiting(?:, (\d+) on disk)?, (\d+) dropped", line)
                disk = int(found[1] or 0) if found else disk
                if disk >= 50 or (found and int(found[2])):
                    break
            one.kill()
            one.communicate()
        down.unlink()
        with running(folder, exchange, sink, subscription) as one:
            path, last = folder / "kept.jsonl", '"closed"' if "spool" in options else '"live"'
            while not path.exists() or last not in path.read_text():
                assert one.poll() is None, one.stderr.read()
                time.sleep(0.02)
            one.send_signal(signal.SIGTERM)
            _, errors = one.communicate(timeout=TIMEOUT)
            assert one.returncode in (0, 4), errors  # the lane is small
    lines = records(path.read_text())
    started = [at for at, line in enumerate(lines) if line.get("state") == "started"]
    gaps = [line for line in lines if line["type"] == "gap"]
    if "spool" not in options:
        assert started == [0], "nothing of it is left"
        assert "start" not in {gap["reason"] for gap in gaps}, "and nothing proves that there was something"
        return
    numbers = [int(line["id"]) for line in lines if line["type"] == "trade"]
    behind = [gap for gap in gaps if gap["after"] is not None]  # what there was before the first, nobody knows
    closed = [(gap["reason"], int(gap["after"]), int(gap["until"])) for gap in behind if gap["state"] == "closed"]
    (start,) = [(after, until) for reason, after, until in closed if reason == "start"]
    # Nothing need have been missed between the runs; that there was nothing, nobody knows.
    missing = [pair for pair in pairwise(numbers) if pair[1] != pair[0] + 1 or pair == start]
    assert [(after, until) for _, after, until in closed] == missing
    assert lines.index(next(gap for gap in behind if gap["reason"] == "start")) >= disk, "what it said was on the disk"
