"""What a spool has no room for, and how the stream says so."""

from collections.abc import Callable, Mapping, Sequence

from ..entries import Entry
from ..feed.continuity import Continuity
from ..records import Gap
from .declaring import Holes, Key, is_data, key
from .surroundings import Surroundings


class Refused:
    """
    Says of what had no room by gaps of reason `overflow`; a gap of which one line had none is told whole.

    `records` counts data.

    Args:
        renew, silent: see Holes.
        last: what stands last of each subscription on its way to the sink.
    """

    def __init__(
        self,
        around: Surroundings,
        renew: Callable[[Continuity], None],
        silent: bool,
        last: Mapping[Key, Entry],
    ) -> None:
        self.records = 0
        self._last = last
        self._holes = Holes("overflow", around.statements, around.wall_ns, renew, silent)
        self._unclosed: dict[str, Entry] = {}
        self._unopened: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._holes or self._unclosed or self._unopened)

    @property
    def dropped(self) -> int:
        """Changes of books that were left out behind what had no room."""
        return self._holes.dropped

    @property
    def lost(self) -> int:
        """Data records that the sink will not get."""
        return self.records + self.dropped

    def tend(self, entries: list[Entry]) -> list[Entry]:
        """Return `entries` with what is said of those before them that had no room."""
        if self._unclosed or self._unopened:
            kept: list[Entry] = list(self._unclosed.values())
            for entry in entries:
                about = entry.about
                if isinstance(about, Gap) and about.state == "closed" and about.gap in self._unopened:
                    self._unopened.discard(about.gap)  # another gap says it already
                else:
                    kept.append(entry)
            entries = kept
        return self._holes.tend(entries, lambda entry: self._last.get(key(entry)))

    def take(self, entries: Sequence[Entry], accepted: int) -> None:
        """The first so many of `entries` are on their way; for the others there is no room."""
        for at, entry in enumerate(entries):
            if at >= accepted:
                self._refuse(entry)
            elif isinstance(entry.about, Gap):
                self._unclosed.pop(entry.about.gap, None)

    def unsaid(self) -> list[Entry]:
        """Return what is still to be said; called once nothing follows."""
        said = [*self._unclosed.values(), *self._holes.unsaid()]
        self._unclosed.clear()
        return said

    def _refuse(self, entry: Entry) -> None:
        """There is no room for `entry`: what it says is said later, or by what is said of data that had no room."""
        about = entry.about
        if is_data(entry):
            self.records += 1
        elif not isinstance(about, Gap):
            return
        elif about.state == "closed" and about.gap not in self._unopened:
            self._unclosed[about.gap] = entry
            return
        elif about.state == "closed":
            self._unopened.discard(about.gap)
        else:
            self._unopened.add(about.gap)
        if entry.channel is not None:
            self._holes.add(entry, self._last.get(key(entry)))
