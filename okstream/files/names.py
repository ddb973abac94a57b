"""
How files are called: templates, and values made safe for them.

A value stands in a name as it is where it consists of letters, digits, and `-._+@,` and does not begin with a dot; all
other bytes of its UTF-8 are %XX. `_` alone is no value at all, and a value that is too long ends in `%~` and a hash: no
two values share a name, and every other name can be read back.
"""

import os
import re
import time
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from string import Formatter
from urllib.parse import unquote_to_bytes

from okstream.errors import ConfigError

FIELDS = ("venue", "channel", "inst", "account", "type", "date", "hour")
PART = ".part"
"""What a segment's name ends with while it is written."""
MANIFEST = ".manifest.json"
"""What the name of its manifest adds."""

_SAFE = re.compile(rb"[A-Za-z0-9._+@,-]")
_NONE = "_"
_LONGEST = 255  # bytes, of one component
_RESERVED = 60  # the number, .part, .manifest.json, and what a file has while it is made
_LEAST = 40  # a hash, and enough of the value to know it by
_DIGEST = 16
_SECOND = 1_000_000_000
_HOUR, _DAY = 3600 * _SECOND, 86_400 * _SECOND
_FIXED = {"date": 10, "hour": 2}
_LOOKS = {"date": r"\d{4}-\d\d-\d\d", "hour": r"\d\d"}
_SUFFIX = re.compile(r"(?:\.[A-Za-z]\w*)?(?:\.zst)?$")
_NUMBER = re.compile(r"\.(\d{6,})(?=(?:\.[A-Za-z]\w*)?(?:\.zst)?$)")


def safe(value: str | None, most: int = _LONGEST - _RESERVED) -> str:
    """Return `value` as it can stand in a file's name, in at most so many bytes."""
    if value is None:
        return _NONE
    if value in {"", _NONE}:
        return "%" if not value else "%5F"
    encoded = value.encode("utf-8", "surrogatepass")
    text = "".join(chr(byte) if _SAFE.match(bytes((byte,))) else f"%{byte:02X}" for byte in encoded)
    if text.startswith("."):
        text = f"%2E{text[1:]}"
    if len(text) <= most:
        return text
    digest = blake2b(encoded, digest_size=_DIGEST).hexdigest()
    return f"{text[: most - 2 - 2 * _DIGEST]}%~{digest}"


def value(text: str) -> str | None:
    """
    Return the value that `safe` made `text` of.

    Raises:
        ValueError: it was too long, and only its beginning and a hash are left.
    """
    if text == _NONE:
        return None
    if "%~" in text:
        raise ValueError(f"{text}: the name holds only the beginning of a long value")
    return "" if text == "%" else unquote_to_bytes(text).decode("utf-8", "surrogatepass")


def number(name: str) -> tuple[str, int] | None:
    """Return what the segment called `name` would be called without a number, and that; None where it has none."""
    bare = name.removesuffix(PART)
    found = _NUMBER.search(bare)
    return (bare[: found.start()] + bare[found.end() :], int(found[1])) if found else None


def numbers(folder: Path) -> dict[str, int]:
    """Return the highest number of each name in `folder`."""
    highest: dict[str, int] = {}
    for name in os.listdir(folder):
        if (found := number(name)) is not None:
            base, count = found
            highest[base] = max(count, highest.get(base, 0))
    return highest


class Template:
    """
    A path with fields in braces.

    `fields` are those it has; `root` the deepest folder above the first of them; `period` is how long one path is
    current, ns, None where it has neither date nor hour.

    Raises:
        ConfigError: a field does not exist, or the path can be no file's.
    """

    def __init__(self, text: str) -> None:
        self.text = str(Path(text))  # ./ and // mean nothing, and no path that is found has them
        try:
            parsed = list(Formatter().parse(self.text))
        except ValueError as error:
            raise ConfigError(f"path: {text!r}: {error}; write {{{{ for a brace") from None
        for _, name, spec, conversion in parsed:
            if name is not None and (name not in FIELDS or spec or conversion):
                known = " ".join(f"{{{field}}}" for field in FIELDS)
                raise ConfigError(f"path: {text!r}: there is no field {{{name}}}; there are {known}")
        self.fields = frozenset(name for _, name, _, _ in parsed if name is not None)
        self.period = _HOUR if "hour" in self.fields else _DAY if "date" in self.fields else None
        self._parts = [(literal, name) for literal, name, _, _ in parsed]
        if "\0" in text or text.endswith(("/", "/.", "/..")) or text in {"", ".", ".."}:
            raise ConfigError(f"path: {text!r} is no name of a file")
        self._most = self._room()
        head = self._parts[0][0] if self._parts else ""
        self.root = Path(head).parent if not head.endswith("/") else Path(head)
        tail = (
            next((literal for literal, name in reversed(self._parts) if name is None), "") if self.fields else self.text
        )
        found = _SUFFIX.search(tail.rpartition("/")[2])
        self.suffix = found[0] if found else ""

    @property
    def compressed(self) -> bool:
        """Whether its name says zstd."""
        return self.text.endswith(".zst")

    def path(self, values: tuple[str | None, ...], begins: int) -> str:
        """Return the path of `values` (of venue, channel, inst, account, type) in the period that `begins` then, ns."""
        known = dict(zip(FIELDS, values, strict=False))
        day = time.gmtime(begins // _SECOND)
        shown = {"date": time.strftime("%Y-%m-%d", day), "hour": f"{day.tm_hour:02}"}
        made = []
        for index, (literal, name) in enumerate(self._parts):
            made.append(literal)
            if name is not None:
                made.append(shown[name] if name in _FIXED else safe(known[name], self._most[index]))
        return "".join(made)

    def numbered(self, path: str, count: int) -> Path:
        """Return the name of the segment number `count` at `path`."""
        return Path(f"{path.removesuffix(self.suffix)}.{count:06}{self.suffix}")

    def parts(self) -> re.Pattern[str]:
        """Return what the paths of its unfinished segments look like."""
        return re.compile(self._looks(self._parts) + re.escape(PART))

    def anywhere(self) -> re.Pattern[str]:
        """Return what the paths of its segments look like, finished or not, to whatever folder its root was moved."""
        (head, name), *others = self._parts
        return re.compile(rf"(?:.*/)?{self._looks([(head.rpartition('/')[2], name), *others])}(?:{re.escape(PART)})?")

    def _looks(self, parts: Iterable[tuple[str, str | None]]) -> str:
        pieces = [re.escape(literal) + (_LOOKS.get(name, "[^/]+") if name else "") for literal, name in parts]
        whole = "".join(pieces).removesuffix(re.escape(self.suffix))
        return rf"{whole}\.\d{{6,}}{re.escape(self.suffix)}"

    def _room(self) -> dict[int, int]:
        """Return how many bytes each field may take, by its position: a component of a path has 255."""
        room: dict[int, int] = {}
        component: list[int] = []
        taken = _RESERVED

        def share() -> None:
            for index in component:
                room[index] = (_LONGEST - taken) // len(component)
                if room[index] < _LEAST:
                    raise ConfigError(f"path: {self.text!r}: the name of one file or folder would be too long")

        for index, (literal, name) in enumerate(self._parts):
            if "/" in literal:
                taken += len(literal.partition("/")[0].encode())
                share()
                component, taken = [], _RESERVED
            taken += len(literal.rpartition("/")[2].encode()) + _FIXED.get(name or "", 0)
            if name is not None and name not in _FIXED:
                component.append(index)
        share()
        return room
