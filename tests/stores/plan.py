"""What one run of several stores is: drawn from its seed, and from nothing else."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from soak.faults import ALL, FAULTS

SUBSCRIPTIONS = {
    "okx-v5": ("trades-all:BTC-USDT,ETH-USDT", "trades:BTC-USDT", "book:BTC-USDT,ETH-USDT", "ticker:BTC-USDT",
               "book5:BTC-USDT", "candle-1m:BTC-USDT"),
    "okex-v3": ("trades:BTC-USDT,ETH-USDT", "book:BTC-USDT,ETH-USDT", "ticker:BTC-USDT", "book5:BTC-USDT",
                "candle-1m:BTC-USDT"),
    "okex-v1": ("trades:BTC-USDT,ETH-USDT", "book:BTC-USDT", "ticker:BTC-USDT", "book5:BTC-USDT",
                "candle-1m:BTC-USDT"),
}  # fmt: skip
USER = {
    "okx-v5": ("orders", "fills", "account", "positions"),
    "okex-v3": ("orders:BTC-USDT", "orders:BTC-USDT-SWAP"),
    "okex-v1": ("orders:BTC-USDT",),
}
"""What an account has besides."""

VENUES = {"okx-v5": "okx", "okex-v3": "okex-v3", "okex-v1": "okex-v1"}

_EXCHANGE = (
    "drop", "close", "malformed", "truncate", "pad", "duplicate", "unknown-event", "notice", "handshake", "kill",
    "gap", "gap-trades", "break-books", "reset", "snapshot", "checksum", "stall", "freeze", "flood", "slow-ack",
)  # fmt: skip
"""Those that are over, and healed, in less time than a run has."""


@dataclass(frozen=True)
class Stroke:
    """
    One fault: `at`, for so many `seconds`, `what` happens; `text` is what the simulated exchange is told.

    `kill`, `term` and `stop` befall okstream, `disk` all that it writes to files, `reader` its standard output,
    `broker-kill`, `broker-stop`, `cut` and `acks` the broker and the way to it, `exchange` the exchange.
    """

    at: float
    what: str
    seconds: float = 0.0
    text: str = ""

    def __str__(self) -> str:
        return f"{self.at:.1f}={self.text or self.what}" + (f" for {self.seconds:.1f} s" if self.seconds else "")


@dataclass(frozen=True)
class Store:
    """
    One sink: its `kind`, and its table without what depends on places.

    `proves` is whether what may be missing since a restart is said, `exact` whether by what the store holds, and not by
    something before that. `spooled` is "always", "spill" or nothing.
    """

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    spooled: str = ""

    @property
    def raw(self) -> bool:
        """Whether it has the exchange's own texts."""
        return self.options.get("form") == "raw"

    @property
    def parts(self) -> bool:
        """Whether the instruments of one subscription keep no order between them there."""
        return self.kind == "nats" or "{inst}" in self.options.get("path", "")

    @property
    def proves(self) -> bool:
        return bool(self.spooled) or self.exact

    @property
    def exact(self) -> bool:
        # Of texts that were mended after a kill, a file does not know whose they are.
        return self.spooled == "always" or (self.kind == "file" and not self.raw)

    @property
    def batch(self) -> int:
        return int(self.options["batch_records"])


@dataclass(frozen=True)
class Plan:
    """
    One run. In `seconds` all that befalls it is over, but for what it takes a new process to be served.

    `in_turn`: whenever something of each subscription has come out, the next stroke falls, whatever its time.
    `calm` are seconds after that; of more than a few it is asked that the stores have what came in the first of them.
    `account`: one logs in, trades, and has channels of its own.
    `several`: more than one connection at a time may carry a subscription.
    """

    seed: int
    dialect: str
    redundancy: int
    checksum: str
    stores: tuple[Store, ...]
    strokes: tuple[Stroke, ...]
    seconds: float = 0.0
    in_turn: bool = False
    calm: float = 3.0
    rotate_after: float | None = None
    account: bool = False

    @property
    def subscriptions(self) -> tuple[str, ...]:
        return SUBSCRIPTIONS[self.dialect] + (USER[self.dialect] if self.account else ())

    @property
    def several(self) -> bool:
        texts = [stroke.text.partition(":")[0] for stroke in self.strokes if stroke.text]
        stops = any(stroke.what == "stop" for stroke in self.strokes)
        overlap = self.rotate_after is not None or any(FAULTS[name].overlap for name in texts)
        return self.redundancy > 1 or stops or overlap

    def __str__(self) -> str:
        stores = "; ".join(f"{one.name} {one.kind} {one.spooled} {one.options}" for one in self.stores)
        links = f"redundancy {self.redundancy}, rotate after {self.rotate_after}, account {self.account}"
        head = f"seed {self.seed}: {self.dialect}, {links}, {self.seconds:.0f} s; {stores}; "
        return head + " ".join(map(str, self.strokes))


def plan(seed: int) -> Plan:
    """Draw a run."""
    rng = random.Random(f"stores/{seed}")
    dialect, redundancy, checksum = rng.choice(ALL), rng.choice((1, 1, 2)), rng.choice(("zero", "real"))
    stores = (_archive(rng), _broker(rng), _out(rng), *([_mine(rng)] if rng.random() < 0.6 else []))
    strokes = _strokes(rng, dialect, checksum, rng.uniform(15, 30))
    end = max(stroke.at + stroke.seconds + _heals(stroke) for stroke in strokes)
    rotate_after, account = rng.choice((None, None, 10.0)), rng.random() < 0.5
    if rng.random() < 0.5:
        stores = _raw(rng, stores)
    return Plan(seed, dialect, redundancy, checksum, stores, strokes, end, rotate_after=rotate_after, account=account)


def _raw(rng: random.Random, stores: tuple[Store, ...]) -> tuple[Store, ...]:
    """One of them, whichever, is to have the exchange's own texts."""
    chosen = rng.choice(stores)
    return tuple(replace(one, options=one.options | {"form": "raw"}) if one is chosen else one for one in stores)


def _heals(stroke: Stroke) -> float:
    if stroke.what == "exchange":
        return 0.5 * FAULTS[kind(stroke.text)].longest
    return 2.0


def kind(text: str) -> str:
    """The name in FAULTS of what the exchange is told."""
    name = text.partition(":")[0]
    return "gap-trades" if text.startswith("gap:channel=trades") else name


def _strokes(rng: random.Random, dialect: str, checksum: str, seconds: float) -> tuple[Stroke, ...]:
    """One of each that matters most, and others of any kind, all over the time."""
    names = [
        name
        for name in _EXCHANGE
        if dialect in FAULTS[name].dialects
        and (checksum == "real" or FAULTS[name].checksum == "zero" or dialect != "okx-v5")
    ]  # fmt: skip
    own: dict[str, Callable[[], float]] = {
        "kill": lambda: 0.0,
        "term": lambda: 0.0,
        "stop": lambda: rng.uniform(0.5, 6),
        "disk": lambda: rng.uniform(0.5, 4),
        "reader": lambda: rng.uniform(1, 6),
        "broker-kill": lambda: rng.uniform(0.2, 6),
        "broker-stop": lambda: rng.uniform(0.2, 6),
        "cut": lambda: 0.0,
        "acks": lambda: 0.0,
    }
    whats = ["kill", rng.choice(("broker-kill", "broker-stop")), *rng.choices(list(own), k=rng.randint(3, 8))]
    strokes = [Stroke(rng.uniform(2, seconds), what, own[what]()) for what in whats]
    for _ in range(rng.randint(1, 6)):
        name = rng.choice(names)
        vary = FAULTS[name].vary
        assert vary is not None
        text = vary(rng)
        pause = 0.0
        if name in ("kill", "freeze"):
            pause = rng.uniform(0.5, 4)
            text = f"{name}:seconds={pause:.2f}"
        strokes.append(Stroke(rng.uniform(2, seconds), "exchange", pause, text))
    return tuple(sorted(strokes, key=lambda stroke: stroke.at))


def _spooled(rng: random.Random, chances: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    how = rng.choice(chances)
    options: dict[str, Any] = {"batch_records": rng.choice((20, 100, 1000))}
    if how:
        options |= {"spool_mib": rng.choice((1, 1, 64))}
        if how == "always":
            options["spool_always"] = True
    if rng.random() < 0.6:
        options["lane_records"] = rng.choice((50, 200, 2000))
    if not how:
        options["when_full"] = rng.choice(("drop_oldest", "drop_newest"))
    return how, options


def _archive(rng: random.Random) -> Store:
    how, options = _spooled(rng, ("", "", "spill", "always"))
    form = rng.choice(("growing", "template", "template", "rotated"))
    ending = rng.choice((".jsonl", ".jsonl.zst"))
    path = {"growing": "all", "template": "{channel}/{inst}/{date}-{hour}", "rotated": "all"}[form]
    options |= {"path": path + ending, "linger": rng.choice((0.02, 0.2))}
    if form == "rotated" or (form == "template" and rng.random() < 0.5):
        options |= rng.choice(({"rotate_mib": 0.05}, {"rotate_after": rng.choice((1.5, 4.0))}))
    if form == "template" and rng.random() < 0.4:
        options["open_files"] = rng.choice((2, 4))
    if rng.random() < 0.3:
        options["fsync"] = "segment"
    return Store("archive", "file", options, how)


def _broker(rng: random.Random) -> Store:
    how, options = _spooled(rng, ("always", "spill"))
    options |= {"ack_timeout": rng.choice((0.5, 1.0)), "in_flight": rng.choice((10, 1000))}
    return Store("broker", "nats", options, how)


def _out(rng: random.Random) -> Store:
    how, options = _spooled(rng, ("", "", "spill", "always"))
    return Store("out", "stdout", options, how)


def _mine(rng: random.Random) -> Store:
    how, options = _spooled(rng, ("", "spill", "always"))
    options |= {"seed": rng.randrange(1000), "threaded": rng.random() < 0.3, "rejects": rng.choice((0.0, 0.0, 0.001))}
    return Store("mine", "stores.mine:Moody", options, how)
