"""Writes batches into the segments of a template. Everything here blocks, and belongs to one thread at a time."""

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from errno import EMFILE, ENFILE
from pathlib import Path
from typing import Any

import orjson

from okstream.entries import Entry
from okstream.errors import RetryError
from okstream.sinks import Proven
from okstream.zstd import compressor

from .disk import first_of, make_folder, said, sync_folder
from .names import MANIFEST, Template, numbers
from .routes import OpenGaps, Route, Routes
from .segment import Flush, RemovedError, Segment
from .state import State, manifest_lasts
from .tally import STATEMENTS, Key, Last, proofs, renew, set_back, until

log = logging.getLogger("okstream.sinks.file")

GRACE = 2_000_000_000
"""How long, in ns, a segment of a day or hour that is over waits for records that come late."""

_NO_MORE = frozenset({EMFILE, ENFILE})
_AGAIN = 5_000_000_000  # ns until what could not be finished is tried again
_LIVELY = 7 * 86_400 * 1_000_000_000  # ns; what was quiet for longer is told of a gap when it has something to say
_STEMS = 100_000


class Writer:
    """
    The segments of one template.

    Args:
        level: of zstd; None for plain files.
        rotate_bytes, rotate_ns: when a segment is finished, by its size and by the age of its first record.
        open_files: how many are held open.
        sync: whether each flush is made to outlive a power cut, or only what is finished.
    """

    def __init__(
        self,
        template: Template,
        *,
        level: int | None,
        rotate_bytes: int | None,
        rotate_ns: int | None,
        open_files: int,
        sync: bool,
    ) -> None:
        self._template = template
        self._compressor = None if level is None else compressor(level)
        self._rotate_bytes = rotate_bytes
        self._rotate_ns = rotate_ns
        self._most = open_files
        self._sync = sync
        self._state = State(template)
        self._routes = Routes(template)
        self._gaps = OpenGaps()
        self._lasts: dict[Key, Last] = {}
        self._proven: dict[Key, Last] = {}
        self._open: OrderedDict[Segment, None] = OrderedDict()
        self._segments: dict[Segment, Route] = {}
        self._ending: list[Segment] = []
        self._numbers: dict[Path, dict[str, int]] = {}
        self._touched: list[Segment] = []
        self.newest = 0
        self.due: float = float("inf")

    def open(self) -> None:
        """
        Lock the template, and finish what other runs left.

        Raises:
            RetryError: another process writes there. OSError: as the system says.
        """
        self._routes, self._gaps = Routes(self._template), OpenGaps()
        self._state.open()
        self._lasts = dict(self._state.lasts)
        self._mend()
        self._state.compact()
        self._proven = dict(self._lasts)
        if self._lasts:
            log.info("%s: goes on after %s", self._template.text, until(self._lasts))
        self.newest = max((last.recv for last in self._lasts.values()), default=0)
        for whose, last in self._lasts.items():
            if last.recv >= self.newest - _LIVELY:
                self._routes.add(whose)

    def proven(self) -> Iterable[Proven]:
        """Return the last record of each subscription as it was when this was opened."""
        return proofs(self._proven)

    def write(self, batch: Sequence[Entry]) -> None:
        """
        Write `batch`.

        Raises:
            RetryError: some of it could not be; `pending` says which. There is nothing of that in any file, but
                statements that stand in several and are in some of them already, where they will not be repeated.
        """
        routes = self._routes.of
        for position, entry in enumerate(batch):
            about = entry.about
            kind = about.type
            whose = (about.venue, about.channel, about.inst, getattr(about, "account", None), kind)
            if kind in STATEMENTS:
                self._say(entry, position, whose)
                continue
            route = routes.get(whose) or self._routes.add(whose)
            recv = entry.came or about.recv
            segment = route.segment
            if segment is None or not route.begins <= recv < route.ends:
                segment = self._turn(route, recv)
            flush = segment.flush or self._begin(segment, route)
            flush.lines.append(entry.line)
            flush.positions.append(position)
            flush.data[whose].append(entry)
        if batch:
            before, self.newest = self.newest, batch[-1].recv
            if self.newest + GRACE < before:
                self._rewind(self.newest)
        self._flush_all()
        if self.newest >= self.due:
            self.tick(self.newest)

    def tick(self, now: int) -> None:
        """Finish what is over; `now` in ns, as `recv` is."""
        if now < self.due:
            return
        over = [segment for segment in self._segments if self._deadline(segment) <= now]
        for segment in over:
            self._segments.pop(segment).forget(segment)
        ending, self._ending = self._ending + over, []
        self._finish(ending)
        self._plan(now)
        if self._state.wants_compaction:
            self._compact()

    def close(self) -> None:
        """Finish everything; what cannot be is finished when this is opened again."""
        ending = [*self._ending, *self._segments]
        self._ending.clear()
        self._segments.clear()
        self._touched.clear()
        try:
            self._finish(ending)
        finally:
            for segment in ending:
                segment.let_go()
            self._open.clear()
            self._ending.clear()
            self.due = float("inf")
            self._state.close()

    def _rewind(self, now: int) -> None:
        """The clock was set back to `now`: what was begun ahead of that is over, or as old as that."""
        for segment in self._segments:
            if segment.begins > now + GRACE:
                segment.ends = float("-inf")
            segment.since = min(segment.since, now)
        for segment in (*self._segments, *self._ending):
            segment.set_back(now)
        set_back(self._lasts, now)
        if set_back(self._state.lasts, now):
            self._compact()
        self._plan(now)

    def _say(self, entry: Entry, position: int, whose: Key) -> None:
        """Put a statement into every file that it is about."""
        identity, lasts = entry.identity, self._lasts
        if entry.type == "gap" and entry.inst is None and not self._gaps.about([whose[:4]]):
            since = entry.recv - _LIVELY
            self._routes.forget(whose, lambda one: one in lasts and lasts[one].recv < since)
        for route in self._routes.stated(whose):
            begins, _ = self._routes.bounds(entry.recv)
            segment = route.segment
            if segment is None or (entry.recv >= route.ends and begins >= route.ends):
                segment = self._turn(route, entry.recv)
            flush = segment.flush or self._begin(segment, route)
            if identity not in segment.said and identity not in flush.said:
                flush.lines.append(entry.line)
                flush.positions.append(position)
                flush.said[identity] = entry
        self._gaps.take(entry)

    def _turn(self, route: Route, recv: int) -> Segment:
        """Return the segment of `route` for `recv`; a newer one than the present becomes that."""
        begins, ends = self._routes.bounds(recv)
        segment = route.live.get(begins)
        if segment is None:
            path = self._routes.path(route, begins)
            segment = route.live[begins] = Segment(path, begins, ends)
            self._segments[segment] = route
            segment.since = recv
            self.due = min(self.due, self._deadline(segment))
        if route.segment is None or begins >= route.begins:
            route.segment, route.begins, route.ends = segment, begins, ends
        return segment

    def _begin(self, segment: Segment, route: Route) -> Flush:
        """Return what is to be written to `segment` with this batch; a new file begins with the gaps that are open."""
        flush = segment.flush = Flush()
        self._touched.append(segment)
        if not segment.begun:
            # Where the first flush failed, the second begins with the same, though it is over by then.
            segment.carried |= {entry.identity: entry for entry in self._gaps.about(route.subs)}
            flush.said |= segment.carried
            flush.lines += [entry.line for entry in segment.carried.values()]
        return flush

    def _flush_all(self) -> None:
        touched, self._touched = self._touched, []
        pending: set[int] = set()
        failed = self._register([segment for segment in touched if not segment.begun])
        reasons: list[str] = []
        for segment in touched:
            flush, segment.flush = segment.flush, None
            assert flush is not None
            if not flush.lines:  # all of it stands there already
                continue
            try:
                if segment in failed:
                    raise failed[segment]
                self._flush(segment, flush)
            except (OSError, RetryError) as error:
                reasons.append(said(error, segment.part))
                pending.update(flush.positions)
        if pending:
            raise RetryError(first_of(reasons), sorted(pending))
        for segment in touched:
            segment.said.clear()

    def _register(self, segments: list[Segment]) -> dict[Segment, Exception]:
        """Find names for new segments, and remember that they are begun; return those for which that failed."""
        failed: dict[Segment, Exception] = {}
        for segment in segments:
            try:
                make_folder(Path(segment.base).parent, self._sync)
                if not segment.named:
                    self._number(segment)
            except OSError as error:
                failed[segment] = error
        named = [segment for segment in segments if segment not in failed]
        try:
            self._state.begin([segment.path for segment in named])
        except (OSError, RetryError) as error:
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(self._state.path)
            failed |= dict.fromkeys(named, error)
        if any(isinstance(error, OSError) and error.errno in _NO_MORE for error in failed.values()):
            self._let_go(-(-len(self._open) // 2))
        return failed

    def _number(self, segment: Segment) -> None:
        """Give a new segment the number after the last one that there is."""
        folder, base = Path(segment.base).parent, Path(segment.base).name
        if len(self._numbers) > _STEMS or sum(map(len, self._numbers.values())) > _STEMS:
            self._numbers.clear()
        known = self._numbers.get(folder)
        if known is None:
            known = self._numbers[folder] = numbers(folder)
        count = known[base] = known.get(base, 0) + 1
        segment.call(self._template.numbered(segment.base, count))

    def _flush(self, segment: Segment, flush: Flush) -> None:
        try:
            self._hold(segment)
            segment.write(flush, self._compressor, self._sync, self._lasts)
        except RemovedError as error:
            self._lose(segment, error)
            raise
        except OSError as error:
            if not segment.begun:
                self._open.pop(segment, None)
                segment.discard()
            if isinstance(error, FileExistsError):
                self._numbers.pop(segment.path.parent, None)
                segment.call(Path())
            raise
        if self._rotate_bytes is not None and segment.size >= self._rotate_bytes:
            segment.ends = float("-inf")
            self.due = 0

    def _hold(self, segment: Segment) -> None:
        """Have it open, and not too many others."""
        if segment.is_open:
            self._open.move_to_end(segment)
            return
        self._let_go(max(0, len(self._open) - self._most + 1))
        try:
            segment.open()
        except OSError as error:
            if error.errno not in _NO_MORE or not self._open:
                raise
            self._let_go(-(-len(self._open) // 2))
            segment.open()
        self._open[segment] = None

    def _let_go(self, count: int) -> None:
        for _ in range(count):
            self._open.popitem(last=False)[0].let_go()

    def _lose(self, segment: Segment, error: OSError) -> None:
        """It was removed from under us: go on with another one."""
        log.error("%s: %s; %d lines were in it", segment.part, error.strerror, segment.tally.lines)
        self._open.pop(segment, None)
        segment.let_go()
        self._segments.pop(segment).forget(segment)
        self._numbers.pop(segment.path.parent, None)

    def _deadline(self, segment: Segment) -> float:
        over = segment.ends + GRACE
        return over if self._rotate_ns is None else min(over, segment.since + self._rotate_ns)

    def _plan(self, now: int) -> None:
        """Find out when something is due next."""
        self.due = min(map(self._deadline, self._segments), default=float("inf"))
        if self._ending:
            self.due = min(self.due, now + _AGAIN)

    def _finish(self, segments: Iterable[Segment]) -> None:
        """Finish `segments`; those that cannot be now are kept in `_ending`."""
        finished: dict[Path, dict[Key, Last]] = {}
        folders: set[Path] = set()
        failed: list[str] = []
        for segment in segments:
            self._open.pop(segment, None)
            try:
                if segment.begun:
                    folders.update(self._within(segment.finish(self._about(segment, self._state.run)).parent))
                    finished[segment.path] = segment.lasts()
                else:
                    segment.let_go()
            except RemovedError as error:
                log.error("%s: %s; %d lines were in it", segment.part, error.strerror, segment.tally.lines)
            except (OSError, RetryError) as error:
                failed.append(said(error, segment.part))
                segment.let_go()
                self._ending.append(segment)
        if failed:
            log.warning("not finished yet: %s", first_of(failed))
        try:
            for folder in folders:
                sync_folder(folder)
            self._state.finish(finished)
        except (OSError, RetryError) as error:
            log.warning("%s", said(error, self._state.path))  # found again at the next start

    def _within(self, folder: Path) -> list[Path]:
        """Return what has to be synced for the names in `folder` to outlive a power cut."""
        made = [] if self._sync else [one for one in folder.parents if one.is_relative_to(self._template.root)]
        return [folder, *made]

    def _about(self, segment: Segment, run: str | None) -> dict[str, Any]:
        return {"template": self._template.text, "compress": "zstd" if segment.compressed else "none",
                "sink": self._state.sink, "run": run}  # fmt: skip

    def _compact(self) -> None:
        try:
            self._state.compact()
        except (OSError, RetryError) as error:
            log.warning("%s", said(error, self._state.path))

    def _mend(self) -> None:
        """Finish what other runs left unfinished."""
        mended: list[Path] = []
        failed: list[str] = []
        for path, run in list(self._state.begun.items()):
            segment = Segment(str(path), float("-inf"), float("inf"))
            segment.call(path)
            lasts: dict[Key, Last] = {}
            try:
                if segment.part.exists() and segment.mend(self._lasts):
                    for folder in self._within(segment.finish(self._about(segment, run)).parent):
                        sync_folder(folder)
                    lasts = segment.lasts()
                    mended.append(path)
                elif (manifest := path.with_name(path.name + MANIFEST)).exists() and path.exists():
                    lasts = manifest_lasts(orjson.loads(manifest.read_bytes()))
            except (OSError, RetryError) as error:
                failed.append(said(error, segment.part))
                continue
            except (ValueError, KeyError, TypeError) as error:
                failed.append(f"{segment.part}: {error!r}")
                continue
            renew(self._lasts, lasts)
            self._state.finished(path, lasts)
        if mended:
            log.info("finished what a run before left: %s", first_of([str(path) for path in mended]))
        if failed:
            log.warning("not mended: %s", first_of(failed))
