"""
When what is broken is asked for anew: at once where it stands alone, together with others, seldom if often.
"""

from dataclasses import dataclass

_BACKOFF = 1.0
_BACKOFF_CAP = 600.0
_DOUBLINGS = 10
_REFUSED = 5
"""What was refused is asked for again as what was healed so many times: after 32 s, then ever more seldom."""

_FORGIVEN = 300.0
"""Seconds without a heal for which one of the late ones is forgotten."""

_GATHER = 3.0
"""
Seconds that heals wait for others after one: what breaks together shares its requests. It takes no longer than until
the last book of the connection is broken.
"""


@dataclass(slots=True)
class _Record:
    """A `book` breaks together with others. It was healed `times` of late, last `at`, and is not again before `due`."""

    book: bool
    times: int = 0
    at: float = -_GATHER
    due: float = 0.0


class Healing:
    """The heals of one connection, by key: which wait, and until when. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self._waiting: dict[str, None] = {}
        self._last = -_GATHER
        self._asked = True

    def add(self, key: str, book: bool) -> None:
        """`key` is wanted from now on."""
        self._records[key] = _Record(book)

    def drop(self, key: str) -> None:
        """`key` is wanted no longer."""
        self._records.pop(key, None)
        self._waiting.pop(key, None)

    def done(self, key: str) -> None:
        """`key` is asked for anew anyway."""
        self._waiting.pop(key, None)

    def begins(self, key: str, now: float) -> bool:
        """Return whether `key` may be healed now, and count it as done; else it waits."""
        together = now == self._last and not self._asked
        if now < self._records[key].due or (now < self._last + _GATHER and not together):
            self._waiting[key] = None
            return False
        self._begin(key, now)
        return True

    def postpone(self, key: str, now: float) -> None:
        """`key` was refused, though it was served before."""
        record = self._records[key]
        record.times = max(record.times, _REFUSED)
        record.due = now + min(_BACKOFF * 2**record.times, _BACKOFF_CAP)
        self._waiting[key] = None

    def ready(self, now: float) -> list[str]:
        """Return what has waited long enough, and count it as done; what began before is asked for now."""
        keys: list[str] = []
        if self._waiting and now >= self._gathered(now):
            keys = [key for key in self._waiting if now >= self._records[key].due]
        for key in keys:
            self._begin(key, now)
        self._asked = True
        return keys

    def deadline(self, now: float) -> float | None:
        """Return when there is something `ready`."""
        if not self._waiting:
            return None
        return max(self._gathered(now), min(self._records[key].due for key in self._waiting))

    def _begin(self, key: str, now: float) -> None:
        record = self._records[key]
        self._waiting.pop(key, None)
        record.times = max(0, record.times - int((now - record.due) / _FORGIVEN))
        record.due = now + min(_BACKOFF * 2**record.times, _BACKOFF_CAP)
        record.times = min(record.times + 1, _DOUBLINGS)
        self._last = record.at = now
        self._asked = False

    def _gathered(self, now: float) -> float:
        """Return when what waits has waited long enough for others."""
        soon = [record for key in self._waiting if (record := self._records[key]).due <= self._last + _GATHER]
        if not all(record.book for record in soon):
            return self._last + _GATHER
        # A book that was healed a moment ago, or is to be, is not waited for; where there is no other, nobody is.
        whole = (record for key, record in self._records.items() if record.book and key not in self._waiting)
        others = any(record.at <= now - _GATHER for record in whole)
        return self._last + _GATHER if others else now
