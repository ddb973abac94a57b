"""A process that is stopped for up to 45 s, in real time: it wakes up with a full socket, or to a closed one."""

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import MISSING, fields, replace
from types import SimpleNamespace
from typing import Any

import orjson
from oracle import compare

from okstream.channels import parse
from okstream.dialects import Dialect, load
from okstream.records import TYPES, AnyRecord, Status
from okstream.simulator import Settings, Simulator

from .episodes import Proof
from .running import watching
from .schedule import wanted

_LAST = 50.0
"""Seconds at the end in which nothing is stopped any more."""


def freezes(seed: int, seconds: float) -> Proof:
    """Stop and continue a streaming process, or its exchange, for `seconds` of real time."""
    try:
        return asyncio.run(_freezes(random.Random(f"freezes/{seed}"), seed, seconds))
    except asyncio.CancelledError:
        os._exit(1)  # a worker that was told to end; its pool waits for that


async def _freezes(rng: random.Random, seed: int, seconds: float) -> Proof:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)  # nothing may stay behind stopped
    dialect, redundancy = rng.choice(("okx-v5", "okx-v5", "okex-v3", "okex-v1")), rng.choice((1, 2))
    start_ns = time.time_ns() - int(loop.time() * 1e9)
    began, subs = loop.time(), wanted(dialect, 4)
    async with Simulator(dialect, Settings(seed=seed, rate=0.3, log_limit=10_000_000)) as sim:
        command = ["-m", "soak.child", dialect, sim.url, sim.rest_url, str(redundancy), *subs]
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=pipe, limit=2**24)
        records: list[AnyRecord] = []
        reading = asyncio.create_task(_read(child, records))
        try:
            async with watching(sim) as alive:
                asleep = await _stops(rng, sim, child, began + seconds - _LAST)
                await asyncio.sleep(_LAST)
                end, feeds = loop.time(), _feeds(load(dialect), subs, records)
                await asyncio.sleep(1)
                assert child.returncode is None, f"the process ended with {child.returncode}"
        finally:
            if child.returncode is None:
                child.send_signal(signal.SIGCONT)
                child.terminate()
            await child.wait()
            await reading
        report = compare(sim.log, load(dialect), feeds, records, end - 1, alive, start_ns, asleep)
        stops = Counter({"SIGSTOP": len(asleep)})
        return Proof(report, end - began, stops + sim.counters.faults, runs=1)


async def _stops(rng: random.Random, sim: Simulator, child: Any, until: float) -> list[tuple[float, float]]:
    loop, asleep = asyncio.get_running_loop(), []
    await asyncio.sleep(8)
    while (left := until - loop.time()) > 1:
        pause = min(rng.choice((rng.uniform(1, 8), rng.uniform(1, 45))), left)
        stopped = loop.time()
        if rng.random() < 0.25:
            sim.inject(f"freeze:seconds={pause:.0f}")
            await asyncio.sleep(pause)
        else:
            child.send_signal(signal.SIGSTOP)
            await asyncio.sleep(pause)
            child.send_signal(signal.SIGCONT)
            # What waited is read at once, but not in no time.
            asleep.append((stopped, loop.time() + 3.0))
        await asyncio.sleep(rng.uniform(1, 15))
    return asleep


async def _read(child: Any, records: list[AnyRecord]) -> None:
    async for line in child.stdout:
        if line.endswith(b"\n"):
            records.append(decoded(line))


def decoded(line: bytes) -> AnyRecord:
    """Return the record that `encode` made this line of."""
    values = orjson.loads(line)
    kind = TYPES[values.pop("type")]
    missing = {field.name for field in fields(kind) if field.init and field.default is MISSING} - values.keys()
    record: AnyRecord = kind(**values, **dict.fromkeys(missing))
    return record


def _feeds(dialect: Dialect, subs: list[str], records: list[AnyRecord]) -> list[Any]:
    """What the oracle needs to know of the feeds in the other process."""
    feeds: dict[tuple[Any, ...], Any] = {}
    for sub in (sub for text in subs for sub in parse(text)):
        traits = dialect.traits(sub)
        sub = replace(sub, account="main" if traits.login else None)
        feeds[sub.channel, sub.inst, sub.account] = SimpleNamespace(sub=sub, venue="sim", traits=traits, state="")
    for record in records:
        feed = feeds.get((record.channel, record.inst, record.account)) if isinstance(record, Status) else None
        if feed is not None:
            feed.state = record.state
    assert all(feed.state == "live" for feed in feeds.values()), "not all is live again"
    return list(feeds.values())
