"""
Recordings of a socket, as the calls of a journal: one event a line, `dir` is `open`, `send` or `recv`.

    {"dir":"open","t":1652459224.5,"text":"wss://ws.okx.com:8443/ws/v5/public"}
    {"dir":"recv","t":1652459225.6,"text":"{\\"event\\":\\"subscribe\\",...}"}

`t` is the epoch in seconds; a binary frame stands as it came in `b64`. What was subscribed to is told by what came: by
acknowledgements, and by data. A session beside it watches as it would have, but nobody answers what it asks.
"""

import base64
import binascii
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from okstream.channels import Subscription
from okstream.dialects import Ack, Dialect, Push, load
from okstream.errors import DecodeError, InflateError, JournalError
from okstream.inflate import CAP, inflate
from okstream.journal import JOURNAL
from okstream.journal.volumes import read
from okstream.records import SCHEMA
from okstream.rest import shown
from okstream.venues import VENUES, Venue
from okstream.version import VERSION

log = logging.getLogger("okstream.journal")

_LOOK_EVERY = 1.0
_NEVER = 1e9
"""Seconds: what a session asks here is never answered, and asking again would only make it forget what it has."""

_ACCOUNT = "main"
"""What an account is called whose name nobody wrote down, as where there is only one."""

_NS = 1_000_000_000
_LAST = 9e9

Call = dict[str, Any]
Event = dict[str, Any]


def is_recording(line: bytes) -> bool:
    """Whether a file that begins with `line` may be a recording, and is no journal."""
    try:
        return orjson.loads(line).get("dir") in ("open", "send", "recv")
    except (ValueError, AttributeError):
        return False


def calls(
    path: Path, venue: Venue | None = None, progress: Callable[[int], None] = lambda count: None
) -> Iterator[Call]:
    """
    Yield the calls that the recording at `path` amounts to; it is read twice.

    Args:
        venue: whose it is; None for what the first event says.
        progress: told how many bytes of it were read.

    Raises:
        JournalError: it is none, or names no venue that is known.
    """
    venue = venue or _venue(path)
    wanted = _wanted(path, load(venue.dialect))
    taping = _Taping(venue)
    for number, line in enumerate(read(path, progress), 1):
        try:
            event = _event(line)
            if number == 1:
                yield from taping.begun(line, _t(event))
                yield from taping.added(wanted)
            yield from taping.calls(event)
        except JournalError as error:
            raise JournalError(f"{path}:{number}: {error}") from None
    yield from taping.ended()


def _venue(path: Path) -> Venue:
    """Return whose socket a recording says it is of."""
    for line in read(path):
        url = _url(_event(line))
        if url is None:
            break
        host, way = urlsplit(url).hostname, urlsplit(url).path
        for venue in VENUES.values():
            if urlsplit(venue.url).hostname == host and way in venue.paths.values():
                return venue
        raise JournalError(f"{path}: no venue is known at {shown(url)}; say whose it is with --venue")
    raise JournalError(f"{path}: it does not begin with where it was opened; say whose it is with --venue")


def _wanted(path: Path, dialect: Dialect) -> list[Subscription]:
    """Return what was subscribed to, in the order in which it shows."""
    keys: dict[str, None] = {}
    for line in read(path):
        for message in _messages(dialect, _event(line)):
            if isinstance(message, Push) or (isinstance(message, Ack) and message.op == "subscribe"):
                keys[message.key] = None
    subs: list[Subscription] = []
    for key in keys:
        sub = dialect.subscription(key)
        if sub is None:
            log.warning("%s: what came of %s is left out: there is no such channel", path, key)
        else:
            subs.append(replace(sub, account=_ACCOUNT) if dialect.traits(sub).login else sub)
    return subs


class _Taping:
    """Makes calls of events; numbers connections as they are opened."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._dialect = load(venue.dialect)
        self._open: dict[str | None, int] = {}
        self._latest: str | None = None
        self._count = 0
        self._began = 0.0
        self._t = 0.0
        self._looked: dict[int, float] = {}

    def begun(self, line: bytes, t: float) -> Iterator[Call]:
        self._began = self._t = t
        instance = blake2b(line, digest_size=4).hexdigest()
        said = {"version": VERSION, "schema": SCHEMA, "instance": instance}
        limits = replace(self._venue.limits, ack_within=_NEVER)
        yield {"dir": "journal", "journal": JOURNAL, "instance": instance, "segment": 1, "sends": False}
        yield {"dir": "say", "venue": self._venue.name, "state": "started", "detail": said, "wall": self._wall}
        yield {"dir": "group", "group": 1, "venue": self._venue.name, "dialect": self._venue.dialect,
               "limits": asdict(limits), "budget": 1}  # fmt: skip

    def added(self, subs: list[Subscription]) -> Iterator[Call]:
        for sub in subs:
            args = [list(pair) for pair in sub.args]
            yield {"dir": "add", "group": 1, "channel": sub.channel, "inst": sub.inst, "args": args,
                   "account": sub.account, "parsed": True, "keeps": True, "canary": False}  # fmt: skip

    def calls(self, event: Event) -> Iterator[Call]:
        t = _t(event)
        if t > self._t:
            self._t = t
        for number in self._open.values():
            if self._t >= self._looked[number] + _LOOK_EVERY:
                yield from self._looking(number)
        match event.get("dir"):
            case "open":
                yield from self._opened(_url(event))
            case "close":
                yield from self._closed(_url(event) if _url(event) in self._open else self._latest)
            case "send":
                if (sender := self._number(event)) is not None:
                    yield from self._looking(sender)
            case "recv":
                yield from self._received(event)
            case _:
                raise JournalError("it is no event of a recording")

    def _received(self, event: Event) -> Iterator[Call]:
        number = self._number(event)
        if number is None:  # it begins in the middle
            yield from self._opened(_url(event))
            number = self._count
        yield {"dir": "recv", "conv": number, "now": self._now, "wall": self._wall, **_content(event)}
        if not all(isinstance(message, Push) for message in _messages(self._dialect, event)):
            yield from self._looking(number)

    def ended(self) -> Iterator[Call]:
        for number in self._open.values():
            yield {"dir": "close", "conv": number, "wall": self._wall, "lost": False}
        yield {"dir": "say", "venue": self._venue.name, "state": "ended", "detail": None, "wall": self._wall}

    @property
    def _now(self) -> float:
        return self._t - self._began

    @property
    def _wall(self) -> int:
        return int(self._t * _NS)

    def _number(self, event: Event) -> int | None:
        url = _url(event)
        return self._open.get(url if url in self._open else self._latest)

    def _opened(self, url: str | None) -> Iterator[Call]:
        yield from self._closed(url)
        self._count += 1
        self._open[url], self._latest = self._count, url
        say = {"dir": "say", "venue": self._venue.name, "wall": self._wall}
        yield {**say, "state": "connecting", "detail": None if url is None else shown(url)}
        yield {"dir": "open", "conv": self._count, "group": 1, "now": self._now, "wall": self._wall, "offset": 0,
               "asks": False, "cap": CAP, "login": False}  # fmt: skip
        yield {**say, "state": "live", "detail": None}
        yield from self._looking(self._count)

    def _closed(self, url: str | None) -> Iterator[Call]:
        if url in self._open:
            yield {"dir": "close", "conv": self._open.pop(url), "wall": self._wall, "lost": True}
            yield {"dir": "say", "venue": self._venue.name, "state": "disconnected", "detail": None, "wall": self._wall}

    def _looking(self, number: int) -> Iterator[Call]:
        self._looked[number] = self._t
        yield {"dir": "tick", "conv": number, "now": self._now, "wall": self._wall}
        yield {"dir": "ask", "conv": number, "now": self._now}


def _event(line: bytes) -> Event:
    try:
        event = orjson.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise JournalError("it is no line of a recording")
    return event


def _t(event: Event) -> float:
    t = event.get("t")
    if isinstance(t, int | float) and type(t) is not bool and 0 <= t < _LAST:
        return float(t)
    raise JournalError("its t is not the epoch in seconds")


def _url(event: Event) -> str | None:
    """Return which socket an event is of, if it says so; openings may say it in `text`."""
    url = event.get("url", event.get("text") if event.get("dir") == "open" else None)
    try:
        return url if isinstance(url, str) and urlsplit(url).scheme in ("ws", "wss") else None
    except ValueError:
        return None


def _content(event: Event) -> dict[str, str]:
    name = "b64" if "b64" in event else "text"
    if not isinstance(event.get(name), str):
        raise JournalError("it has no frame")
    return {name: event[name]}


def _messages(dialect: Dialect, event: Event) -> list[Any]:
    """Return what a frame that was received says; nothing where it cannot be read."""
    if event.get("dir") != "recv":
        return []
    (name, text), *_ = _content(event).items()
    try:
        data = text.encode() if name == "text" else inflate(base64.b64decode(text), CAP)
        return list(dialect.read(data))
    except (InflateError, DecodeError, binascii.Error, ValueError):
        return []
