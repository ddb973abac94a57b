"""
The oracle: what every subscription would have received over a perfect link.

A key names a subscription in the exchange's own words: v5 "trades:instId=BTC-USDT" (arguments in
alphabetical order, "status" where there is none), v3 "spot/trade:BTC-USDT", v1 "ok_sub_spot_btc_usdt_deals".
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from okstream.simulator.book import Trade


@dataclass(slots=True)
class Entry:
    """
    One push. `sent` is False where a fault, or the loss of the connection, kept it from leaving whole.

    `payload` is the undamaged message. `kind`: "cached" (an old item repeated after a subscription),
    "snapshot", "update", "keepalive" (nothing changed), "push" (everything else). `ts` is the exchange's
    time in ms, `at` the loop's monotonic time in seconds, `connection` the id of the connection that
    carries the subscription, or carried it before it was lost, `login` the user's name where it is logged in.
    """

    key: str
    payload: Any
    ts: int
    sent: bool
    connection: str
    at: float
    kind: str
    login: str | None = None


class Log:
    """Entries in the order they were made; the oldest go beyond `limit`, counted in `forgotten`."""

    def __init__(self, limit: int) -> None:
        self._entries: deque[Entry] = deque()
        self._by_key: dict[str, deque[Entry]] = {}
        self._trades: dict[str, list[Trade]] = {}
        self._limit = limit
        self.forgotten = 0

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._by_key.setdefault(entry.key, deque()).append(entry)
        if len(self._entries) > self._limit:
            old = self._entries.popleft()
            self._by_key[old.key].popleft()
            self.forgotten += 1

    def add_trade(self, inst: str, trade: Trade) -> None:
        kept = self._trades.setdefault(inst, [])
        kept.append(trade)
        if len(kept) > self._limit:
            del kept[: self._limit // 2]

    def keys(self) -> list[str]:
        """Every subscription that was ever pushed to."""
        return list(self._by_key)

    def pushes(self, key: str, connection: str | None = None) -> list[Entry]:
        """The pushes of one subscription in order, of all connections or of one."""
        entries = self._by_key.get(key, ())
        return [e for e in entries if connection is None or e.connection == connection]

    def entries(self) -> list[Entry]:
        return list(self._entries)

    def trades(self, inst: str) -> list[Trade]:
        """Every trade of an instrument since somebody first watched it, whether pushed or not."""
        return list(self._trades.get(inst, ()))


@dataclass(slots=True)
class Counters:
    """
    What happened so far. `faults` counts each fault when it really took effect, by its name.

    `connections` were accepted, `rejected` answered with an HTTP error; `requests` are frames from
    clients other than pings; `pushes` are data messages handed to a connection,
    `suppressed` those that a stall withheld.
    """

    connections: int = 0
    rejected: int = 0
    requests: int = 0
    pings: int = 0
    logins: int = 0
    pushes: int = 0
    suppressed: int = 0
    rest: int = 0
    closed: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        return {
            "connections": self.connections,
            "rejected": self.rejected,
            "requests": self.requests,
            "pings": self.pings,
            "logins": self.logins,
            "pushes": self.pushes,
            "suppressed": self.suppressed,
            "rest": self.rest,
            "closed": {str(code): n for code, n in self.closed.items()},
            "faults": dict(self.faults),
        }
