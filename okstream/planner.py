"""
Which subscriptions ride on which connection.

Rule 1: a subscription keeps its connection; those that come and go later move none of the others.
Rule 2: each takes the first connection with a place for it, so that no more are opened than that takes.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .dialects import Traits
from .errors import ConfigError
from .venues import Limits


@dataclass(slots=True)
class _Load:
    """What rides on one connection; `barred` counts by how many of these a key is excluded."""

    riders: dict[str, Traits] = field(default_factory=dict)
    deep: int = 0
    barred: Counter[str] = field(default_factory=Counter)


class Planner:
    """
    The connections of one venue, path and account, by number.

    Args:
        limits: what the venue allows on one connection, and how many of them.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._loads: list[_Load] = []
        self._places: dict[str, int] = {}

    def place(self, key: str, traits: Traits) -> int:
        """
        Return the number of the connection that `key` rides on; it gets one where it has none yet.

        Raises:
            ConfigError: it would take one more connection than the venue allows.
        """
        if (known := self._places.get(key)) is not None:
            return known
        number = next((n for n, load in enumerate(self._loads) if self._fits(load, key, traits)), len(self._loads))
        if number == len(self._loads):
            allowed = self._limits.channel_connections
            if traits.login and allowed is not None and number >= allowed:
                raise ConfigError(f"{key} would take connection {number + 1} of an account that may have {allowed}")
            self._loads.append(_Load())
        load = self._loads[number]
        load.riders[key] = traits
        load.deep += traits.deep
        load.barred.update(traits.excludes)
        self._places[key] = number
        return number

    def leave(self, key: str) -> int | None:
        """Free the place of `key`; return the number of the connection it rode on, None where it had none."""
        number = self._places.pop(key, None)
        if number is None:
            return None
        load = self._loads[number]
        traits = load.riders.pop(key)
        load.deep -= traits.deep
        load.barred -= Counter(traits.excludes)  # what comes to nothing goes
        return number

    def connections(self) -> list[int]:
        """Return the numbers of the connections that something rides on, in order."""
        return [number for number, load in enumerate(self._loads) if load.riders]

    def riders(self, number: int) -> Iterable[str]:
        """Return the keys that ride on connection `number`, the first to come first."""
        return tuple(self._loads[number].riders) if 0 <= number < len(self._loads) else ()

    def _fits(self, load: _Load, key: str, traits: Traits) -> bool:
        most = self._limits.deep_books
        if traits.deep and most is not None and load.riders and load.deep >= most:
            return False
        return key not in load.barred and load.riders.keys().isdisjoint(traits.excludes)
