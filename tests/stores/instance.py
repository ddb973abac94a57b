"""One okstream process: what it writes to its standard output is read, or not, and what it says is kept."""

import asyncio
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from nats_server import until

TIMEOUT = 30.0
MORE = 60

_LINE = 2**16

_CONDITION = re.compile(r"sink (\w+) \w+, (\d+) waiting(?:, (\d+) on disk)?, (\d+) dropped")


class Instance:
    """
    `okstream run` with a configuration.

    Attributes:
        began: when it was started, in the loop's seconds.
        lines: what came out of it, whole lines only.
        told: what it said to people.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.began = asyncio.get_running_loop().time()
        self.lines: list[bytes] = []
        self.told: list[str] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._reads = asyncio.Event()
        self._reads.set()

    def block(self) -> None:
        """Do not read any more what it writes."""
        self._reads.clear()

    def unblock(self) -> None:
        self._reads.set()

    async def read(self) -> None:
        """Read until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            await self._reads.wait()
            if line.endswith(b"\n"):
                self.lines.append(line)
                one = orjson.loads(line)
                self._counts[one["channel"], one["inst"]] += one["type"] not in ("gap", "status")

    async def listen(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.told.append(line.decode())

    async def more(self, subscriptions: int) -> None:
        """Wait until it has written so many more lines, and one of each of so many subscriptions."""
        before, lines = self._counts.copy(), len(self.lines)

        def come() -> bool:
            assert self.process.returncode is None, "".join(self.told)
            grown = sum(count > before[sub] for sub, count in self._counts.items())
            return len(self.lines) >= lines + MORE and grown >= subscriptions

        await until(come, TIMEOUT)

    async def spilled(self, sink: str) -> None:
        """Wait until it says that `sink` has something on disk."""
        await self._says(lambda: self.most(sink)[0] > 0)

    async def dropped(self, sink: str) -> None:
        """Wait until it says that something was dropped in front of `sink`."""
        await self._says(lambda: self.most(sink)[1] > 0)

    async def _says(self, so: Callable[[], bool]) -> None:
        try:
            await until(so, TIMEOUT)
        except TimeoutError:
            raise AssertionError("".join(self.told[:30])) from None

    def most(self, sink: str) -> tuple[int, int]:
        """Return how many records it said, at most, that `sink` had on disk, and had dropped."""
        found = [match for match in map(_CONDITION.search, self.told) if match and match[1] == sink]
        return max((int(match[3] or 0) for match in found), default=0), max(
            (int(match[4]) for match in found), default=0
        )


@asynccontextmanager
async def running(config: Path, end: int, code: int = 0) -> AsyncIterator[Instance]:
    """Run okstream, then `end` it: asked to, it has to exit with `code`."""
    command = [sys.executable, "-m", "okstream", "run", "--config", str(config)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, limit=_LINE)
    instance = Instance(process)
    reading = asyncio.gather(instance.read(), instance.listen())
    try:
        yield instance
    finally:
        if process.returncode is None:
            process.send_signal(end)
        instance.unblock()
        async with asyncio.timeout(TIMEOUT):
            ended = await process.wait()
            await reading
    assert ended == (-signal.SIGKILL if end == signal.SIGKILL else code), "".join(instance.told)
