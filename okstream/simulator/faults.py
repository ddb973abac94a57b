"""
What can go wrong on demand.

Text form "name[:key=value,...]", the same for the library, `--fault` and the control endpoint:
"drop", "drop:path=private,after=2", "gap:channel=books,inst=BTC-USDT,times=3", "handshake:status=503,times=2".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Any

from okstream.errors import ConfigError
from okstream.simulator.instruments import listed

# name -> (own options with their defaults, what it does)
FAULTS: dict[str, tuple[dict[str, str], str]] = {
    "drop": ({}, "abort the TCP connection"),
    "close": ({"code": "1001", "reason": ""}, "close the WebSocket with a code"),
    "half-open": ({"new": "0"}, "stay connected but never say or hear anything again; new=1: new connections too"),
    "mute": ({"seconds": "30"}, "answer as ever, but push nothing on this connection for a while"),
    "freeze": ({"seconds": "10"}, "the whole exchange does nothing at all for a while, then goes on"),
    "notice": ({"lead": ""}, "announce a restart, close `lead` seconds later"),
    "kill": ({"seconds": "1"}, "abort everything and stop listening, come back on the same port"),
    "flood": ({"n": "1000"}, "n pushes of one subscription at once"),
    "snapshot": ({}, "an order book snapshot nobody asked for"),
    "reset": ({"seq": "3"}, "the sequence of an order book starts again from a low number"),
    "break-books": (
        {"by": "gap"},
        "every book there is has a `gap` or a wrong `checksum` in its next update, once each",
    ),
    "list": ({}, "a new instrument, `inst` or a name of its own"),
    "expire": ({}, "the instrument `inst` ends, and its subscriptions without a word"),
    "rename": ({"to": ""}, "the instrument `inst` has another name; of its subscriptions books and trades go on"),
    "unknown-event": ({}, "an event no client knows"),
    "gap": ({}, "skip one update of a book, or one push of the channel that is named"),
    "duplicate": ({}, "send one push twice"),
    "checksum": ({}, "a wrong checksum in one book push"),
    "truncate": ({}, "cut one push in half; of a compressed dialect, its bytes"),
    "pad": ({}, "add bytes after the end of one push"),
    "malformed": ({}, "one push is not JSON"),
    "stall": (
        {"seconds": "5", "sticky": "0"},
        "withhold every push of one subscription for a while; sticky=1: also after it is subscribed to anew there",
    ),
    "no-keepalive": ({}, "withhold the keep-alive that is due after a minute without a change"),
    "slow-ack": ({"seconds": "5"}, "answer one request late"),
    "refuse": ({"code": "60018"}, "answer one subscription with an error"),
    "refuse-login": ({"code": "60009"}, "refuse one login"),
    "handshake": ({"status": "429", "retry-after": "", "n": "1"}, "answer n handshakes with an HTTP error"),
}
COMMON = {"after": "0", "times": "1", "every": "1", "connection": "", "path": "", "channel": "", "inst": ""}
_REQUIRED = {"expire": ("inst",), "rename": ("inst", "to")}
_NEW = {"list": ("inst",), "rename": ("to",)}
_NUMBERS = {"after", "times", "every", "seconds", "lead", "n", "seq", "status", "retry-after", "new", "sticky"}


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One fault. `options` are its own; the rest is common to all and narrows where and when it strikes.

    `after`: seconds from injection until it is armed or happens. `times`: how often; `every`: seconds
    between two of an immediate fault. `connection` (id), `path`, `channel`, `inst`: only there.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()
    after: float = 0.0
    times: int = 1
    every: float = 1.0
    connection: str = ""
    path: str = ""
    channel: str = ""
    inst: str = ""

    @classmethod
    def parse(cls, text: str) -> Fault:
        """
        Raises:
            ConfigError: no such fault or option, or a value that is not a number where one is needed.
        """
        name, _, rest = text.strip().partition(":")
        name = {"429": "handshake"}.get(name, name)
        if name not in FAULTS:
            raise ConfigError(f"no fault {name!r}; there are: {', '.join(FAULTS)}")
        own, given = FAULTS[name][0], {}
        for item in filter(None, rest.split(",")):
            key, separator, value = item.strip().partition("=")
            if not separator and (key in own or key in COMMON):
                raise ConfigError(f"fault {name!r}: {key} has no value; write {key}=...")
            if not separator or (key not in own and key not in COMMON):
                raise ConfigError(f"fault {name!r} has no option {key!r}; it has: {', '.join([*own, *COMMON])}")
            given[key] = value
        return cls._build(name, given)

    @classmethod
    def _build(cls, name: str, given: dict[str, str]) -> Fault:
        for key in _NUMBERS & given.keys():
            try:
                fits = 0 <= float(given[key]) < inf
            except ValueError:
                fits = False
            if not fits:
                raise ConfigError(f"fault {name!r}: {key} must be a number from 0 on, not {given[key]!r}")
        for key in {"times", "n"} & given.keys():
            if float(given[key]) < 1:
                raise ConfigError(f"fault {name!r}: {key} must be at least 1, not {given[key]!r}")
        for key in [key for key in _REQUIRED.get(name, ()) if not given.get(key)]:
            raise ConfigError(f"fault {name!r} needs {key}=")
        for key in [key for key in _NEW.get(name, ()) if key in given and listed(given[key], 0, 0) is None]:
            raise ConfigError(f"fault {name!r}: {key} must be like A-B, A-B-SWAP or A-B-yymmdd, not {given[key]!r}")
        if given.get("by", "gap") not in ("gap", "checksum"):
            raise ConfigError(f"fault {name!r}: by must be gap or checksum, not {given['by']!r}")
        own = {**FAULTS[name][0], **{k: v for k, v in given.items() if k in FAULTS[name][0]}}
        common: dict[str, Any] = {k: v for k, v in given.items() if k in COMMON and k not in own}
        for key, kind in (("after", float), ("times", int), ("every", float)):
            if key in common:
                common[key] = kind(float(common[key]))
        if "n" in own and name == "handshake":
            common.setdefault("times", int(float(own["n"])))
        return cls(name, tuple(own.items()), **common)

    def option(self, key: str) -> str:
        return dict(self.options).get(key, FAULTS[self.name][0].get(key, ""))

    def number(self, key: str) -> float:
        """An option as a number; 0 where it is empty."""
        return float(self.option(key) or 0)

    def matches(self, connection: str = "", path: str = "", channel: str = "", inst: str = "") -> bool:
        """True where every filter of this fault that is set agrees."""
        return (
            self.connection in ("", connection)
            and (not self.path or self.path == path or path.endswith("/" + self.path))
            and (not self.channel or self.channel == channel or channel.endswith("/" + self.channel))
            and self.inst in ("", inst)
        )


IMMEDIATE = frozenset(
    "drop close half-open mute freeze notice kill flood snapshot reset break-books list expire rename"
    " unknown-event".split()
)
OUTER = frozenset("drop half-open mute freeze kill".split())
"""What befalls the exchange or its network, and is not done by the exchange itself."""


class Armed:
    """Faults that wait for the moment they can strike."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def take(
        self, name: str, connection: str = "", path: str = "", channel: str = "", inst: str = "", named: bool = False
    ) -> Fault | None:
        """
        The first armed fault of that name that matches, one time fewer afterwards. `named`: only one that
        names a channel.
        """
        for i, fault in enumerate(self._faults):
            if named and not fault.channel:
                continue
            if fault.name == name and fault.matches(connection, path, channel, inst):
                if fault.times > 1:
                    self._faults[i] = replace(fault, times=fault.times - 1)
                else:
                    del self._faults[i]
                return fault
        return None

    def clear(self) -> None:
        self._faults.clear()

    def names(self) -> list[str]:
        return [f.name for f in self._faults]
