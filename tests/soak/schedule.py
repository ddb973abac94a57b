"""What one run is: drawn from its seed, and from nothing else."""

import random
from dataclasses import dataclass

from .faults import ALL, FAULTS, Kind

_SPOT = ("BTC-USDT", "ETH-USDT", "SOL-USDT", "XRP-USDT")
_SWAP = ("BTC-USDT-SWAP", "ETH-USDT-SWAP", "SOL-USDT-SWAP", "XRP-USDT-SWAP")

_EACH = {
    "okx-v5": ("ticker", "trades", "book", "book5", "bbo", "candle-1m", "trades-all", "price-limit"),
    "okex-v3": ("ticker", "trades", "book", "book5", "candle-1m"),
    "okex-v1": ("ticker", "trades", "book", "book5", "candle-1m"),
}
_SPOT_ONLY = {"okx-v5": ("index-price", "book-rpi")}
_SWAP_ONLY = {
    "okx-v5": ("funding", "mark-price", "open-interest"),
    "okex-v3": ("funding", "mark-price"),
}
_USER = {
    "okx-v5": ("account", "orders", "fills", "positions"),
    "okex-v3": ("orders:BTC-USDT", "orders:BTC-USDT-SWAP"),
    "okex-v1": ("orders:BTC-USDT",),
}

CALM = 75.0
"""Seconds without new faults at the end: as long as the slowest of them and the slowest channel need."""


def wanted(dialect: str, count: int) -> list[str]:
    """Every channel of `count` instruments, and the user's; v1 knows spot alone by these names."""
    if dialect == "okex-v1":
        spot, swap = [*_SPOT, *(f"SIM{i:03d}-USDT" for i in range(count))][:count], []
    else:
        spot = [*_SPOT, *(f"SIM{i:03d}-USDT" for i in range(count))][: count - count // 2]
        swap = [*_SWAP, *(f"SIM{i:03d}-USDT-SWAP" for i in range(count))][: count // 2]
    groups = [(channel, [*spot, *swap]) for channel in _EACH[dialect]]
    groups += [(channel, spot) for channel in _SPOT_ONLY.get(dialect, ())]
    groups += [(channel, swap) for channel in _SWAP_ONLY.get(dialect, ())]
    return [*_USER[dialect], *(f"{channel}:{','.join(insts)}" for channel, insts in groups if insts)]


@dataclass(frozen=True)
class Plan:
    """
    One run: `faults` are pairs of when, in seconds, and what; `seconds` is how long it goes on.

    `allowed` is how long all gaps of one subscription may be together, beyond a cadence each; `reasons` are theirs.
    """

    seed: int
    dialect: str
    redundancy: int
    rotate_after: float | None
    checksum: str
    instruments: int
    seconds: float
    faults: tuple[tuple[float, str], ...]
    allowed: float
    reasons: frozenset[str]

    def __str__(self) -> str:
        head = f"seed {self.seed}: {self.dialect}, redundancy {self.redundancy}, rotate after {self.rotate_after}"
        return f"{head}, {self.instruments} instruments, {self.seconds:.0f} s; " + " ".join(
            f"{at:.1f}={text}" for at, text in self.faults
        )


def plan(seed: int, *, dialect: str | None = None, redundancy: int | None = None, instruments: int | None = None,
         seconds: float | None = None, count: int | None = None, calm: float = CALM) -> Plan:  # fmt: skip
    """Draw a run; what is given is not drawn. `count` faults strike within `seconds`, before a calm end."""
    rng = random.Random(f"soak/{seed}")
    drawn = rng.choice(ALL), rng.choice((1, 2)), rng.choice((4, 8, 12, 20)), rng.uniform(60, 240), rng.randint(4, 14)
    dialect, redundancy = dialect or drawn[0], redundancy or drawn[1]
    instruments, seconds, count = instruments or drawn[2], seconds or drawn[3], drawn[4] if count is None else count
    rotate_after = rng.choice((None, None, 20.0, 45.0))
    checksum = rng.choice(("zero", "real"))
    names = [
        name
        for name, kind in FAULTS.items()
        if kind.vary is not None
        and dialect in kind.dialects
        and (checksum == "real" or kind.checksum == "zero" or dialect != "okx-v5")
    ]  # fmt: skip
    struck = [(rng.uniform(2, seconds), rng.choice(names)) for _ in range(count)]
    dead = [at for at, name in struck if name == "kill"][1:]  # an exchange can be killed once at a time
    struck = [(at, "drop" if at in dead else name) for at, name in struck]
    faults = tuple((at, _text(FAULTS[name], rng)) for at, name in sorted(struck))
    kinds = [FAULTS[name] for _, name in struck]
    reasons = frozenset().union(*(kind.reasons for kind in kinds)) | {"disconnected", "stale", "sequence"}
    allowed = sum(6 * kind.longest for kind in kinds) + 30
    return Plan(
        seed, dialect, redundancy, rotate_after, checksum, instruments, seconds + calm, faults, allowed, reasons
    )


def _text(kind: Kind, rng: random.Random) -> str:
    assert kind.vary is not None
    return kind.vary(rng)
