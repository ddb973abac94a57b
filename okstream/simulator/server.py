"""The front door of the simulated exchange: one loopback port for WebSocket, REST and control."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

from aiohttp import web

from okstream.errors import ConfigError
from okstream.simulator import control, listings, v1, v3, v5
from okstream.simulator.connection import Connection
from okstream.simulator.engine import Engine, Subscription
from okstream.simulator.faults import IMMEDIATE, OUTER, Fault
from okstream.simulator.log import Counters, Log
from okstream.simulator.settings import Settings
from okstream.simulator.talk import Talk
from okstream.simulator.v5_rest import Rest

DIALECTS = {"okx-v5": v5.PATHS, "okex-v3": v3.PATHS, "okex-v1": v1.PATHS}
TALKS: dict[str, type[Talk]] = {"okx-v5": v5.V5, "okex-v3": v3.V3, "okex-v1": v1.V1}


class Simulator:
    """
    A whole simulated exchange, for `async with`.

    Listens while the block runs; afterwards no task and no socket is left. `url` is the base of all
    WebSocket paths, `urls` the paths of this dialect by name, `rest_url` the base of REST, `control_url`
    takes fault texts by POST with `Authorization: Bearer <token>`.

    Raises:
        ConfigError: no such dialect.
        OSError: the port is taken.
    """

    def __init__(
        self,
        dialect: str = "okx-v5",
        settings: Settings | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        if dialect not in DIALECTS:
            raise ConfigError(f"no simulated dialect {dialect!r}; there are: {', '.join(DIALECTS)}")
        self.dialect = dialect
        self.settings = settings or Settings()
        self.host = host
        self.port = port
        self.token = secrets.token_urlsafe(18)
        self.connections: list[Connection] = []
        self.engine: Engine
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted: deque[float] = deque()
        self._half_open = False
        self._down = False
        self._talks: dict[str, Talk] = {}
        self._rng = random.Random(f"{self.settings.seed}/connections")
        self._site: web.TCPSite | None = None
        self._stopping = asyncio.Event()

    # What a test looks at

    @property
    def url(self) -> str:
        return f"ws://{self.host}:{self.port}"

    @property
    def urls(self) -> dict[str, str]:
        return {name: self.url + path for name, path in DIALECTS[self.dialect].items()}

    @property
    def rest_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def control_url(self) -> str:
        return self.rest_url + control.PATH

    @property
    def log(self) -> Log:
        return self.engine.log

    @property
    def counters(self) -> Counters:
        return self.engine.counters

    @property
    def thawed(self) -> asyncio.Event:
        return self.engine.thawed

    # Life

    async def __aenter__(self) -> Simulator:
        loop = asyncio.get_running_loop()
        self.engine = Engine(self.settings, loop)
        app = web.Application(client_max_size=256 * 1024)
        app.on_response_prepare.append(self._date)
        sockets = [web.get(path, self._websocket) for path in DIALECTS[self.dialect].values()]
        for route in (*sockets, *Rest(self.engine).routes(), *control.routes(self)):
            app.add_routes([web.RouteDef(route.method, route.path, self._unless_down(route.handler), route.kwargs)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await self._listen()
        self._spawn(self.engine.run(), "simulator-market")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Abort every connection and stop listening."""
        self._stopping.set()
        self.thawed.set()
        for connection in list(self.connections):
            connection.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await self._runner.cleanup()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _listen(self) -> None:
        self._site = web.TCPSite(self._runner, self.host, self.port, reuse_address=True)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # A failed task stays, so that `stop` raises what it failed with.
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)

    def _unless_down(self, handler: Any) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """
        While killed, an HTTP connection kept alive from before is dead as well; while frozen, everybody waits. The
        control endpoint is not part of the exchange.
        """

        # Not a middleware: aiohttp remembers the handlers of those, and with them the whole exchange, after it ended.
        async def handle(request: web.Request) -> web.StreamResponse:
            if request.path != control.PATH:
                await self.thawed.wait()
            if self._down and request.transport is not None:
                request.transport.abort()
            response: web.StreamResponse = await handler(request)
            return response

        return handle

    async def _date(self, _: web.BaseRequest, response: web.StreamResponse) -> None:
        response.headers["Date"] = formatdate(self.engine.clock.ms() / 1000, usegmt=True)

    # WebSocket

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        refused = self._handshake_refusal(request.path)
        if refused is not None:
            self.counters.rejected += 1
            return refused
        if self._half_open:
            self.counters.faults["half-open"] += 1
            await self._stopping.wait()
            return web.Response(status=503)
        settings = self.settings
        ws = web.WebSocketResponse(
            timeout=2.0, autoping=False, autoclose=False, compress=settings.deflate, max_msg_size=4 * 1024 * 1024
        )
        await ws.prepare(request)
        self.counters.connections += 1
        id = f"{self._rng.getrandbits(32):08x}"
        connection = Connection(self, id, request.path, request, settings.write_buffer)
        # Steps of seven tenths of the usual conflation: ten connections in a row all have their own phase.
        phase = 7 * self.counters.connections
        talk = TALKS[self.dialect](self.engine, connection, phase, lambda: self.connections)
        self.connections.append(connection)
        self._talks[id] = talk
        await connection.serve(ws, talk, settings.frame_bytes)
        return ws

    def _handshake_refusal(self, path: str) -> web.Response | None:
        fault = self.engine.armed.take("handshake", path=path)
        if fault is not None:
            self.counters.faults["handshake"] += 1
            wait = fault.option("retry-after")
            return web.Response(status=int(fault.number("status")), headers={"Retry-After": wait} if wait else None)
        limit, now = self.settings.connects_per_second, self.engine.clock.now()
        while self._accepted and now - self._accepted[0] >= 1.0:
            self._accepted.popleft()
        if limit is not None and len(self._accepted) >= limit:
            return web.Response(status=429)
        self._accepted.append(now)
        return None

    def lost(self, connection: Connection, clean: bool) -> None:
        """A connection has ended; `clean` where the client closed it."""
        self.connections.remove(connection)
        self._talks.pop(connection.id, None)
        if connection.closing is not None:
            self.counters.closed[connection.closing] += 1
        self.engine.lost(connection, clean)

    # Faults

    def inject(self, fault: Fault | str) -> Fault:
        """
        Let something go wrong, once or as often as the fault says.

        Raises:
            ConfigError: the text names no fault or no option of it.
        """
        if isinstance(fault, str):
            fault = Fault.parse(fault)
        if fault.name not in IMMEDIATE and not fault.after:
            self.engine.armed.add(fault)
        elif fault.name in IMMEDIATE and not fault.after and fault.times == 1:
            self._perform(fault)
        else:
            self._spawn(self._later(fault), f"simulator-fault-{fault.name}")
        return fault

    async def _later(self, fault: Fault) -> None:
        await asyncio.sleep(fault.after)
        if fault.name not in IMMEDIATE:
            self.engine.armed.add(fault)
            return
        for number in range(fault.times):
            if number:
                await asyncio.sleep(fault.every)
            self._perform(fault)

    def _matching(self, fault: Fault) -> list[Connection]:
        return [
            c
            for c in self.connections
            if not c.gone and (self._subs(fault, c) if fault.channel or fault.inst else fault.matches(c.id, c.path))
        ]

    def _subs(self, fault: Fault, connection: Connection) -> list[Subscription]:
        return [
            s
            for s in connection.subscriptions.values()
            if fault.matches(connection.id, connection.path, s.channel, s.inst)
        ]

    def _perform(self, fault: Fault) -> None:
        frozen = self.engine.frozen_until - self.engine.clock.now()
        if frozen > 0 and fault.name not in OUTER:
            self.engine.clock.later(frozen, lambda: self._perform(fault))
            return
        if fault.name == "kill":
            self.counters.faults["kill"] += 1
            self._spawn(self._kill(fault.number("seconds")), "simulator-kill")
            return
        if fault.name == "freeze":
            self.counters.faults["freeze"] += 1
            self.engine.freeze(fault.number("seconds"))
            return
        if fault.name in listings.FAULTS:
            self.counters.faults[fault.name] += listings.strike(self.engine, fault)
            return
        if fault.name == "half-open" and fault.number("new"):
            self._half_open = True
        for connection in self._matching(fault):
            if fault.name in ("snapshot", "flood", "reset", "break-books"):
                self._disturb(fault, connection)
            else:
                self._strike(fault, connection)

    def _strike(self, fault: Fault, connection: Connection) -> None:
        """One fault that befalls a whole connection."""
        self.counters.faults[fault.name] += 1
        if fault.name == "drop":
            connection.abort()
        elif fault.name == "close":
            connection.close(int(fault.number("code")), fault.option("reason"))
        elif fault.name == "half-open":
            connection.half_open = True
        elif fault.name == "mute":
            connection.muted_until = self.engine.clock.now() + fault.number("seconds")
        elif fault.name == "notice":
            self._talks[connection.id].notice()
            lead = fault.number("lead") if fault.option("lead") else self.settings.notice_lead
            self._spawn(self._close_later(connection, lead), "simulator-notice")
        elif fault.name == "unknown-event":
            connection.send(self._talks[connection.id].unknown_event())

    async def _close_later(self, connection: Connection, seconds: float) -> None:
        await asyncio.sleep(seconds)
        connection.close(1001, "Service upgrade")

    async def _kill(self, seconds: float) -> None:
        """Nobody listens for a while; then the same port answers again."""
        assert self._site is not None
        self._down = True
        await self._site.stop()
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(seconds)
        self._half_open = self._down = False
        await self._listen()

    def _disturb(self, fault: Fault, connection: Connection) -> None:
        """One fault that befalls single subscriptions, or the book under them."""
        engine = self.engine
        for sub in self._subs(fault, connection):
            book = engine.market.books.get(sub.inst)
            if fault.name == "snapshot":
                for push in sub.snapshot():
                    self.counters.faults["snapshot"] += 1
                    engine.deliver(sub, *push)
            elif fault.name == "reset" and book is not None and sub.sequenced:
                self.counters.faults["reset"] += 1
                book.seq = int(fault.number("seq"))
            elif fault.name == "break-books" and sub.incremental:
                sub.broken_by = fault.option("by")
            elif fault.name == "flood" and book is not None:
                self.counters.faults["flood"] += 1
                for _ in range(int(fault.number("n"))):
                    book.event(engine.clock.ms())
                    engine.market.tell(book)
                    for push in sub.poll():
                        engine.deliver(sub, *push)
