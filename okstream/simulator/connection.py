"""One client's WebSocket as the simulated exchange sees it, whatever the dialect."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

from aiohttp import WSMsgType, web

from okstream.simulator.log import Entry

_DONE = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


class Host(Protocol):
    """What a connection and its conversation need of the whole exchange; `thawed` is clear while it is frozen."""

    @property
    def thawed(self) -> asyncio.Event: ...

    def lost(self, connection: Connection, clean: bool) -> None: ...


class Conversation(Protocol):
    """One dialect's side of a connection."""

    def opened(self) -> None: ...

    def text(self, text: str) -> None: ...

    def stop(self) -> None: ...


class Connection:
    """
    Outgoing messages wait in a queue of their own, so a slow client holds nobody up.

    `subscriptions` are the live ones by key. `login` is the user's name once logged in. Until `muted_until`
    no push leaves, until `stalled_until` none of that key.
    """

    def __init__(self, host: Host, id: str, path: str, request: web.BaseRequest, limit: int | None) -> None:
        self.host = host
        self.id = id
        self.path = path
        self.query = dict(request.query)
        self.subscriptions: dict[str, Any] = {}
        self.login: str | None = None
        self.received = 0
        self.sent = 0
        self.half_open = False
        self.muted_until = 0.0
        self.stalled_until: dict[str, float] = {}
        self.gone = False
        self._clean = False
        self._limit = limit
        self._transport = request.transport
        self._queue: deque[tuple[str | bytes, Entry | None]] = deque()
        self._queued = 0
        self._wake = asyncio.Event()
        self._closing: tuple[int, bytes] | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self._aborted = False
        self._ended = asyncio.Event()

    async def serve(self, ws: web.WebSocketResponse, talk: Conversation, limit: int | None) -> None:
        """Read and write until one side ends it. `limit` is the largest frame in bytes."""
        loop = asyncio.get_running_loop()
        writer = loop.create_task(self._write(ws), name=f"simulator-writer-{self.id}")
        try:
            talk.opened()
            await self._read(ws, talk, limit)
        finally:
            self.gone = True
            talk.stop()
            self._unsend()
            self.host.lost(self, self._clean)
            if self._closing is None or self._aborted:
                writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            if self._overdue is not None:
                self._overdue.cancel()
            self._ended.set()

    async def _read(self, ws: web.WebSocketResponse, talk: Conversation, limit: int | None) -> None:
        while True:
            message = await ws.receive()
            await self.host.thawed.wait()
            if self.half_open and message.type not in (WSMsgType.CLOSED, WSMsgType.ERROR):
                await self._deaf()
                return
            if message.type is WSMsgType.TEXT:
                self.received += 1
                if limit is not None and len(message.data) > limit:
                    self.close(1009, "Request message exceeds the maximum frame length")
                else:
                    talk.text(message.data)
            elif message.type is WSMsgType.PING:
                await ws.pong(message.data)
            elif message.type in _DONE:
                # Only a close frame that answers nothing is the client's own wish to leave.
                self._clean = message.type is WSMsgType.CLOSE and self._closing is None
                if message.type is WSMsgType.CLOSE:
                    await ws.close()
                return

    async def _deaf(self) -> None:
        """Half-open: nothing is read or answered until the TCP connection is gone, looked at once a second."""
        while not self._aborted and self._transport is not None and not self._transport.is_closing():
            try:
                await asyncio.wait_for(self._ended.wait(), 1.0)
            except TimeoutError:
                continue

    def send(self, data: str | bytes, entry: Entry | None = None) -> bool:
        """Queue one message: text as a text frame, bytes as a binary one. False where it cannot leave."""
        if self.gone or self.half_open or self._closing is not None:
            return False
        self._queue.append((data, entry))
        self._queued += len(data)
        if self._limit is not None and self._queued > self._limit:
            self.close(4005, "Buffer is full, cannot write data")
            return False
        self._wake.set()
        return True

    def close(self, code: int, reason: str = "") -> None:
        """Close after what is queued has been written; a full buffer is not waited for."""
        if self._closing is None and not self.gone:
            self._closing = (code, reason.encode())
            if code == 4005:  # the writer may be stuck in a full socket: do not wait for it for ever
                self._unsend()
                self._overdue = asyncio.get_running_loop().call_later(2.0, self.abort)
            self._wake.set()

    @property
    def closing(self) -> int | None:
        return self._closing[0] if self._closing else None

    def abort(self) -> None:
        """End the TCP connection without a word."""
        self.gone = self._aborted = True
        self._unsend()
        self._ended.set()
        if self._transport is not None:
            self._transport.abort()

    def _unsend(self) -> None:
        """What is still queued never left."""
        for _, entry in self._queue:
            if entry is not None:
                entry.sent = False
        self._queue.clear()
        self._queued = 0

    async def _write(self, ws: web.WebSocketResponse) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.host.thawed.wait()
            while self._queue:
                data, entry = self._queue.popleft()
                self._queued -= len(data)
                if not await self._write_one(ws, data):
                    if entry is not None:
                        entry.sent = False
                    return
                await self.host.thawed.wait()
            if self._closing is not None:
                await ws.close(code=self._closing[0], message=self._closing[1])
                return

    async def _write_one(self, ws: web.WebSocketResponse, data: str | bytes) -> bool:
        try:
            if isinstance(data, str):
                await ws.send_str(data)
            else:
                await ws.send_bytes(data)
        except (ConnectionError, RuntimeError):  # aiohttp says RuntimeError where the socket is closing
            return False
        self.sent += 1
        return True
