"""What is said of a subscription: gaps and their ends."""

from itertools import count

from .channels import Subscription
from .records import AnyRecord, Book, DataRecord, Fill, Gap, Trade

_LOCAL = frozenset({"overflow", "sink", "start"})
"""Reasons of gaps that one lane has and another has not."""


class Statements:
    """
    Numbers the gaps of one process: `instance` tells it from every other.

    Those of lanes are numbered apart, for they depend on how fast a sink is: what feeds say is the same without them.
    """

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self._numbers = count(1)
        self._local = count(1)

    def gap(self, venue: str, sub: Subscription, reason: str, recv: int, after: DataRecord | None) -> Gap:
        """Return a gap that opens after the record `after`."""
        number = f"l{next(self._local)}" if reason in _LOCAL else str(next(self._numbers))
        return Gap(
            venue, sub.channel, sub.inst, sub.account, None, recv, f"{self.instance}-{number}", "open", reason,
            position(after), after.ts if after else None, None, None, None,
        )  # fmt: skip


def closed(gap: Gap, until: DataRecord | None, recv: int, lost: int | None) -> Gap:
    """Return the end of `gap`, directly before the record `until`; `lost` records are missing, None: not known."""
    return Gap(
        gap.venue, gap.channel, gap.inst, gap.account, None, recv, gap.gap, "closed", gap.reason,
        gap.after, gap.after_ts, position(until), until.ts if until else None, lost,
    )  # fmt: skip


def position(record: AnyRecord | None) -> str | int | None:
    """Return where `record` stands in its subscription: a trade id or book sequence, None where it has neither."""
    if isinstance(record, Trade | Fill):
        return record.id
    return record.seq if isinstance(record, Book) else None
