"""Carries out what a plan says: an exchange, a broker, okstream in a process of its own, and all that befalls them."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from nats_server import NatsServer, Wire, nats_server, stored, until
from soak.running import watching
from support.filed import held

from okstream.channels import Subscription, parse
from okstream.dialects import load
from okstream.exits import LOST, OK
from okstream.simulator import TEST_ACCOUNT, Settings, Simulator

from .instance import TIMEOUT, Instance, Topics
from .plan import VENUES, Plan, Store, Stroke

RATE = 10.0
ORDERS = 5.0
"""How many orders its account places or cancels a second, while somebody watches."""

ACCOUNT = "main"
_PAUSE = 0.3
"""Seconds that a process is away at least, once it has ended."""

_SIGNALS = {"kill": "SIGKILL", "term": "SIGTERM", "stop": "SIGSTOP"}


@dataclass(frozen=True)
class Trouble:
    """What really happened, from when to when, in the loop's seconds."""

    stroke: Stroke
    since: float
    until: float


@dataclass
class Scene:
    """
    A run: what is on the stage, and afterwards what happened.

    Attributes:
        lives: the okstream processes, one after the other.
        alive: when each connection was last seen, by its id.
        troubles: what befell them.
        wall: the wall clock when the loop's clock was 0, ns since the epoch.
        end: when the last of them was asked to end, in the loop's seconds.
    """

    plan: Plan
    folder: Path
    sim: Simulator
    server: NatsServer
    wire: Wire
    alive: dict[str, float]
    config: Path
    wall: int = 0
    end: float = 0.0
    lives: list[Instance] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    acks: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _frozen: bool = False
    _down: int = 0

    @property
    def subs(self) -> list[Subscription]:
        found = [sub for text in self.plan.subscriptions for sub in parse(text)]
        dialect = load(self.plan.dialect)
        return [replace(sub, account=ACCOUNT if dialect.traits(sub).login else None) for sub in found]

    async def act(self) -> None:
        """All of the plan."""
        loop = asyncio.get_running_loop()
        self.wall = time.time_ns() - int(loop.time() * 1e9)
        for inst in dict.fromkeys(sub.inst for sub in self.subs if sub.inst):  # what nobody watches stands still
            self.sim.engine.market.hold(inst, self.sim.engine.clock.ms())
        began = loop.time()
        try:
            await self._start()
            async with asyncio.TaskGroup() as group:
                for stroke in self.plan.strokes:
                    if self.plan.in_turn:
                        await self._served()
                    else:
                        await asyncio.sleep(max(0.0, began + stroke.at - loop.time()))
                    group.create_task(self._strike(stroke))
                await asyncio.sleep(max(0.0, began + self.plan.seconds - loop.time()))
            served = await self.lives[-1].written()
            assert served, f"it ended by itself: {''.join(self.lives[-1].told)}"
            await asyncio.sleep(self.plan.calm)
            self.end = loop.time()
            self._ended(await self.lives[-1].end(signal.SIGTERM))
        finally:
            for life in self.lives:
                if life.alive:
                    life.signal(signal.SIGCONT)
                    await life.end(signal.SIGKILL)

    async def _served(self) -> None:
        """Wait until a process has written something of each subscription."""
        while not await (life := self.lives[-1]).written():
            async with self._changing:
                assert life is not self.lives[-1], f"it ended by itself: {''.join(life.told)}"

    async def _strike(self, stroke: Stroke) -> None:
        loop = asyncio.get_running_loop()
        if stroke.what in ("exchange", "disk") and not self.plan.in_turn:
            # What nobody is served by, nobody feels; and one that starts without room says so, and ends.
            await self._served()
        since = loop.time()
        await getattr(self, "_" + stroke.what.replace("-", "_"))(stroke)
        if stroke.what != "exchange":  # which counts by itself
            self.counts[_SIGNALS.get(stroke.what, stroke.what)] += 1
        self.troubles.append(Trouble(stroke, since, loop.time()))

    # -- what befalls okstream

    async def _kill(self, stroke: Stroke) -> None:
        await self._again(signal.SIGKILL)

    async def _term(self, stroke: Stroke) -> None:
        await self._again(signal.SIGTERM)

    async def _again(self, number: int) -> None:
        async with self._changing:
            code = await self.lives[-1].end(number)
            # One that has said nothing had not come so far that it could be asked to end.
            if number == signal.SIGTERM and self.lives[-1].told:
                self._ended(code)
            await asyncio.sleep(_PAUSE)
            await self._start()

    async def _start(self) -> None:
        self.lives.append(await Instance.start(self.config, Topics(self.plan.dialect, self.subs)))

    def _ended(self, code: int) -> None:
        """The last process was asked to end, and exits with what it says of what was lost."""
        life = self.lives[-1]
        lost = {name: count for name, count in life.lost().items() if count}
        assert code == (LOST if lost else OK), f"it exits with {code}, and {lost} were lost: {''.join(life.told[-30:])}"

    async def _stop(self, stroke: Stroke) -> None:
        life = self.lives[-1]
        life.signal(signal.SIGSTOP)
        await asyncio.sleep(stroke.seconds)
        life.signal(signal.SIGCONT)

    async def _disk(self, stroke: Stroke) -> None:
        life = self.lives[-1]
        life.fill_disk(True)
        await asyncio.sleep(stroke.seconds)
        life.fill_disk(False)

    async def _reader(self, stroke: Stroke) -> None:
        life = self.lives[-1]
        life.block()
        await asyncio.sleep(stroke.seconds)
        if self.plan.in_turn:  # until it is felt
            await until(lambda: bool(life.said("out does not keep up")), TIMEOUT)
        if life.blocked:
            life.unblock()

    # -- what befalls the broker

    async def _broker_kill(self, stroke: Stroke) -> None:
        self._down += 1
        if self._down == 1:
            self.server.thaw()
            self.server.kill()
        await asyncio.sleep(stroke.seconds)
        if self._down == 1 and self.server.process is None:
            await asyncio.to_thread(self.server.start)
        self._down -= 1

    async def _broker_stop(self, stroke: Stroke) -> None:
        process = self.server.process
        strikes = process is not None and not self._down and not self._frozen  # else it does nothing already
        if strikes:
            self._frozen = True
            self.server.freeze()
        await asyncio.sleep(stroke.seconds)
        if strikes:
            self._frozen = False
            if process is self.server.process:
                self.server.thaw()

    async def _cut(self, stroke: Stroke) -> None:
        self.wire.cut()

    async def _acks(self, stroke: Stroke) -> None:
        self.acks += 1

    def lose(self, message: bytes) -> bool:
        """Whether this acknowledgement gets lost."""
        if self.acks and b'"seq"' in message:
            self.acks -= 1
            return True
        return False

    # -- what befalls the exchange

    async def _exchange(self, stroke: Stroke) -> None:
        self.sim.inject(stroke.text)
        await asyncio.sleep(stroke.seconds)

    async def holds(self) -> dict[str, list[bytes]]:
        """Return the lines that each store holds."""
        found: dict[str, list[bytes]] = {}
        for store in self.plan.stores:
            if store.kind == "file":
                found[store.name] = held(self.folder / "data")
            elif store.kind == "nats":
                found[store.name] = [message.data + b"\n" for message in await stored(self.server)]
            elif store.kind == "stdout":
                found[store.name] = [line for life in self.lives for line in life.lines]
            else:
                found[store.name] = (self.folder / "mine").read_bytes().splitlines(keepends=True)
        return found


@asynccontextmanager
async def staged(plan: Plan, folder: Path) -> AsyncIterator[Scene]:
    """Everything but okstream itself."""
    (folder / "data").mkdir(parents=True)
    settings = Settings(
        seed=plan.seed, rate=RATE, checksum=plan.checksum, log_limit=5_000_000, connects_per_second=None,
        orders_per_second=ORDERS,
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        server = stack.enter_context(nats_server(folder / "broker"))
        sim = await stack.enter_async_context(Simulator(plan.dialect, settings))
        wire = await stack.enter_async_context(Wire(server))
        alive = await stack.enter_async_context(watching(sim))
        config = folder / "config.toml"
        scene = Scene(plan, folder, sim, server, wire, alive, config)
        config.write_text(_config(scene))
        wire.lose = scene.lose
        yield scene


def _config(scene: Scene) -> str:
    plan = scene.plan
    source: dict[str, Any] = {"venue": VENUES[plan.dialect], "url": scene.sim.url}
    if plan.dialect == "okx-v5":
        source["rest_url"] = scene.sim.rest_url
    source["subscriptions"] = list(plan.subscriptions)
    top: dict[str, Any] = {"stats": 1.0, "log_level": "info", "redundancy": plan.redundancy, "drain": 2.0}
    if plan.rotate_after is not None:
        top["rotate_after"] = plan.rotate_after
    parts = [_table(top)]
    parts.append("[[source]]\n" + _table(source))
    if plan.account:
        user = {"key": TEST_ACCOUNT.key, "secret": TEST_ACCOUNT.secret, "passphrase": TEST_ACCOUNT.passphrase}
        parts.append(f"[account.{ACCOUNT}]\n" + _table(user))
    parts += [f"[sink.{store.name}]\n" + _table(_options(scene, store)) for store in plan.stores]
    return "\n".join(parts)


def _options(scene: Scene, store: Store) -> dict[str, Any]:
    options = {"type": store.kind, "on_start": "retry", "retry_first": 0.1, "retry_most": 0.5} | store.options
    if store.kind == "file":
        options["path"] = f"{scene.folder}/data/{options['path']}"
    elif store.kind == "nats":
        options |= {"servers": [scene.wire.url], "storage": "file"}
    elif store.kind != "stdout":
        options["path"] = f"{scene.folder}/mine"
    if store.spooled:
        options["spool"] = f"{scene.folder}/spool-{store.name}"
    return options


def _table(options: dict[str, Any]) -> str:
    return "".join(f"{name} = {orjson.dumps(value).decode()}\n" for name, value in options.items())
