"""What a sink can never write: it is declared in that sink's stream, and kept in a file of dead letters."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ..entries import Entry
from .deadletters import DeadLetters
from .declaring import Holes, Key, is_data, is_end, key, remember

Warn = Callable[..., None]

_FORGETFUL = 256


class Rejects:
    """
    Keeps the last that was written of each subscription, and sees to what never will be.

    `records` counts data records that can never be written, of which `letters` are in the file.

    Args:
        known: the feeds that live.
        read_back: whether lines come from a disk, so that they do not know their feed.
        warn: given the kind of a warning and the warning, now and then.
    """

    def __init__(
        self,
        name: str,
        holes: Holes,
        file: DeadLetters | None,
        known: Collection[Any],
        read_back: bool,
        wall_ns: Callable[[], int],
        warn: Warn,
    ) -> None:
        self.records = self.letters = 0
        self.holes = holes
        self._name = name
        self._file = file
        self._known = known
        self._read_back = read_back
        self._wall_ns = wall_ns
        self._warn = warn
        self._last: dict[object, Entry] = {}
        self._read: dict[Key, Entry] = {}

    def resume(self, acknowledged: Mapping[Key, Entry]) -> None:
        """A process before this one wrote these last."""
        self._read |= acknowledged

    def remember(self, written: Sequence[Entry]) -> None:
        """All of `written` is where it shall be."""
        if self._read_back:
            remember(self._read, written)
            return
        self._last.update({entry.feed: entry for entry in written})
        if len(self._last) > _FORGETFUL + 2 * len(self._known):
            self._last = {feed: entry for feed, entry in self._last.items() if feed in self._known}

    def tend(self, pending: Sequence[Entry]) -> list[Entry]:
        """Return what is to be written of `pending`, with what is said of losses before it."""
        # A disk forgets what is written: what is missing of it has to be said before it does.
        now = self.holes.now(self._read.get) if self._read_back else []
        return now + self.holes.tend(list(pending), self._last_of)

    async def bury(self, pending: Sequence[Entry], out: set[int], rejected: Mapping[int, str]) -> int:
        """
        See to what is `rejected` of `pending`, of which all that is not `out` was written; return how much data it is.

        It is a gap of that stream also where it is in the file: who reads the stream does not have it.

        To be called before that is remembered.
        """
        order = sorted(rejected)
        self._warn("rejected", "%s can never write %d lines: %s", self._name, len(order), rejected[order[0]])
        for at in order:
            entry = pending[at]
            if entry.channel is None or entry.type == "status":
                continue  # it tells of no data
            same = partial(_same, pending, out, key(entry))
            after = next((one for one in map(same, range(at - 1, -1, -1)) if one is not None), self._last_of(entry))
            until = next((one for one in map(same, range(at + 1, len(pending))) if one is not None), None)
            self.holes.add(entry, after, until)
        kept = 0
        if self._file is not None:
            try:
                kept = await self._file.add([(pending[at], rejected[at]) for at in order], self._wall_ns())
            except OSError as error:
                self._warn("letters", "%s: the file of dead letters cannot be written: %s", self._name, error)
            if kept < len(order):
                self._warn("full", "%s: %d dead letters have no room", self._name, len(order) - kept)
        data = sum(is_data(pending[at]) for at in order)
        self.letters += sum(is_data(pending[at]) for at in order[:kept])
        self.records += data
        return data

    def _last_of(self, entry: Entry) -> Entry | None:
        if self._read_back:
            return self._read.get(key(entry))
        if is_data(entry):
            return self._last.get(entry.feed)
        return next((last for last in self._last.values() if is_data(last) and key(last) == key(entry)), None)


def parted(entries: Sequence[Entry]) -> Iterator[tuple[Sequence[Entry], Sequence[Entry]]]:
    """
    Yield the parts of `entries` that are written one after the other, and what each leaves for later.

    A part begins where a subscription ends of which data or a gap stands in the one before: what is rejected of that is
    said before the end.
    """
    ends = [at for at, entry in enumerate(entries) if entry.feed is None and is_end(entry)]
    there: set[Key] = set()
    begin = looked = 0
    for at in ends:
        for which in [key(entry) for entry in entries[looked:at] if entry.type != "status"]:
            there |= {which, (*which[:2], None, which[3])}  # an end without an instrument is that of all
        looked = at
        if key(entries[at]) in there:
            yield entries[begin:at], entries[at:]
            begin = at
            there.clear()
    yield entries[begin:], ()


def _same(pending: Sequence[Entry], out: set[int], which: object, at: int) -> Entry | None:
    """Return what stands at a place of a batch, if it was written, and is data of that subscription."""
    entry = pending[at]
    return entry if at not in out and is_data(entry) and key(entry) == which else None
