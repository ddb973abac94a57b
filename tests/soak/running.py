"""A simulated exchange, a stream on it, and the oracle's verdict."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from oracle import Report, compare

from okstream import Credentials, testing, venues
from okstream.dialects import load
from okstream.records import AnyRecord
from okstream.simulator import TEST_ACCOUNT, Settings, Simulator
from okstream.simulator.connection import Connection
from okstream.stream import Stream

_LOOK = 0.25


@dataclass
class Run:
    """One stream on one simulated exchange. `alive` is when each connection was last seen, by its id."""

    sim: Simulator
    stream: Stream
    alive: dict[str, float]
    records: list[AnyRecord] = field(default_factory=list)

    @property
    def feeds(self) -> list[Any]:
        return [feed for feed, _ in self.stream._feeds.values()]

    def lives(self, path: str = "") -> list[Connection]:
        """The connections that are up and carry something."""
        found = [one for one in self.sim.connections if not one.gone and not one.half_open and one.closing is None]
        return [one for one in found if one.path.endswith(path) and one.subscriptions]

    async def complete(self, redundancy: int) -> None:
        """Wait until each path and login has `redundancy` connections that carry the same, and nothing else."""
        while True:
            groups: dict[tuple[str, str | None, frozenset[str]], int] = {}
            for one in self.lives():
                key = (one.path, one.login, frozenset(one.subscriptions))
                groups[key] = groups.get(key, 0) + 1
            unseen = len(self.stream._links.canaries)
            wanted = sum(feed.state != "refused" for feed in self.feeds) + unseen
            carried = sum(len(keys) for _, _, keys in groups)
            if carried >= wanted and all(count == redundancy for count in groups.values()):
                # What is pushed first, and what was under way before, is there a moment later.
                await asyncio.sleep(3)
                return
            await asyncio.sleep(0.1)

    def judge(self, several: bool = True) -> Report:
        """
        Compare what was delivered so far; `several`: more than one connection at a time carried it.

        Raises:
            AssertionError: see `oracle.compare`; or a subscription is not served again.
        """
        down = [f"{feed.sub} is {feed.state}" for feed in self.feeds if feed.state not in ("live", "refused")]
        assert not down, f"not served again: {down}"
        now = asyncio.get_running_loop().time()
        alive = self.alive if several else None
        return compare(self.sim.log, load(self.sim.dialect), self.feeds, list(self.records), now, alive)

    async def read(self) -> None:
        async for record in self.stream:
            self.records.append(record)


@asynccontextmanager
async def watching(sim: Simulator) -> AsyncIterator[dict[str, float]]:
    """Note when each connection was last seen, by its id."""
    alive: dict[str, float] = {}

    async def watch() -> None:
        while True:
            now = asyncio.get_running_loop().time()
            alive.update({connection.id: now for connection in sim.connections if not connection.gone})
            await asyncio.sleep(_LOOK)

    task = asyncio.create_task(watch())
    try:
        yield alive
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def running(dialect: str, wanted: Sequence[str], seed: int = 1, **options: Any) -> AsyncIterator[Run]:
    """Run a stream that is subscribed to all of `wanted`; `options` are of Settings, or else of Stream."""
    known = {name: options.pop(name) for name in list(options) if name in Settings.__dataclass_fields__}
    settings = Settings(**{"start_ms": testing.START_NS // 1_000_000, "rate": 0.5, "seed": seed, **known})
    async with Simulator(dialect, settings=settings) as sim:
        venue = venues.simulated(dialect, sim.url, sim.rest_url)
        credentials = Credentials(TEST_ACCOUNT.key, TEST_ACCOUNT.secret, TEST_ACCOUNT.passphrase)
        chance = random.Random(seed)
        async with (
            Stream(venue, accounts=credentials, wall_ns=testing.wall_ns, chance=chance, **options) as stream,
            watching(sim) as alive,
        ):
            run = Run(sim, stream, alive)
            for one in wanted:
                await stream.subscribe(one, timeout=60)
            reading = asyncio.create_task(run.read())
            try:
                yield run
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
