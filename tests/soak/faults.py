"""What can happen to a stream, what it may say of it, and for how long."""

import random
from collections.abc import Callable
from dataclasses import dataclass

ALL = ("okx-v5", "okex-v3", "okex-v1")
V5 = ("okx-v5",)
CHECKED = ("okx-v5", "okex-v3")
"""The dialects whose books can be verified."""

UNASKED = ("okex-v3", "okex-v1")
"""The dialects without a REST interface that could be asked what is new."""


@dataclass(frozen=True)
class Kind:
    """
    One fault.

    Args:
        texts: how a test of this fault alone asks for it.
        reasons: of the gaps that it may cause.
        longest: seconds beyond a cadence that one such gap may last.
        dialects: where it can happen, or be seen.
        vary: makes a text of it for a random schedule; None keeps it out of these.
        checksum: of okx-v5 books, see the simulator's settings.
        seconds: how long a test of this fault alone goes on.
        overlap: whether a connection is replaced while it still stands.
    """

    texts: tuple[str, ...]
    reasons: frozenset[str]
    longest: float
    dialects: tuple[str, ...] = ALL
    vary: Callable[[random.Random], str] | None = None
    checksum: str = "zero"
    seconds: float = 30
    overlap: bool = False


def _often(name: str) -> Callable[[random.Random], str]:
    return lambda rng: f"{name}:times={rng.randint(1, 5)}"


def _once(text: str) -> Callable[[random.Random], str]:
    return lambda rng: text


def _at_once(name: str) -> Callable[[random.Random], str]:
    return lambda rng: f"{name}:times={rng.randint(1, 3)},every={rng.randint(2, 12)}"


def _seconds(name: str, least: int, most: int) -> Callable[[random.Random], str]:
    return lambda rng: f"{name}:seconds={rng.randint(least, most)}"


def _close(rng: random.Random) -> str:
    return f"close:code={rng.choice((1000, 1001, 4004, 4005, 4006, 4008))}"


def _handshake(rng: random.Random) -> str:
    status, n, wait = rng.choice((429, 502, 503)), rng.randint(1, 3), rng.randint(1, 3)
    return f"handshake:status={status},n={n},retry-after={wait}"


def _notice(rng: random.Random) -> str:
    return f"notice:lead={rng.randint(3, 20)}"


def _stall(rng: random.Random) -> str:
    return f"stall:channel=books,seconds={rng.randint(1, 5)}"


def _flood(rng: random.Random) -> str:
    return f"flood:n={rng.randint(50, 300)},inst=BTC-USDT"


NONE: frozenset[str] = frozenset()
LINK = frozenset({"disconnected"})
FRAME = frozenset({"malformed", "sequence"})
CHAIN = frozenset({"sequence", "checksum"})

SILENT = frozenset({"disconnected", "stale"})

FAULTS = {
    "none": Kind((), NONE, 0),
    "drop": Kind(("drop:times=4,every=8",), LINK, 5, vary=_at_once("drop")),
    "close": Kind(("close:code=4006", "close:code=1000,after=8", "close:code=4005,after=16"), LINK, 5, vary=_close),
    "half-open": Kind(("half-open",), SILENT, 40, vary=_once("half-open"), seconds=64, overlap=True),
    "malformed": Kind(("malformed:times=3",), FRAME, 5, vary=_often("malformed"), seconds=64),
    "truncate": Kind(("truncate:times=3",), FRAME, 5, vary=_often("truncate"), seconds=64),
    "pad": Kind(("pad:times=3",), FRAME, 5, vary=_often("pad"), seconds=64),
    "duplicate": Kind(("duplicate:times=20",), NONE, 0, vary=_often("duplicate")),
    "unknown-event": Kind(("unknown-event:times=3",), NONE, 0, vary=_at_once("unknown-event")),
    "slow-ack": Kind(
        ("slow-ack:seconds=15,times=2", "drop:after=1"), LINK, 25, vary=_seconds("slow-ack", 2, 15), seconds=64
    ),
    "notice": Kind(("notice:lead=3",), LINK, 5, vary=_notice, overlap=True),
    "handshake": Kind(("handshake:status=429,n=3,retry-after=2", "drop:after=1"), LINK, 20, vary=_handshake),
    "kill": Kind(("kill:seconds=10",), LINK, 45, vary=_seconds("kill", 1, 10), seconds=64),
    "refuse": Kind(("refuse", "drop:after=1"), LINK, 5),
    "refuse-login": Kind(("refuse-login:code=63999", "drop:after=1"), LINK, 10, V5, _once("refuse-login:code=63999")),
    "gap": Kind(("gap:times=3",), CHAIN, 5, CHECKED, _often("gap")),
    "gap-trades": Kind(("gap:channel=trades,times=3",), CHAIN, 5, V5, _once("gap:channel=trades,times=2")),
    "break-books": Kind(("break-books",), CHAIN, 5, CHECKED, _once("break-books")),
    "reset": Kind(("reset:times=2,every=9",), NONE, 0, V5, _once("reset")),
    "snapshot": Kind(("snapshot:times=2,every=9",), NONE, 0, CHECKED, _once("snapshot")),
    "checksum": Kind(("checksum:times=3",), CHAIN, 5, CHECKED, _often("checksum"), checksum="real"),
    "stall": Kind(("stall:channel=books,seconds=5",), CHAIN, 10, V5, _stall),
    "mute": Kind(("mute:seconds=30",), SILENT, 40, V5, _seconds("mute", 30, 45), seconds=90, overlap=True),
    # Without REST to ask, only silence of a minute is telling.
    "mute-long": Kind(("mute:seconds=100",), SILENT, 90, UNASKED, _once("mute:seconds=100"), seconds=170, overlap=True),
    "freeze": Kind(("freeze:seconds=10",), SILENT, 20, vary=_seconds("freeze", 1, 20), seconds=60, overlap=True),
    "flood": Kind(("flood:n=300",), NONE, 0, vary=_flood),
}
"""By name; a name may go on with a dash where one fault is asked for in several ways."""
