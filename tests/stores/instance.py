"""One okstream process: what it writes to its standard output is read, or not, and what it says is kept."""

import asyncio
import os
import re
import resource
import sys
from collections.abc import Iterable
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path

import orjson

from okstream.channels import Subscription
from okstream.dialects import Push, load

TIMEOUT = 60.0
_PIPE = 65536
_ROOT = Path(__file__).parents[1]
_WRITTEN = re.compile(r"sink (\w+): (\d+) records? written, (\d+) lost")


class Topics:
    """What a line is data of, by the keys of subscriptions that are served whatever happens: those of no account."""

    def __init__(self, dialect: str, subs: Iterable[Subscription]) -> None:
        self._dialect = load(dialect)
        self._keys = {(sub.channel, sub.inst): self._dialect.traits(sub).key for sub in subs if sub.account is None}
        self._all = set(self._keys.values())

    def __len__(self) -> int:
        return len(self._all)

    def of(self, line: bytes) -> set[str]:
        """Return the keys; none for a gap or a status."""
        if not line.startswith(b'{"type":'):
            messages = self._dialect.read(line)
            return self._all & {message.key for message in messages if isinstance(message, Push)}
        head = orjson.loads(line)
        key = self._keys.get((head["channel"], head["inst"]))
        return set() if key is None or head["type"] in ("gap", "status") else {key}


class Instance:
    """
    `okstream run` with a configuration.

    Attributes:
        began, asked: when it was started, and told to end, in the loop's seconds.
        lines: what came out of it, whole lines only.
        told: what it said to people.
    """

    def __init__(self, process: asyncio.subprocess.Process, out: int, began: float, topics: Topics) -> None:
        self.process = process
        self.topics = topics
        self.began, self.asked = began, float("inf")
        self.lines: list[bytes] = []
        self.told: list[str] = []
        self._out = out
        self._rest = b""
        self._blocks = 0
        self._drained = asyncio.Event()
        self._come = asyncio.Event()
        self._watched: list[set[str]] = []
        os.set_blocking(out, False)
        asyncio.get_running_loop().add_reader(out, self._read)
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, config: Path, topics: Topics) -> "Instance":
        """Run okstream with the configuration in that file, which asks for `topics`."""
        reads, writes = os.pipe()
        fcntl(writes, F_SETPIPE_SZ, _PIPE)
        command = [sys.executable, "-m", "okstream", "run", "--config", str(config)]
        began = asyncio.get_running_loop().time()
        env = os.environ | {"PYTHONPATH": str(_ROOT)}
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=writes, stderr=asyncio.subprocess.PIPE, env=env
            )
        finally:
            os.close(writes)
        return cls(process, reads, began, topics)

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    @property
    def blocked(self) -> bool:
        """Whether nobody reads what it writes."""
        return self._blocks > 0

    def block(self) -> None:
        """Do not read any more what it writes; as often as this is called, `unblock` has to be."""
        self._blocks += 1
        if self._blocks == 1 and not self._drained.is_set():
            asyncio.get_running_loop().remove_reader(self._out)

    def unblock(self) -> None:
        self._blocks -= 1
        if self._blocks == 0 and not self._drained.is_set():
            asyncio.get_running_loop().add_reader(self._out, self._read)

    def signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        if self.alive:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def fill_disk(self, full: bool) -> None:
        """No file of it can grow any more; or again."""
        with suppress(ProcessLookupError):
            most = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (0 if full else most, most))

    async def written(self) -> bool:
        """Wait until something of each topic has come out of it since; False where it ended before."""
        keys: set[str] = set()
        self._watched.append(keys)
        async with asyncio.timeout(TIMEOUT):
            while len(keys) < len(self.topics) and not self._drained.is_set():
                self._come.clear()
                await self._come.wait()
        self._watched.remove(keys)
        return len(keys) >= len(self.topics)

    async def end(self, number: int) -> int:
        """End it with that signal; return what it exits with."""
        self.asked = asyncio.get_running_loop().time()
        self.signal(number)
        async with asyncio.timeout(TIMEOUT):
            code = await self.process.wait()
            while self._blocks:
                self.unblock()
            await self._drained.wait()
            await self._listening
        return code

    def lost(self) -> dict[str, int]:
        """Return how many records it says at its end that each sink did not get."""
        return {found[1]: int(found[3]) for found in map(_WRITTEN.search, self.told) if found}

    def said(self, what: str) -> int:
        """Return how many lines to people hold `what`."""
        return sum(what in line for line in self.told)

    def _read(self) -> None:
        text = os.read(self._out, 1 << 18)
        if not text:
            asyncio.get_running_loop().remove_reader(self._out)
            os.close(self._out)
            self._drained.set()
            self._come.set()
            return
        *lines, self._rest = (self._rest + text).split(b"\n")
        self.lines += [line + b"\n" for line in lines]
        if any(len(keys) < len(self.topics) for keys in self._watched):
            come = set().union(*map(self.topics.of, lines))
            for keys in self._watched:
                keys |= come
        self._come.set()

    async def _listen(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.told.append(line.decode())
