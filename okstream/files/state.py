"""
What a sink remembers beside its files, so that it need not look at thousands of them when it starts: which segments it
had begun, and the last record of each key. A cache: without it manifests and unfinished segments are looked for.
"""

import logging
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import Any

import orjson

from .disk import is_called, lock, make_folder, sync_folder, write_at, write_whole
from .names import MANIFEST, PART, Template
from .tally import Key, Last, renew, row, rows

log = logging.getLogger("okstream.sinks.file")

_FORM = 1
_COMPACT_BYTES = 8 << 20
_STATES = ".okstream-*.state"
LOCKS = ".okstream-*.lock"
"""What the files are called that a sink has locked while it writes a template, beside its state."""


class State:
    """
    The memory of the sink that writes `template`.

    `path` is where it is kept, `sink` the sink's name for life, `run` that of this run. `lasts` are the last records in
    finished segments, `begun` what the segments that are not finished will be called, and which run began each.
    """

    def __init__(self, template: Template) -> None:
        self.sink = token_hex(4)
        self.run = token_hex(4)
        self.lasts: dict[Key, Last] = {}
        self.begun: dict[Path, str | None] = {}
        self._template = template
        digest = blake2b(template.text.encode(), digest_size=4).hexdigest()
        self.path = template.root / f".okstream-{digest}.state"
        self._lock_path = self.path.with_suffix(".lock")
        self._lock: int | None = None
        self._file: int | None = None
        self._size = self._compacted = 0

    def open(self) -> None:
        """
        Lock and read it.

        Raises:
            RetryError: another process writes the same template. OSError: as the system says.
        """
        self._own()
        self.run = token_hex(4)
        self.lasts.clear()
        self.begun.clear()
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            self._search()
        else:
            self._read(text)

    def close(self) -> None:
        """Let go of it."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def compact(self) -> None:
        """
        Write it anew, without what no longer matters.

        Raises:
            RetryError: its folder was removed, and another process writes there now. OSError: as the system says.
        """
        if self._own() and self.path.exists():  # what another one left there meanwhile
            sink = self.sink
            self._read(self.path.read_bytes())
            self.sink = sink
        lines = [orjson.dumps({"state": _FORM, "sink": self.sink, "template": self._template.text}), self._said()]
        lines += [orjson.dumps({"begun": self._relative(path), "run": run}) for path, run in self.begun.items()]
        text = b"\n".join(lines) + b"\n"
        write_whole(self.path, text)
        sync_folder(self.path.parent)
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._file = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        self._size = self._compacted = len(text)

    def begin(self, paths: Iterable[Path]) -> None:
        """Remember that the segments `paths` are begun."""
        new = dict.fromkeys(paths, self.run)
        self._append([orjson.dumps({"begun": self._relative(path), "run": run}) for path, run in new.items()])
        self.begun |= new

    def finish(self, finished: Mapping[Path, Mapping[Key, Last]]) -> None:
        """Remember that segments, by what they were to be called, are finished, and the last records they hold."""
        for path, lasts in finished.items():
            self.finished(path, lasts)
        self._append(
            [orjson.dumps({"finished": self._relative(path), "lasts": rows(lasts)}) for path, lasts in finished.items()]
        )

    def finished(self, path: Path, lasts: Mapping[Key, Last]) -> None:
        """As `finish`, for the next time this is written anew."""
        self.begun.pop(path, None)
        renew(self.lasts, lasts)

    @property
    def wants_compaction(self) -> bool:
        """Whether it has grown enough."""
        return self._size > self._compacted * 4 + _COMPACT_BYTES

    def _own(self) -> bool:
        """Have the lock that is there now: not one that was removed with its folder. Return whether it is another."""
        if self._lock is not None and is_called(self._lock, self._lock_path):
            return False
        make_folder(self._template.root)
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            lock(descriptor, Path(self._template.text))
        except BaseException:
            os.close(descriptor)
            raise
        if self._lock is not None:
            os.close(self._lock)
        self._lock = descriptor
        return True

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._template.root))

    def _said(self) -> bytes:
        return orjson.dumps({"lasts": rows(self.lasts)})

    def _append(self, lines: list[bytes]) -> None:
        if not lines:
            return
        if (
            self._file is None
            or self._lock is None
            or not is_called(self._lock, self._lock_path)
            or not is_called(self._file, self.path)
        ):  # its folder was removed
            self.compact()
        assert self._file is not None
        text = b"\n".join(lines) + b"\n"
        write_at(self._file, text, self._size)
        self._size += len(text)
        os.fsync(self._file)

    def _read(self, text: bytes) -> None:
        for line in text.split(b"\n"):
            try:
                said = orjson.loads(line) if line else {}
                self._take(said)
            except (ValueError, TypeError, AttributeError) as error:
                # A torn last line is what was being written when the process died, and did not happen.
                log.warning("%s: a line is skipped: %s", self.path, error)

    def _take(self, said: Mapping[str, Any]) -> None:
        if "state" in said:
            self.sink = str(said["sink"])
        if "begun" in said:
            self.begun[self._template.root / said["begun"]] = said.get("run")
        if "finished" in said:
            self.begun.pop(self._template.root / said["finished"], None)
        renew(self.lasts, dict(map(row, said.get("lasts", ()))))

    def _search(self) -> None:
        """Find what is to be remembered: slow where there are many files."""
        unfinished = self._template.parts()
        newest: dict[str, int] = {}
        root = self._template.root
        deepest = len(Path(self._template.text).parts) - 1
        for folder, folders, names in os.walk(root):
            if len(Path(folder).parts) >= deepest:
                folders.clear()
            for name in names:
                path = Path(folder, name)
                if name.endswith(MANIFEST):
                    self._learn(path, newest)
                elif name.endswith(PART) and unfinished.fullmatch(str(path)):
                    self.begun[path.with_name(name.removesuffix(PART))] = None

    def _learn(self, path: Path, newest: dict[str, int]) -> None:
        try:
            manifest = orjson.loads(path.read_bytes())
            if str(Path(manifest["template"])) != self._template.text:
                return
            renew(self.lasts, manifest_lasts(manifest))
            if (recv := manifest["last_recv"] or 0) >= newest.get("recv", 0):
                newest["recv"], self.sink = recv, str(manifest["sink"])
        except (ValueError, TypeError, KeyError, OSError) as error:
            log.warning("%s: not read: %s", path, error)


def manifest_lasts(manifest: Mapping[str, Any]) -> dict[Key, Last]:
    """Return the last record of each key that a manifest names; raises KeyError, TypeError: it is none of ours."""
    return {
        (one["venue"], one["channel"], one["inst"], one["account"], one["type"]): Last(
            one["last"], one["after"], one["last_ts"], one["last_recv"]
        )
        for one in manifest["subscriptions"]
    }


def origin(part: Path) -> tuple[str | None, str | None]:
    """Return which sink and run began the segment `part`, as far as a state above it tells."""
    whole = part.absolute()
    for folder in whole.parents:
        for path in folder.glob(_STATES):
            try:
                about = path.stat()
                known = _begun(path, about.st_mtime_ns, about.st_size)
            except OSError:
                continue
            if found := known.get(str(whole.relative_to(folder)).removesuffix(PART)):
                return found
    return None, None


@lru_cache(maxsize=8)
def _begun(path: Path, changed: int, size: int) -> dict[str, tuple[str | None, str | None]]:
    """Return who began the segments that the state at `path` names; asked again where it has `changed`, or its size."""
    known: dict[str, tuple[str | None, str | None]] = {}
    sink: str | None = None
    for line in path.read_bytes().split(b"\n"):
        if line.startswith(b'{"lasts"'):
            continue
        try:
            said = orjson.loads(line) if line else {}
            sink = str(said["sink"]) if "sink" in said else sink
            if "begun" in said:
                known[said["begun"]] = sink, None if said.get("run") is None else str(said["run"])
        except (ValueError, TypeError, AttributeError):
            continue
    return known
