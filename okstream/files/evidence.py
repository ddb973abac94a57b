"""Reads what a file sink (or a shell) wrote, checks it against its manifests, and tells what each file is worth."""

import fcntl
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from glob import glob, has_magic
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from okstream.coverage import Broken, Part, Said, Stretch, Subscription
from okstream.errors import ConfigError
from okstream.zstd import MAGIC

from .disk import same
from .names import MANIFEST, PART, Template, number
from .reading import Lines
from .state import LOCKS, origin

ENDINGS = (".jsonl", ".ndjson", ".json", ".jsonl.zst", ".ndjson.zst", ".json.zst", ".zst")
"""What files in a folder end with, .part aside, where no manifest is beside them."""


@dataclass(slots=True)
class File:
    """
    One file: `part` what it tells, `source` and `run` the sink and the run that wrote it, as far as its manifest or a
    state says, `problem` what is wrong with it; `shares` what its manifest says it has.
    """

    path: Path
    part: Part
    manifest: dict[str, Any] | None = None
    source: str | None = None
    run: str | None = None
    problem: str | None = None
    shares: list[dict[str, Any]] = field(default_factory=list)


def found(names: Iterable[str]) -> list[Path]:
    """
    Return the files that `names` mean: files, folders with all below them, patterns.

    Raises:
        ConfigError: one of them means none.
    """
    files: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            these = _below(path)
        elif path.exists():
            these = [path]
        else:
            these = [Path(one) for one in sorted(glob(name, recursive=True))] if has_magic(name) else []
            these = [one for each in these for one in (_below(each) if each.is_dir() else [each])]
        if not these:
            raise ConfigError(f"{name}: there is no such file" if not path.is_dir() else nothing_in([name]))
        files |= dict.fromkeys(one for one in these if not one.name.endswith(MANIFEST))
    return list(files)


def nothing_in(names: Sequence[str]) -> str:
    """Return for people that there is nothing to be judged in `names`, and why that may be."""
    what = " ".join(names)
    if any(_is_journal(Path(name)) for name in names):
        return f"{what}: a journal holds no records; okstream replay makes them of it"
    return f"{what}: there are no records in there"


def _is_journal(path: Path) -> bool:
    try:
        for one in [path] if path.is_file() else [one for one in sorted(path.rglob("*.zst*")) if one.is_file()][:1]:
            return _first(one).get("dir") == "journal"
    except OSError:
        pass
    return False


def _holds_none(path: Path) -> bool:
    """Whether it is a journal, or holds dead letters: what a sink could not write is in no archive."""
    try:
        first = _first(path)
    except OSError:
        return False
    return first.get("dir") == "journal" or {"sink", "reason", "record"} <= first.keys()


def _first(path: Path) -> dict[str, Any]:
    """Return the object that the file at `path` begins with, or an empty one."""
    with path.open("rb") as stream:
        try:
            first = orjson.loads(next(iter(Lines(stream, early=True)), b"null"))
        except ValueError:
            return {}
    return first if isinstance(first, dict) else {}


def _below(folder: Path) -> list[Path]:
    these = set()
    for path in folder.rglob("*"):
        if path.name.endswith(MANIFEST):
            # What a manifest tells of is missed where it is not there; while it gets its name, it may have the other.
            named = path.with_name(path.name.removesuffix(MANIFEST))
            if named.exists() or not named.with_name(named.name + PART).exists():
                these.add(named)
        elif not path.name.startswith(".") and path.is_file() and path.name.removesuffix(PART).endswith(ENDINGS):
            described = path.with_name(path.name + MANIFEST).exists()
            if described or not _holds_none(path):
                these.add(path)
    return sorted(these)


def read(path: Path) -> File:
    """
    Read the file at `path`, and its manifest; what is wrong is in `problem` and in its part.

    A .part that is finished meanwhile is read under the name it got, and `path` of what is returned is that; so is one
    that stands beside its finished file because both were copied, each in its time.
    """
    file = _read(path)
    named = path.with_name(path.name.removesuffix(PART))
    with suppress(PermissionError):
        if named != path and (not path.exists() or same(path, named) or _begins_with(named, path)):
            return _read(named)
    return file


def _begins_with(whole: Path, part: Path) -> bool:
    """Whether the file `whole` begins with all that is in `part`."""
    if not whole.exists():
        return False
    with whole.open("rb") as one, part.open("rb") as other:
        while piece := other.read(1 << 20):
            if one.read(len(piece)) != piece:
                return False
    return True


def read_all(paths: Iterable[Path]) -> list[File]:
    """Read the files at `paths`, each once, also where one got another name meanwhile."""
    files: dict[Path, File] = {}
    for path in paths:
        if path not in files:
            file = read(path)
            files.setdefault(file.path, file)
    return list(files.values())


def _read(path: Path) -> File:
    file = File(path, Part())
    file.manifest = _manifest(path)
    if file.manifest is not None:
        file.shares = file.manifest["subscriptions"]
        file.source, file.run = file.manifest["sink"], file.manifest["run"]
    elif path.name.endswith(PART):
        file.source, file.run = origin(path)
    try:
        with path.open("rb") as stream:
            damage, digest, size = _take(stream, file)
    except FileNotFoundError:
        return _void(file, "missing")
    except OSError as error:
        return _void(file, f"unreadable: {error.strerror}")
    if file.manifest is not None:
        if size < file.manifest["bytes"]:
            return _void(file, f"torn: {size} of {file.manifest['bytes']} bytes")
        if digest != file.manifest["sha256"]:
            return _void(file, "corrupt: not what its manifest says")
        _raw(file)
    elif damage is not None and not _foreign(path):
        file.problem = f"torn: {damage}"
        file.part.broken("torn")
    elif path.name.endswith(PART) and not _writing(path):
        file.problem = "unfinished: what came after it may be lost; the next start of its okstream finishes it"
    elif number(path.name) is not None and not path.name.endswith(PART):
        file.problem = "no manifest"
        file.part.detached("no manifest")
        file.part.broken("no manifest")
    return file


def _foreign(path: Path) -> bool:
    """Whether neither its name nor what it begins with is that of a file of records, be it torn or full of zeros."""
    with path.open("rb") as stream:
        begins = stream.read(len(MAGIC))
    return not path.name.removesuffix(PART).endswith(ENDINGS) and begins != MAGIC and begins[:1] not in (b"{", b"\0")


def sources(files: Iterable[File]) -> dict[str, list[Part]]:
    """Return the parts by who wrote them, each marked where something between two files may be missing."""
    given = list(files)
    by_sink: defaultdict[str, list[File]] = defaultdict(list)
    plain: list[File] = []
    shapes = _shapes(given)
    for file in given:
        whose = {sink for sink, shape in shapes if shape.fullmatch(str(file.path))}
        if file.source is not None:
            by_sink[file.source].append(file)
        elif len(whose) == 1:
            by_sink[whose.pop()].append(file)
        else:
            plain.append(file)
    for these in by_sink.values():
        _chain(these)
    return {sink: [file.part for file in these] for sink, these in by_sink.items()} | _in_turn(plain)


def _shapes(files: Iterable[File]) -> list[tuple[str, re.Pattern[str]]]:
    """Return each sink of which there is a manifest, with what the files of its template are called."""
    known = {(file.source, file.manifest.get("template")) for file in files if file.manifest is not None}
    made = []
    for sink, template in known:
        with suppress(ConfigError):
            if sink is not None and isinstance(template, str):
                made.append((sink, Template(template).anywhere()))
    return made


def _in_turn(files: Iterable[File]) -> dict[str, list[Part]]:
    """Return the parts of files that do not say who wrote them: one after the other in a folder is one source."""
    made: dict[str, list[Part]] = {}
    for file in sorted(files, key=lambda file: file.part.first or 0):
        turn = 0
        while (these := made.get(f"{file.path.parent}#{turn}")) and these[-1].last > (file.part.first or 0):
            turn += 1
        if number(file.path.name) is not None:
            file.part.begun(list(file.part.items))
        made.setdefault(f"{file.path.parent}#{turn}", []).append(file.part)
    return made


def _chain(files: list[File]) -> None:
    """Mark where the last record that a segment knows of is in none of the others, and where another run begins."""
    held: defaultdict[Subscription, set[str]] = defaultdict(set)
    begins: dict[Subscription, int] = {}
    for file in files:
        for share in file.shares:
            sub = _sub(share)
            held[sub].add(share["last"])
            if file.part.items.get(sub):
                begins[sub] = min(share["first_recv"], begins.get(sub, share["first_recv"]))
    for file in files:
        for share in file.shares:
            sub, before = _sub(share), share["previous"]
            if before is not None and before not in held[sub] and share["first_recv"] > begins.get(sub, 0):
                file.part.detached("missing", sub)
    begun: set[tuple[Any, Subscription]] = set()
    for file in sorted(files, key=lambda file: file.part.first or 0):
        # Without a run nothing proves that a file goes on with what was before.
        run = file.path if file.manifest is None and file.run is None else file.run
        file.part.begun([sub for sub in file.part.items if (run, sub) not in begun])
        begun |= {(run, sub) for sub in file.part.items}


def _sub(share: dict[str, Any]) -> Subscription:
    return share["venue"], share["channel"] or "", share["inst"], share["account"]


def _take(stream: BinaryIO, file: File) -> tuple[str | None, str, int]:
    """Read all lines; return what is wrong with them, and the sum and size of the whole file."""
    hashed = _Hashed(stream)
    lines = Lines(cast("BinaryIO", hashed), early=True)
    part = file.part
    for line in lines:
        try:
            said = orjson.loads(line)
        except ValueError:
            lines.damage = lines.damage or "a line is no JSON"
            part.broken("corrupt")
            continue
        if isinstance(said, dict):
            part.take(said)
    if lines.damage is not None and _being_written(stream, file.path):
        lines.damage = None
    while hashed.read(1 << 20):
        pass
    return lines.damage, hashed.sum.hexdigest(), stream.tell()


class _Hashed:
    """A file, and the sum of what was read of it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.sum = hashlib.sha256()
        self._stream = stream

    def read(self, size: int) -> bytes:
        piece = self._stream.read(size)
        self.sum.update(piece)
        return piece

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int) -> int:
        if offset == 0:
            self.sum = hashlib.sha256()
        return self._stream.seek(offset)


def _writing(part: Path) -> bool:
    """Whether some okstream has the file, or the template that it is of, for itself."""
    for path in (part, *(lock for folder in part.absolute().parents for lock in folder.glob(LOCKS))):
        try:
            with path.open("rb") as stream:
                if _being_written(stream, path):
                    return True
        except OSError:
            continue
    return False


def _being_written(stream: BinaryIO, path: Path) -> bool:
    """Whether some okstream has it open: then its end is no damage."""
    try:
        fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(stream, fcntl.LOCK_UN)
    return False


_TEXT = (str, type(None))
_WHOLE: dict[str, Any] = {"bytes": int, "sha256": str, "subscriptions": list, "run": _TEXT, "sink": str}
_SHARE: dict[str, Any] = {
    "venue": str, "channel": _TEXT, "inst": _TEXT, "account": _TEXT, "type": str, "records": int,
    "first_recv": int, "last_recv": int, "last": str, "previous": _TEXT,
}  # fmt: skip


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        manifest = orjson.loads(path.with_name(path.name + MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    if not _has(manifest, _WHOLE) or not all(_has(share, _SHARE) for share in manifest["subscriptions"]):
        return None
    return cast("dict[str, Any]", manifest)


def _has(said: Any, wanted: dict[str, Any]) -> bool:
    return isinstance(said, dict) and all(isinstance(said.get(name, ...), kinds) for name, kinds in wanted.items())


def _void(file: File, problem: str) -> File:
    """Nothing in the file counts: what its manifest says it had is missing."""
    file.problem = problem
    file.part = Part()
    reason = problem.partition(":")[0]
    for share in file.shares:
        first, last = share["first_recv"], share["last_recv"]
        file.part.items[_sub(share)] += [Broken(first, last, reason)]
        file.part.last = max(file.part.last, last)
        file.part.first = min(first, file.part.first or first)
    return file


def _raw(file: File) -> None:
    """The exchange's own text tells no times: take them from the manifest, and the gaps between."""
    for share in file.shares:
        if share["type"] != "raw":
            continue
        items = file.part.items[_sub(share)]
        cuts = [item.at for item in items if isinstance(item, Said)]
        edges = [share["first_recv"], *sorted(cut for cut in cuts if share["first_recv"] < cut), share["last_recv"]]
        kept: list[Stretch] = []
        count = share["records"]
        for since, until in pairwise(edges):
            kept.append(Stretch(since, max(since, until), count))
            count = 0
        items += kept
        items.sort(key=lambda item: item.at)
        file.part.first = min(share["first_recv"], file.part.first or share["first_recv"])
        file.part.last = max(file.part.last, share["last_recv"])
