"""A stream on a simulated exchange whose links are replaced, doubled and lost."""

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from okstream import Credentials, Stream, testing, venues
from okstream.records import Gap, Status
from okstream.simulator import TEST_ACCOUNT, Settings, Simulator
from okstream.venues import Venue

START_MS = testing.START_NS // 1_000_000
CREDENTIALS = Credentials(TEST_ACCOUNT.key, TEST_ACCOUNT.secret, TEST_ACCOUNT.passphrase)
PUBLIC = ("ticker:BTC-USDT", "trades:BTC-USDT", "book:BTC-USDT")


class Scene:
    """A simulated exchange, a stream open to it, and all that it has delivered so far."""

    def __init__(self, sim: Simulator, streaming: Stream) -> None:
        self.sim = sim
        self.streaming = streaming
        self.said: list[Any] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for record in self.streaming:
            self.said.append(record)

    async def subscribe(self, *subs: str) -> None:
        for sub in subs:
            await self.streaming.subscribe(sub, timeout=30)

    def links(self) -> list[str]:
        """What links have said of themselves."""
        return [said.state for said in self.said if isinstance(said, Status) and said.channel is None]

    def gaps(self) -> list[Gap]:
        return [said for said in self.said if isinstance(said, Gap)]

    def states(self) -> set[str]:
        return {state.state for state in self.streaming.state().subscriptions}

    def count(self) -> Counter[str]:
        return Counter(f"{said.channel}:{said.inst}" for said in self.said if not isinstance(said, Gap | Status))

    async def until(self, true: Callable[[], Any], within: float = 60.0, step: float = 0.01) -> None:
        for _ in range(int(within / step)):
            if true():
                return
            await asyncio.sleep(step)
        raise AssertionError("it did not come to that")


def virtually(scenario: Callable[[Scene], Any], dialect: str = "okx-v5", *, others: int = 0, **options: Any) -> Any:
    """Run `scenario` in virtual time; nothing may be left of it, and nobody may complain."""
    settings = options.pop("settings", {})

    async def whole() -> Any:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with Simulator(dialect, Settings(start_ms=START_MS, **settings)) as sim:
            before = asyncio.all_tasks()
            venue: Venue = replace(venues.simulated(dialect, sim.url, sim.rest_url), name="okx")
            venue = replace(venue, others=tuple(sim.url.replace("127.0.0.1", "localhost") for _ in range(others)))
            async with Stream(venue, **{"wall_ns": testing.wall_ns, "chance": random.Random(1), **options}) as stream:
                scene = Scene(sim, stream)
                result = await scenario(scene)
            await scene.reading
            await asyncio.sleep(3)
            assert sim.connections == []
            left = [task for task in asyncio.all_tasks() - before if not task.get_name().startswith("simulator")]
            assert left == []
        gc.collect()
        assert complaints == []
        return result

    return testing.run(whole)
