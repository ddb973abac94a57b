"""
When a channel is late: connected is not flowing.

Only data counts; pongs and acknowledgements prove nothing. Silence is at first a suspicion. It becomes a verdict where
something was due whatever happens, or where the exchange's REST interface shows what the stream did not bring.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """
    How often a channel speaks, as documented.

    Args:
        every: seconds between two pushes while things change.
        due: seconds after which something comes even if nothing changed; None where nothing needs to come.
        asked: whether REST can tell if something newer exists.
    """

    every: float = 0.1
    due: float | None = None
    asked: bool = False

    @property
    def patience(self) -> float:
        """Seconds that one connection may be behind another with what both bring."""
        return max(1.0, 2 * self.every)
