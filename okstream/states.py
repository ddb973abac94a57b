"""How a stream is doing: each of its subscriptions, and all in all."""

from dataclasses import dataclass

from .channels import Subscription
from .records import Gap


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """
    What has become of one subscription.

    `state` is a status word, `since` when it began (ns); `last_ts` the exchange's time of the last record (ms), and
    `last_id` what tells it from others: a trade's id, a book's seq, None where it has none.
    """

    venue: str
    subscription: Subscription
    state: str
    since: int
    last_ts: int | None
    last_id: str | int | None
    gap: Gap | None


@dataclass(frozen=True, slots=True)
class Stats:
    """
    How the stream is doing: `records` and the worst `lag_ms` (exchange's clock to ours) since the last look;
    how many `links` of `links_wanted` are up, and gaps are open; and so far, how many records were `dropped` by full
    lanes, and messages were `unreadable` or of an `unknown` kind.
    """

    records: int
    lag_ms: float | None
    links: int
    links_wanted: int
    open_gaps: int
    dropped: int
    unreadable: int
    unknown: int
