"""The messages of one batch on their way to a broker: what to publish now, and what is unanswered since when."""

from collections import deque
from collections.abc import Hashable, Iterable


class Window:
    """
    A table of messages, by position in their batch. It knows no clock and sends nothing.

    Messages with the same key are published in their order, `each` of them at a time: with 1 a later one is not on its
    way before the earlier one is stored, so no failure can put it in front.

    Args:
        keys: position and key of each message, in order.
        total: how many may be unanswered at a time.
        each: how many of one key.
        patience: seconds until an unanswered message is overdue.
    """

    def __init__(self, keys: Iterable[tuple[int, Hashable]], total: int, each: int, patience: float) -> None:
        self.failure: str | None = None
        self._total = total
        self._patience = patience
        self._ready: deque[int] = deque()
        self._behind: dict[Hashable, deque[int]] = {}
        self._keys: dict[int, Hashable] = dict(keys)
        self._sent: dict[int, float] = {}
        places: dict[Hashable, int] = {}
        for position, key in self._keys.items():
            taken = places.get(key, 0)
            if taken < each:
                places[key] = taken + 1
                self._ready.append(position)
            else:
                self._behind.setdefault(key, deque()).append(position)

    @property
    def open(self) -> bool:
        """Whether there is something to publish or to wait for."""
        return bool(self._sent) or bool(self._ready and self.failure is None)

    @property
    def pending(self) -> list[int]:
        """The positions that are not settled, ascending."""
        return sorted(self._keys)

    @property
    def deadline(self) -> float | None:
        """When the oldest unanswered message is overdue; None where none is unanswered."""
        return next(iter(self._sent.values()), None)

    def due(self, now: float) -> list[int]:
        """Return what is to be published now; it counts as published at `now`."""
        if self.failure is not None:
            return []
        room = min(self._total - len(self._sent), len(self._ready))
        due = [self._ready.popleft() for _ in range(room)]
        deadline = now + self._patience
        self._sent.update((position, deadline) for position in due)
        return due

    def overdue(self, now: float) -> list[int]:
        """
        Return what is to be published once more: all that is unanswered, once one of it is overdue at `now`.

        All of it, because what came after the overdue one of the same key must not stay in front of it.
        """
        if self.deadline is None or self.deadline > now:
            return []
        again = sorted(self._sent)
        self._sent = dict.fromkeys(again, now + self._patience)
        return again

    def settle(self, position: int) -> bool:
        """`position` is done with, stored or rejected; return False if it was not on its way."""
        if self._sent.pop(position, None) is None:
            return False
        behind = self._behind.get(self._keys.pop(position))
        if behind:
            self._ready.append(behind.popleft())
        return True

    def refuse(self, position: int, why: str) -> None:
        """`position` was not stored and stays pending. Nothing more is published; what is on its way may settle."""
        if self._sent.pop(position, None) is not None and self.failure is None:
            self.failure = why
