"""A nats-server from its wheel, which can be killed, frozen and restarted, and a wire to it that loses answers."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

BINARY = Path(sys.executable).with_name("nats-server")
_START = 10.0


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
        while not self._greets():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < until, "nats-server does not answer"
            time.sleep(0.01)

    def _greets(self) -> bool:
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
        """It stays, but does nothing: SIGSTOP."""
        self._signal(signal.SIGSTOP)

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
    """

    def __init__(self, server: NatsServer) -> None:
        self.visits = 0
        self.lost = 0
        self.delay = 0.0
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
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
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
