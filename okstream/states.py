"""How a stream is doing: each of its subscriptions, and all in all."""

from dataclasses import dataclass
from typing import Literal

from .channels import Subscription
from .records import Gap

Condition = Literal["starting", "ok", "recovering", "failed"]
"""What a sink can be."""


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
class SinkState:
    """
    How one sink is doing.

    `state` is `starting` until it was opened, `ok`, `recovering` while what it was given, or its spool, is tried again,
    or `failed`, for good; `since` when that began (ns), and `detail` what it said. Counts so far: data records
    `written`, `dropped` by its full lane, `rejected` (they can never be written), of which so many are `dead_letters`
    in their file, and `lost` (what it will not get, of these and of what waited when it failed or the stream was
    closed); `retries`; and `slow_writes` that held up the event loop. At this moment `waiting` records take up `bytes`
    of the lane, and `spooled` ones `spool_bytes` of the disk; the first of those in the lane came `oldest` seconds ago.
    `excused`: it failed as it may: nobody reads it any more, or it was to be ignored if it cannot be opened.
    """

    name: str
    state: Condition
    since: int
    detail: str | None
    waiting: int
    bytes: int
    dropped: int
    written: int
    retries: int
    rejected: int
    slow_writes: int
    lost: int
    dead_letters: int = 0
    spooled: int = 0
    spool_bytes: int = 0
    oldest: float | None = None
    excused: bool = False


@dataclass(frozen=True, slots=True)
class StreamState:
    """What has become of each subscription, and how each sink is doing."""

    subscriptions: list[SubscriptionState]
    sinks: list[SinkState]


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
