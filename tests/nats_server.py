"""A nats-server from its wheel, which can be killed, frozen and restarted, and a wire to it that loses answers."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson
from nats.aio.client import Client

from okstream.encoding import encode
from okstream.entries import Entry
from okstream.errors import RejectedError, ReopenError, RetryError, SinkError
from okstream.records import Trade
from okstream.sinks import Sink

BINARY = Path(sys.executable).with_name("nats-server")
_START = 10.0
_AGAIN = 0.02


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """
    A server with a store in `folder`, on a port of its own that stays the same when it is started again.

    Args:
        more: lines for its configuration.
        jetstream: whether it has JetStream.
    """

    def __init__(self, folder: Path, more: str = "", *, jetstream: bool = True) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        store = f'jetstream {{ store_dir: "{folder}" }}\n' if jetstream else ""
        self._config = folder / "server.conf"
        self._config.write_text(f'host: "127.0.0.1"\nport: {self.port}\n{store}{more}\n')

    def start(self) -> None:
        """Start it and wait until it answers; its log is in the folder."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen([BINARY, "-c", self._config], stdout=log, stderr=log)
        until = time.monotonic() + _START
        while not self.greets():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < until, "nats-server does not answer"
            time.sleep(0.01)

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The one that runs now."""
        return self._process

    def greets(self) -> bool:
        """Whether it answers."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as probe:
            probe.settimeout(1.0)
            return probe.recv(4) == b"INFO"
        return False

    def kill(self) -> None:
        """kill -9."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """It stays, but does nothing: SIGSTOP, and it has stopped when this returns."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self.thaw()
            self.kill()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Wire:
    """
    Passes bytes between clients and a server, on a port of its own.

    Attributes:
        url: where clients connect to.
        visits: connections so far.
        lost: acknowledgements it has swallowed.
        lose: asked for each message to a client, by its bytes; those it says True to are swallowed.
        delay: seconds that every answer of the server is late.
        said: what clients said to the server.
    """

    def __init__(self, server: NatsServer) -> None:
        self.visits = 0
        self.lost = 0
        self.delay = 0.0
        self.said = bytearray()
        self.lose: Callable[[bytes], bool] = lambda message: False
        self.url = ""
        self._to = server.port
        self._listener: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._visit, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        self.cut()
        await self._listener.wait_closed()

    def cut(self) -> None:
        """Break all connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            return writer.transport.abort()
        self._writers += [writer, back]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forth(reader, back))
                group.create_task(self._answers(there, writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            back.transport.abort()

    async def _forth(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            self.said += data
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            line = message = await reader.readuntil(b"\r\n")
            if line.startswith((b"MSG ", b"HMSG ")):
                message += await reader.readexactly(int(line.split()[-1]) + 2)
                if self.lose(message):
                    self.lost += 1
                    continue
            if self.delay:
                await asyncio.sleep(self.delay)
            writer.write(message)
            await writer.drain()


@contextmanager
def nats_server(folder: Path, more: str = "", *, jetstream: bool = True) -> Iterator[NatsServer]:
    """A running server."""
    folder.mkdir(parents=True, exist_ok=True)
    with NatsServer(folder, more, jetstream=jetstream) as server:
        yield server


def trades(count: int, instruments: int = 5, first: int = 0) -> list[Entry]:
    """`count` trades, their ids ascending, of `instruments` in turn."""
    records = [
        Trade("okx", "trades", f"I{number % instruments}-USDT", number, number, str(number), "1.5", "2", "buy", 1)
        for number in range(first, first + count)
    ]
    return [Entry(encode(record), record) for record in records]


@dataclass(slots=True)
class Stored:
    """One message of a stream."""

    subject: str
    headers: dict[str, str]
    data: bytes

    @property
    def id(self) -> int:
        """The trade's."""
        return int(orjson.loads(self.data)["id"])


@asynccontextmanager
async def watching(server: NatsServer) -> AsyncIterator[Client]:
    """A connection of the test's own."""
    client = Client()
    await client.connect(server.url)
    try:
        yield client
    finally:
        await client.close()


async def api(server: NatsServer, what: str, **question: object) -> dict[str, Any]:
    """What JetStream answers."""
    async with watching(server) as client:
        answer = await client.request(f"$JS.API.{what}", orjson.dumps(question) if question else b"", timeout=5)
        return dict(orjson.loads(answer.data))


async def stored(server: NatsServer, stream: str = "OKSTREAM") -> list[Stored]:
    """Everything `stream` holds, in its order."""
    count = (await api(server, f"STREAM.INFO.{stream}"))["state"]["messages"]
    async with watching(server) as client:
        subscription = await client.jetstream().subscribe("", stream=stream, ordered_consumer=True)
        messages = [await subscription.next_msg(timeout=10) for _ in range(count)]
    return [Stored(message.subject, dict(message.headers or {}), message.data) for message in messages]


async def once_each_in_order(server: NatsServer, entries: Sequence[Entry], instruments: int = 5) -> bool:
    """Whether the stream holds every identity of `entries` once, and the ids of each instrument ascending."""
    ids = [message.id for message in await stored(server)]
    each = [[number for number in ids if number % instruments == place] for place in range(instruments)]
    in_order = all(of_one == sorted(of_one) for of_one in each)
    return in_order and sorted(ids) == sorted(int(entry.fields["id"]) for entry in entries)


@dataclass(slots=True)
class Deliverer:
    """
    What a lane does with a sink: batches in order, and what a sink could not write again.

    Attributes:
        errors: what the sink raised on the way.
        rejected: entries that can never be stored.
    """

    sink: Sink
    batch: int = 500
    errors: list[SinkError] = field(default_factory=list)
    rejected: list[Entry] = field(default_factory=list)

    async def deliver(self, entries: Sequence[Entry]) -> None:
        """Write all of `entries` to the sink, which is open."""
        for start in range(0, len(entries), self.batch):
            pending = list(entries[start : start + self.batch])
            while pending:
                pending = await self._write(pending)

    async def _write(self, batch: list[Entry]) -> list[Entry]:
        try:
            await self.sink.write(batch)
        except RetryError as error:
            self.errors.append(error)
            self.rejected += [batch[place] for place in error.rejected]
            left = error.pending if error.pending is not None else range(len(batch))
            if isinstance(error, ReopenError):
                await self._reopen()
            else:
                await asyncio.sleep(_AGAIN)
            return [batch[place] for place in left if place not in error.rejected]
        except RejectedError as error:
            self.rejected += [batch[place] for place in error.rejected]
        return []

    async def _reopen(self) -> None:
        await self.sink.close()
        while True:
            try:
                return await self.sink.open()
            except RetryError as error:
                self.errors.append(error)
                await self.sink.close()
                await asyncio.sleep(_AGAIN)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for `condition`, not for longer than that."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
