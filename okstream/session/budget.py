"""Requests an hour, as the exchange counts them."""

from collections import deque

_HOUR = 3601.0
"""Seconds, and one more: the exchange counts requests when they arrive."""
_RESERVE = 0.15


class Budget:
    """
    Requests an hour, over a sliding window; a share of them is spent on healing only.

    Args:
        limit: requests an hour, None where no limit is known.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._spent: deque[float] = deque()

    def take(self, now: float, healing: bool = False) -> bool:
        """Spend one request, if there is one to spend."""
        if self.ready(now, healing) > now:
            return False
        if self._limit is not None:
            self._spent.append(now)
        return True

    def ready(self, now: float, healing: bool = False) -> float:
        """Return the time from which one more request may be spent."""
        if self._limit is None:
            return now
        while self._spent and self._spent[0] <= now - _HOUR:
            self._spent.popleft()
        limit = self._limit if healing else max(1, int(self._limit * (1 - _RESERVE)))
        excess = len(self._spent) - limit
        return now if excess < 0 else self._spent[excess] + _HOUR
