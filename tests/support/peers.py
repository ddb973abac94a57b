"""Servers that behave as no exchange should."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trustme


@dataclass
class Peer:
    """A TCP server: `heads` are the requests it got, as far as the empty line."""

    port: int = 0
    heads: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


Answer = Callable[[Peer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp(answer: Answer) -> AsyncIterator[Peer]:
    """Serve: read a request's head, then do as `answer` says, then hang up."""
    peer = Peer()
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        peer.writers.add(writer)
        try:
            peer.times.append(asyncio.get_running_loop().time())
            peer.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            await answer(peer, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            peer.writers.discard(writer)
            writer.transport.abort()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def http(status: str, *headers: str) -> Answer:
    """Answer each request with this status and these header lines."""

    async def answer(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join([f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "", ""]).encode())
        await writer.drain()

    return answer


async def silence(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing, until the other end has left."""
    while await reader.read(65536):
        pass


async def tunnel(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An HTTP proxy: connect where the request says."""
    host, port = peer.heads[-1].split()[1].split(":")
    far_reader, far_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
        target.close()

    back = asyncio.create_task(pass_on(far_reader, writer))
    try:
        await pass_on(reader, far_writer)
        await back
    finally:
        back.cancel()
        far_writer.transport.abort()
        await asyncio.gather(back, return_exceptions=True)


def certificate() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a certificate of 127.0.0.1 by an authority of our own; return a server's context and a trusting client's."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client
