"""What a lane can be told: its bounds, what it does when full, how it writes, and what it lets through."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import ConfigError

WhenFull = Literal["drop_oldest", "drop_newest", "latest", "spill", "block"]

MIB = 1024 * 1024
LANE_BYTES = 64 * MIB
"""Default bound of a lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneOptions:
    """
    How one sink is served.

    Args:
        name: what states, logs and dead letters call it; None for the sink's kind.
        form: `json` for records, `raw` for the exchange's own text.
        when_full: drop the oldest or newest data; keep the `latest` of each subscription (ticker, bbo, book5, mark and
            index price, account, positions only); `spill` to disk, order kept; `block` (replay only).
        bytes, records: the lane's bounds in memory; `records` None for none but the bytes.
        batch_records, batch_bytes, linger: a batch is written when it has so many, or so many seconds after its first
            came; None for what the sink says of itself.
        retries: how often a batch is tried again, None without end; after the last one it is as if rejected.
        retry_first, retry_most: seconds, at most, until the first and until any later attempt (doubled in between,
            full jitter).
        on_start: what a sink, or its spool, that cannot be opened means at the start: `fail` the stream, `retry` until
            it can, with the lane filling meanwhile, or `ignore` the sink from then on.
        types, channels, instruments, venues: what it gets, patterns with stars; empty for all. Statements about what it
            does not get are left out, too.
        statements: whether it gets gaps and statuses at all.
        spool: the folder of its overflow on disk; `spill` needs one.
        spool_bytes: hard bound of the spool.
        spool_always: every record goes through the spool, so that it outlives a crash.
        spool_full: what a full spool or disk means: `drop` the newest, declared, with an alarm; or `stop` the stream.
        dead_letters: the file for what can never be written, with the reason; it is a gap of the stream all the same.
        dead_letter_bytes: bound of that file; what does not fit counts as lost.
        threaded: whether the sink runs in a thread of its own; None for what the sink says of itself.
    """

    name: str | None = None
    form: Literal["json", "raw"] = "json"
    when_full: WhenFull = "drop_oldest"
    bytes: int = LANE_BYTES
    records: int | None = None
    batch_records: int | None = None
    batch_bytes: int | None = None
    linger: float | None = None
    retries: int | None = None
    retry_first: float = 0.5
    retry_most: float = 30.0
    on_start: Literal["fail", "retry", "ignore"] = "fail"
    types: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    venues: tuple[str, ...] = ()
    statements: bool = True
    spool: Path | None = None
    spool_bytes: int = 1024 * MIB
    spool_always: bool = False
    spool_full: Literal["stop", "drop"] = "drop"
    dead_letters: Path | None = None
    dead_letter_bytes: int = 64 * MIB
    threaded: bool | None = None


def check(options: LaneOptions) -> None:
    """Raise ConfigError where `options` contradict each other."""
    if options.spool is None and (options.when_full == "spill" or options.spool_always):
        raise ConfigError("what is to overflow to the disk needs a folder there: `spool`")
    if options.spool is not None and options.when_full != "spill" and not options.spool_always:
        raise ConfigError("a spool is for a lane that spills when it is full, or for `spool_always`")
