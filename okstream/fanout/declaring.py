"""
What a sink's stream says of records that its lane had and the sink has not, line by line.

`Starts` says what may be missing since a run before this one, `Holes` what could not be written. Both put two gap lines
directly before the next line of the same subscription.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from ..channels import Subscription
from ..encoding import encode
from ..entries import RAW, Entry, Head
from ..feed.continuity import Continuity
from ..records import Book, Gap, Status
from ..sinks import Proven
from ..statements import Statements, position

Key = tuple[str, str | None, str | None, str | None]
Place = tuple[str | int | None, int | None]
"""A trade id or a book's sequence, and the exchange's time in ms, as far as there are any."""

REMEMBERED = 10_000
"""Subscriptions of which the last that was written is known; of one that is forgotten a gap has no beginning."""

_STATEMENTS = ("gap", "status")
_ACTIONS = ("snapshot", "update")


def is_data(entry: Entry) -> bool:
    return entry.feed is not None or entry.type not in _STATEMENTS


def is_end(entry: Entry) -> bool:
    """Whether `entry` says that its subscription has ended."""
    about = entry.about
    if isinstance(about, Head):
        return about.type == "status" and about.channel is not None and entry.fields.get("state") == "ended"
    return isinstance(about, Status) and about.channel is not None and about.state == "ended"


def key(entry: Entry) -> Key:
    """Return what tells the subscription of `entry` from others: venue, channel, instrument, account."""
    feed = entry.feed
    return key_of(feed) if isinstance(feed, Continuity) else (entry.venue, entry.channel, entry.inst, entry.account)


def key_of(feed: Continuity) -> Key:
    """Return the same for a feed."""
    return feed.venue, feed.sub.channel, feed.sub.inst, feed.sub.account


def place(entry: Entry | None) -> Place:
    """Return where `entry` stands in its subscription."""
    if entry is None:
        return None, None
    about = entry.about
    if not isinstance(about, Head):
        return position(about), about.ts
    # An identity read back: the key of a trade, a fill or a numbered book is in it, see identities.py.
    parts = entry.identity.split(":")
    if entry.type == "trade":
        return parts[-1], entry.ts
    if entry.type == "fill" and len(parts) > 2:
        return parts[-2], entry.ts
    if entry.type == "book" and len(parts) > 3 and parts[-4] in _ACTIONS:
        return int(parts[-2]), entry.ts
    return None, entry.ts


def remember(last: dict[Key, Entry], written: Iterable[Entry]) -> None:
    """
    Note the last of each subscription in `last`; the quietest of very many are forgotten.

    Of each there is neither its line nor its feed: that may have ended, and is large.
    """
    fresh = {key(entry): entry for entry in written if is_data(entry)}
    for which, entry in fresh.items():
        last.pop(which, None)
        last[which] = Entry(b"", entry.about, entry.came)
    if len(last) > REMEMBERED:
        for which in list(last)[: len(last) - REMEMBERED * 3 // 4]:
            del last[which]


def is_change(entry: Entry) -> bool:
    """Whether `entry` changes a book, so that it is of no use where one before it is missing."""
    about = entry.about
    if isinstance(about, Head):
        return about.type == "book" and entry.fields.get("action") == "update"
    return isinstance(about, Book) and about.action == "update"


class Starts:
    """
    The gaps of reason `start`: open before the first line of a subscription, closed before its first data.

    What a gap of before that data would say lies within it, and is left out. Each has the time of the line behind it,
    so that files sorted by it tell the same. Trades that the exchange repeats after a subscription, and that come no
    later than what is proven, are left out, too: they are there, and where the last of them is, nothing is missing.
    So are changes of a book, up to its next snapshot.

    Where a subscription is of many instruments, one of which nothing is proven may have been missed as well as others:
    the first that comes of it has such a gap before it, with no beginning.
    """

    def __init__(self, statements: Statements, wall_ns: Callable[[], int]) -> None:
        self._proven: dict[Key, Proven] = {}
        self._open: dict[Key, Gap] = {}
        self._told: dict[tuple[str, str | None, str | None], set[str | None]] = {}
        self._statements = statements
        self._wall_ns = wall_ns

    def __bool__(self) -> bool:
        return bool(self._proven or self._open or self._told)

    def know(self, proven: Iterable[Proven]) -> None:
        """Something is proven; what was proven before stands."""
        for one in proven:
            self._proven.setdefault((one.venue, one.channel, one.inst, one.account), one)
            self._told.setdefault((one.venue, one.channel, one.account), set()).add(one.inst)

    def tend(self, entries: list[Entry], again: bool = False) -> list[Entry]:
        """Return `entries` with what is to be said between them; `again`: they may be there already."""
        told: list[Entry] = []
        for entry in entries:
            which = self._which(entry)
            if which in self._proven:
                if again and entry.type == "gap" and not entry.identity.startswith(f"{self._statements.instance}-"):
                    told.append(entry)  # what the run before this one said of its own stream, maybe half of it already
                    continue
                one = self._proven[which]
                follows = _follows(one, entry) if again and is_data(entry) else None
                if follows is None or follows >= 0:  # else it is there, and more
                    del self._proven[which]
                if follows is not None:
                    told.append(entry)
                    continue
                recv = entry.recv or self._wall_ns()
                gap = _gap(self._statements, which, "start", recv, (one.after, one.after_ts))
                self._open[which] = gap
                told.append(Entry(encode(gap), gap))
            if which in self._open:
                if is_change(entry):
                    continue  # of no use before the book's next snapshot
                if is_data(entry):
                    behind = _behind(self._open[which], entry)
                    if behind is None or behind >= 0:
                        end = _closed(self._open.pop(which), place(entry), entry.recv or self._wall_ns())
                        end = replace(end, lost=0 if behind in (0, 1) else None)
                        told.append(Entry(encode(end), end))
                    if behind is not None and behind <= 0:
                        continue
                elif entry.type == "gap":
                    continue
            told.append(entry)
        return told

    def _which(self, entry: Entry) -> Key:
        """Return the key under which something is proven: of the record itself, where its subscription is of many."""
        which = key(entry)
        if entry.feed is not None and which[2] is not None:
            self._told.pop((which[0], which[1], which[3]), None)  # it is of one instrument
        elif which not in self._proven and which not in self._open:
            which = entry.venue, entry.channel, entry.inst, entry.account
            told = self._told.get((entry.venue, entry.channel, entry.account))
            if entry.feed is not None and told is not None and entry.inst not in told:
                told.add(entry.inst)
                self._proven[which] = Proven(entry.venue, str(entry.channel), entry.inst, entry.account, None, None, "")
        return which


class _Hole:
    __slots__ = ("after", "book", "until")

    def __init__(self, after: Place, book: bool, until: Place | None) -> None:
        self.after = after
        self.book = book
        self.until = until


class Holes:
    """
    What could not be written, by subscription.

    What is missing can be said `now`, by a gap that is closed later; else both its lines come before what is next.
    Changes of a book that lost one are left out until its next snapshot; they count as `dropped`.

    Args:
        reason: of the gaps.
        renew: asks for a snapshot of a book.
        known: the feeds that live, for lines from a disk, which do not know theirs.
        silent: whether its consumer wants data only; then nothing is said, but books are right all the same.
    """

    def __init__(
        self,
        reason: str,
        statements: Statements,
        wall_ns: Callable[[], int],
        renew: Callable[[Continuity], None],
        silent: bool = False,
        known: Collection[Continuity] = (),
    ) -> None:
        self._silent = silent
        self._known = known
        self.dropped = 0
        self._reason = reason
        self._holes: dict[Key, _Hole] = {}
        self._doubted: set[Key] | None = None
        self._suspects: list[Key] = []
        self._said: dict[Key, Gap] = {}
        self._again: list[Entry] = []
        self._statements = statements
        self._wall_ns = wall_ns
        self._renew = renew

    def __bool__(self) -> bool:
        return bool(self._holes) or self._doubted is not None

    @property
    def said(self) -> dict[Key, Gap]:
        """The gaps of which only the first line was told."""
        return dict(self._said)

    def resume(self, said: Mapping[Key, Gap]) -> None:
        """
        A process before this one told the first line of these: it comes again, as nobody knows whether it got there.

        Of books changes are left out up to the next snapshot.
        """
        if self._silent:
            return
        self._said |= said
        self._holes |= {which: _Hole((gap.after, gap.after_ts), True, None) for which, gap in said.items()}
        self._again += [Entry(encode(gap), gap) for gap in said.values()]

    def add(self, entry: Entry, after: Entry | None, until: Entry | None = None) -> None:
        """`entry` is missing: between `after` and, if it was written already, `until`."""
        which = key(entry)
        known = self._holes.get(which)
        book = entry.type == "book" and self._renewed(entry)
        if known is None:
            self._holes[which] = _Hole(place(after), book, place(until) if until is not None and not book else None)
        else:
            known.until = place(until) if until is not None and not book else None
            known.book = known.book or book

    def doubt(self, suspects: Iterable[Key] = ()) -> None:
        """Something is missing, and nobody knows of what; of one of `suspects`, as far as they are known."""
        self._doubted = set()
        self._suspects = list(suspects)

    def now(self, last: Callable[[Key], Entry | None]) -> list[Entry]:
        """Return what can be said at once, so that it is written before anything that follows is: see `tend`."""
        told, self._again = self._again, []
        for which in self._suspects:
            if which not in self._holes:
                told += self._opened(which, place(last(which)))
        self._suspects = []
        for which, hole in list(self._holes.items()):
            if hole.until is None:
                told += self._opened(which, hole.after)
            else:
                del self._holes[which]
                told += self._gap(which, hole.after, hole.until)
        return told

    def tend(self, entries: list[Entry], last: Callable[[Entry], Entry | None]) -> list[Entry]:
        """Return what is to be written of `entries`, with the gaps between them; `last`: what was written before."""
        told: list[Entry] = []
        for entry in entries:
            if not is_data(entry):
                if is_end(entry):
                    told += self._finished(entry)
                told.append(entry)
                continue
            which = key(entry)
            hole = self._holes.get(which)
            if self._doubted is not None and which not in self._doubted:
                self._doubted.add(which)
                if hole is None and (hole := self._suspected(entry, last(entry))) is not None:
                    self._holes[which] = hole
                elif hole is None and which in self._said:
                    told += self._gap(which, (None, None), place(entry))
            if hole is not None:
                if hole.book and is_change(entry):
                    self.dropped += 1
                    continue
                del self._holes[which]
                told += self._gap(which, hole.after, hole.until or place(entry))
            told.append(entry)
        return told

    def _finished(self, end: Entry) -> list[Entry]:
        """Return what is said, and over, before a subscription ends: of all its instruments, where it is of many."""
        told: list[Entry] = []
        venue, channel, inst, account = key(end)
        for which in {**self._holes, **self._said}:
            if which == (venue, channel, which[2] if inst is None else inst, account):
                hole = self._holes.pop(which, None)
                after, until = (hole.after, hole.until) if hole is not None else ((None, None), None)
                told += self._gap(which, after, until or (None, None))
        return told

    def unsaid(self) -> list[Entry]:
        """Return the gaps that nothing followed; called once, at the end."""
        gaps: list[Entry] = []
        for which, hole in self._holes.items():
            if hole.until is not None:
                gaps += self._gap(which, hole.after, hole.until)
            else:
                gaps += self._opened(which, hole.after)
        self._holes.clear()
        return gaps

    def _suspected(self, entry: Entry, last: Entry | None) -> _Hole | None:
        """Return a hole before `entry`, unless it names the one before it and that is there."""
        if entry.type == "book":
            fields, (seq, _) = entry.fields, place(last)
            if fields.get("prev") is not None and fields.get("prev") == seq:
                return None
            return _Hole(place(last), fields.get("action") == "update" and self._renewed(entry), None)
        return _Hole(place(last), False, None)

    def _renewed(self, entry: Entry) -> bool:
        """Ask for a snapshot of the book that `entry` is of; return whether it may be one of changes."""
        feed = entry.feed
        if not isinstance(feed, Continuity):
            feed = next((one for one in self._known if key_of(one) == key(entry)), None)
        if feed is None:
            return True
        if feed.traits.incremental:
            self._renew(feed)
        return feed.traits.incremental

    def _gap(self, which: Key, after: Place, until: Place) -> list[Entry]:
        """Return what is to be said of a gap that ends: both lines, unless the first was said already."""
        told = self._opened(which, after)
        if (gap := self._said.pop(which, None)) is not None:
            end = _closed(gap, until, self._wall_ns())
            told.append(Entry(encode(end), end))
        return told

    def _opened(self, which: Key, after: Place) -> list[Entry]:
        if self._silent or which in self._said:
            return []
        gap = self._said[which] = _gap(self._statements, which, self._reason, self._wall_ns(), after)
        return [Entry(encode(gap), gap)]


def _follows(one: Proven, entry: Entry) -> int | None:
    """Return how far `entry` is behind what is proven, at most 1; None where something may be missing between them."""
    at, ts = place(entry)
    if entry.type == "book" and one.after is not None and entry.fields.get("prev") == one.after:
        return 1
    if not str(at).isdecimal() or not str(one.after).isdecimal():
        return None
    behind = int(str(at)) - int(str(one.after))
    if (behind == 1 and entry.type == "trade") or (behind <= 0 and (ts or 0) <= (one.after_ts or 0)):
        return behind
    return None


def _behind(gap: Gap, entry: Entry) -> int | None:
    """Return how far the id of a trade is behind what is proven; None where numbers do not tell."""
    at, ts = place(entry)
    if entry.type != "trade" or not str(at).isdecimal() or not str(gap.after).isdecimal():
        return None
    behind = int(str(at)) - int(str(gap.after))
    return behind if behind > 0 or (ts or 0) <= (gap.after_ts or 0) else None  # else ids begin again


def _gap(statements: Statements, which: Key, reason: str, recv: int, after: Place) -> Gap:
    venue, channel, inst, account = which
    gap = statements.gap(venue, Subscription(channel or RAW, inst, (), account), reason, recv, None)
    return replace(gap, after=after[0], after_ts=after[1])


def _closed(gap: Gap, until: Place, recv: int) -> Gap:
    return replace(gap, state="closed", recv=recv, until=until[0], until_ts=until[1])
