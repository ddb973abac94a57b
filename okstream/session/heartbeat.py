"""Whether a connection is alive at all: a ping after silence, and an end after more of it."""

from ..venues import Limits


class Heartbeat:
    """
    Watches one connection's silence; times are seconds of a monotonic clock.

    Anything that is heard is a sign of life. `heard` is when that was last.
    """

    __slots__ = ("_last_ping", "_limits", "_pinged", "heard")

    def __init__(self, limits: Limits, now: float) -> None:
        self.heard = now
        self._limits = limits
        self._pinged: float | None = None
        self._last_ping = now

    def beat(self, now: float) -> None:
        """Something was heard."""
        self.heard = now
        self._pinged = None

    @property
    def due(self) -> float:
        """When to look next."""
        limits = self._limits
        if self._pinged is not None:
            return self._pinged + limits.pong_within
        due = self.heard + limits.ping_after
        return due if limits.ping_every is None else min(due, self._last_ping + limits.ping_every)

    @property
    def waiting(self) -> bool:
        """Whether a ping has had no answer yet."""
        return self._pinged is not None

    def ping(self, now: float) -> None:
        """A ping is sent."""
        self._last_ping = self._pinged = now
