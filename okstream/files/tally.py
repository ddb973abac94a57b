"""What a file holds: counted as it is written, and again when it is mended."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

from okstream.entries import Entry
from okstream.sinks import Proven
from okstream.statements import position

from .reading import Lines
from .reading import entry as read

Key = tuple[str, str | None, str | None, str | None, str]
"""Venue, channel, instrument, account and type of record: what may have a file of its own."""

STATEMENTS = frozenset({"gap", "status"})
_POSITIONS = {"trade": "id", "fill": "id", "book": "seq"}


def key(entry: Entry) -> Key:
    """Return whose `entry` is."""
    about = entry.about
    return (about.venue, about.channel, about.inst, getattr(about, "account", None), about.type)


@dataclass(frozen=True, slots=True)
class Last:
    """The last record of a key: its identity, where it stands (trade id or book sequence), `ts` in ms, `recv` in ns."""

    identity: str
    after: str | int | None
    ts: int | None
    recv: int


def last(entry: Entry) -> Last:
    """Return `entry` as the last of its key."""
    about = entry.about
    if hasattr(about, "identity"):  # read back from a spool: the line alone knows
        name = _POSITIONS.get(about.type)
        after = entry.fields.get(name) if name else None
    else:
        after = position(about)
    return Last(entry.identity, after, about.ts, entry.recv)


def renew(lasts: dict[Key, Last], found: Mapping[Key, Last]) -> None:
    """Put into `lasts` what of `found` is newer."""
    for whose, one in found.items():
        if whose not in lasts or lasts[whose].recv <= one.recv:
            lasts[whose] = one


def set_back(lasts: dict[Key, Last], now: int) -> bool:
    """The clock was set back to `now`: what came ahead of that counts as if it came then. Return whether some did."""
    ahead = {whose: replace(one, recv=now) for whose, one in lasts.items() if one.recv > now}
    lasts |= ahead
    return bool(ahead)


def proofs(lasts: Mapping[Key, Last]) -> list[Proven]:
    """Return the last of each subscription."""
    newest: dict[tuple[str, str | None, str | None, str | None], Proven] = {}
    for whose, one in sorted(lasts.items(), key=lambda item: item[1].recv):
        venue, channel, inst, account, _ = whose
        newest[whose[:4]] = Proven(venue, channel or "", inst, account, one.after, one.ts, one.identity)
    return list(newest.values())


def rows(lasts: Mapping[Key, Last]) -> list[list[Any]]:
    """Return `lasts` as JSON has them."""
    return [[*whose, *astuple(one)] for whose, one in lasts.items()]


def row(said: Any) -> tuple[Key, Last]:
    """
    Read one of `rows`.

    Raises:
        ValueError, TypeError: it is none.
    """
    venue, channel, inst, account, kind, identity, after, ts, recv = said
    if not isinstance(venue, str) or type(recv) is not int:
        raise ValueError("no last record")
    return (venue, channel, inst, account, kind), Last(identity, after, ts, recv)


@dataclass(slots=True)
class Share:
    """What a file holds of one key. `previous` is the last record of it that an earlier file of the same sink holds."""

    records: int
    first: Last
    last: Last
    previous: Last | None

    def shown(self, whose: Key) -> dict[str, Any]:
        """Return it as it stands in a manifest."""
        names = ("venue", "channel", "inst", "account", "type")
        before = self.previous
        return {
            **dict(zip(names, whose, strict=True)),
            "records": self.records,
            "first": self.first.identity,
            "first_ts": self.first.ts,
            "first_recv": self.first.recv,
            "last": self.last.identity,
            "last_ts": self.last.ts,
            "last_recv": self.last.recv,
            "after": self.last.after,
            "previous": before.identity if before else None,
            "previous_recv": before.recv if before else None,
        }


_GAP = (
    "gap",
    "venue",
    "channel",
    "inst",
    "account",
    "state",
    "reason",
    "after",
    "after_ts",
    "until",
    "until_ts",
    "lost",
)


class Tally:
    """The sum of what a file holds: lines, records of each key, and the gaps it tells of."""

    def __init__(self) -> None:
        self.lines = 0
        self.shares: dict[Key, Share] = {}
        self.gaps: dict[str, dict[str, Any]] = {}

    def add(self, lines: int, data: dict[Key, list[Entry]], said: Iterable[Entry], lasts: dict[Key, Last]) -> None:
        """Add what was written: so many `lines`, of which `data` are records by key, and `said` are statements."""
        self.lines += lines
        for whose, entries in data.items():
            newest = last(entries[-1])
            share = self.shares.get(whose)
            before = lasts.get(whose)
            if share is None:
                first = newest if len(entries) == 1 else last(entries[0])
                # A segment of yesterday may be finished after one of today.
                previous = before if before is not None and before.recv <= first.recv else None
                self.shares[whose] = Share(len(entries), first, newest, previous)
            else:
                share.records += len(entries)
                share.last = newest
            if before is None or before.recv <= newest.recv:
                lasts[whose] = newest
        for entry in said:
            if entry.type == "gap":
                gap = entry.fields
                self.gaps[gap["gap"]] = {name: gap.get(name) for name in _GAP}

    def count(self, entries: Sequence[Entry], lines: int, lasts: dict[Key, Last]) -> None:
        """Add what was found in a file: so many `lines`, and what could be read of them."""
        data: dict[Key, list[Entry]] = {}
        said = []
        for entry in entries:
            if entry.type in STATEMENTS:
                said.append(entry)
            elif entry.type != "raw":  # whose it is, the text alone does not say
                data.setdefault(key(entry), []).append(entry)
        self.add(lines, data, said, lasts)

    def shown(self) -> dict[str, Any]:
        """Return it as it stands in a manifest."""
        shares = self.shares.values()
        times = [share.first.ts for share in shares if share.first.ts is not None]
        latest = [share.last.ts for share in shares if share.last.ts is not None]
        return {
            "lines": self.lines,
            "records": sum(share.records for share in shares),
            "first_ts": min(times, default=None),
            "last_ts": max(latest, default=None),
            "first_recv": min((share.first.recv for share in shares), default=None),
            "last_recv": max((share.last.recv for share in shares), default=None),
            "subscriptions": [share.shown(whose) for whose, share in self.shares.items()],
            "gaps": list(self.gaps.values()),
        }


def survey(lines: Lines, tally: Tally, lasts: dict[Key, Last]) -> int:
    """Count what `lines` has; return the offset up to which it is good."""
    good = lines.good
    for found in lines.flushes():
        # A power cut leaves zeros where a file had grown already: a plain one cannot tell otherwise.
        whole = found if lines.compressed else list(takewhile(lambda line: b"\0" not in line, found))
        tally.count(list(_entries(whole)), len(whole), lasts)
        if len(whole) < len(found):
            lines.damage = "zeros"
            return good + sum(map(len, whole))
        good = lines.good
    return good


def _entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    for line in lines:
        with suppress(ValueError):  # the exchange's own text may be anything
            yield read(line)


def until(lasts: Mapping[Key, Last]) -> str:
    """Return for people how far `lasts` reach: of how many subscriptions, and when the newest came."""
    newest = max(last.recv for last in lasts.values())
    try:
        when = f"{datetime.fromtimestamp(newest / 1e9, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        when = f"{newest} ns"
    subs = len({whose[:-1] for whose in lasts})
    many = f"{subs} subscription" if subs == 1 else f"{subs} subscriptions"
    return f"{when}, of {many}: what they lack since is a gap (start)"
