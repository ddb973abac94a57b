"""
The sender, in a process of its own: frames to one client after another, as fast as its socket takes them.

It talks with the measuring process in lines. Out: `port N` once; then for each client `ready` when all is subscribed
to and the books' snapshots are sent, and `sent N` when N messages are known to have been read. In: `go`, `close`.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator

import orjson
import uvloop
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from .market import INSTRUMENTS, Market
from .wires import WIRES, Wire

CHANNELS = 3
_CHUNK = 64 * 1024
_PREBUILT = 200_000


def _chunks(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Join frames to pieces that are worth a call of the socket."""
    waiting: list[bytes] = []
    size = 0
    for frame in frames:
        waiting.append(frame)
        size += len(frame)
        if size >= _CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


class Visit:
    """One client, from handshake to close."""

    def __init__(self, sender: "Sender", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._sender = sender
        self._reader = reader
        self._writer = writer
        self._protocol = ServerProtocol()
        self._subscribed: set[str] = set()
        self._read = asyncio.Event()
        self._blasting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Answer until the client has gone."""
        while data := await self._reader.read(_CHUNK):
            self._protocol.receive_data(data)
            for event in self._protocol.events_received():
                if isinstance(event, Request):
                    self._protocol.send_response(self._protocol.accept(event))
                elif isinstance(event, Frame):
                    self._answer(event)
            for piece in self._protocol.data_to_send():
                self._writer.write(piece) if piece else self._writer.write_eof()
        if self._blasting is not None:
            self._blasting.cancel()
        self._writer.close()

    def _answer(self, frame: Frame) -> None:
        wire = self._sender.wire
        if frame.opcode is Opcode.PONG:
            self._read.set()
        elif frame.data == b"ping":
            self._writer.write(wire.frame(b"pong"))
        elif frame.opcode is Opcode.TEXT:
            request = orjson.loads(frame.data)
            self._writer.writelines(wire.acks(request))
            self._subscribed |= {str(arg) for arg in request["args"]}
            if len(self._subscribed) == CHANNELS * len(INSTRUMENTS) and self._blasting is None:
                self._blasting = asyncio.create_task(self._blast())

    async def _blast(self) -> None:
        sender = self._sender
        market = Market(sender.wire)
        self._writer.writelines(market.snapshots())
        say("ready")
        await sender.told("go")
        # A prebuilt stream began with the same snapshots: every market is the same.
        for chunk in sender.prebuilt or _chunks(market.messages(sender.count)):
            self._writer.write(chunk)
            await self._writer.drain()
        self._protocol.send_ping(b"")
        self._writer.writelines(self._protocol.data_to_send())
        await self._read.wait()
        say(f"sent {sender.count}")
        await sender.told("close")
        self._protocol.send_close(1000)
        self._writer.writelines(self._protocol.data_to_send())


class Sender:
    """What all visits share: the stream, and the ear for the measuring process."""

    def __init__(self, wire: Wire, count: int) -> None:
        self.wire = wire
        self.count = count
        self.prebuilt: list[bytes] = []
        if count <= _PREBUILT:
            market = Market(wire)
            market.snapshots()
            self.prebuilt = list(_chunks(market.messages(count)))

    async def told(self, word: str) -> None:
        """Wait for `word`; anything else, the end too, ends this process."""
        line = await asyncio.to_thread(sys.stdin.readline)
        if line.strip() != word:
            sys.exit(f"expected {word!r}, was told {line!r}")

    async def run(self) -> None:
        async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await Visit(self, reader, writer).run()

        server = await asyncio.start_server(visit, "127.0.0.1", 0, limit=1 << 20)
        say(f"port {server.sockets[0].getsockname()[1]}")
        await server.serve_forever()


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("generation", choices=WIRES)
    parser.add_argument("count", type=int)
    given = parser.parse_args()
    uvloop.run(Sender(WIRES[given.generation], given.count).run())
