"""
NATS subjects: made from a template, a token for each field, and what a stream takes of them.

A token keeps letters, digits, `_` and `-`; every other byte of its UTF-8 text is written as `%` and two hexadecimal
digits, so two instruments never share a subject and each can be read back:

    BTC-USDT -> BTC-USDT        BTC.USDT -> BTC%2EUSDT        none -> _        _ -> %5F        empty -> %
"""

import re
import string
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from okstream.entries import Entry
from okstream.errors import ConfigError

MISSING = "_"
"""The token of a field that an entry does not have."""

_EMPTY = "%"
_SAFE = frozenset(f"{string.ascii_letters}{string.digits}_-".encode())
_LITERAL = re.compile(r"[^\s.*>{}]+")
_DAY_NS = 86_400 * 10**9
_REMEMBERED = 20_000

Key = tuple[str | int | None, ...]

_FIELDS: dict[str, Callable[[Entry], str | int | None]] = {
    "venue": lambda entry: entry.venue,
    "channel": lambda entry: entry.channel,
    "inst": lambda entry: entry.inst,
    "account": lambda entry: entry.account,
    "type": lambda entry: entry.type,
    "date": lambda entry: entry.recv // _DAY_NS,
}


def token(value: str | None) -> str:
    """Return `value` as one token of a subject."""
    if value is None:
        return MISSING
    if value == MISSING:
        return "%5F"
    if not value:
        return _EMPTY
    data = value.encode("utf-8", "surrogatepass")
    return "".join(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in data)


def untoken(text: str) -> str | None:
    """
    Return what `token` made `text` of.

    Raises:
        ValueError: it is no such token.
    """
    if text == MISSING:
        return None
    if text == _EMPTY:
        return ""
    if not re.fullmatch(r"(?:[A-Za-z0-9_-]|%[0-9A-F]{2})+", text):
        raise ValueError(f"{text!r} is not a token of okstream")
    data = re.sub(rb"%(..)", lambda match: bytes([int(match[1], 16)]), text.encode())
    return data.decode("utf-8", "surrogatepass")


class Subjects:
    """
    Subjects after `template`: tokens joined by dots, each a word or one field in braces.

    Fields are venue, channel, inst, account, type and date (the UTC day of `recv`).

    Raises:
        ConfigError: `template` is none.
    """

    def __init__(self, template: str) -> None:
        self._tokens = [_read(part, template) for part in template.split(".")]
        self._used = [_FIELDS[name] for name, literal in self._tokens if not literal]
        self._known: dict[Key, str] = {}

    @property
    def pattern(self) -> str:
        """What a stream must listen to: a star for each field."""
        return ".".join(text if literal else "*" for text, literal in self._tokens)

    def of(self, entry: Entry) -> str:
        """Return the subject of `entry`."""
        key = tuple(field(entry) for field in self._used)
        subject = self._known.get(key)
        if subject is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            subject = self._known[key] = self._made(key)
        return subject

    def _made(self, key: Key) -> str:
        values = iter(key)
        return ".".join(text if literal else token(_text(next(values))) for text, literal in self._tokens)


def _read(part: str, template: str) -> tuple[str, bool]:
    """Return the literal that `part` is and True, or the field's name and False."""
    if part.startswith("{") and part.endswith("}"):
        if (name := part[1:-1]) in _FIELDS:
            return name, False
        raise ConfigError(f"subject {template!r}: there is no field {part}; there are {', '.join(_FIELDS)}")
    if not _LITERAL.fullmatch(part) or part.startswith("$"):
        raise ConfigError(f"subject {template!r}: {part!r} is neither a word nor a field in braces")
    return part, True


def _text(value: str | int | None) -> str | None:
    if isinstance(value, int):
        return datetime.fromtimestamp(value * 86_400, UTC).date().isoformat()
    return value


def covered(pattern: str, subjects: Iterable[str]) -> bool:
    """Return whether a stream that listens to `subjects` takes every subject that `pattern` stands for."""
    return any(_within(pattern.split("."), subject.split(".")) for subject in subjects)


def _within(pattern: list[str], subject: list[str]) -> bool:
    for place, wanted in enumerate(subject):
        if wanted == ">":
            return len(pattern) > place
        if place >= len(pattern) or (wanted not in ("*", pattern[place])) or (pattern[place] == ">"):
            return False
    return len(pattern) == len(subject)
