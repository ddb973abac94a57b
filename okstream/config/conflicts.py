"""What sinks of one configuration would do to each other, and what they are told that nothing can fulfil."""

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from okstream.channels import PUBLIC, USER, Subscription
from okstream.errors import ConfigError
from okstream.fanout.filters import Filters, type_of
from okstream.options import LaneOptions
from okstream.records import TYPES

from .outputs import Output
from .wording import meant

Asked = tuple[str, Subscription]
"""A subscription, and what its venue is called in records."""


def clashes(outputs: Iterable[Output]) -> list[str]:
    """Return what two sinks, or one twice, would write to, a line each with its place."""
    taken: dict[str, str] = {}
    found: list[str] = []
    for output in outputs:
        options = output.options
        places = [
            ("path", output.arguments.get("path") if output.type == "file" else None, "files of its own"),
            ("spool", options.spool, "a folder of its own"),
            ("dead_letters", options.dead_letters, "a file of its own"),
        ]
        for option, path, needs in places:
            if path is None or _takes_all(Path(path)):
                continue
            place = f"sink.{output.name}.{option}"
            if (other := taken.setdefault(os.path.realpath(path), place)) != place:
                found.append(f"{place}: {path} is {other} already; each needs {needs}")
    return found


def _takes_all(path: Path) -> bool:
    """Whether it is there, and neither file nor folder: a terminal or a pipe takes lines of anybody."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def unfit(outputs: Iterable[Output], asked: Sequence[Asked]) -> list[str]:
    """Return what sinks with the policy `latest` would get of `asked` that is no state, a line each sink."""
    found = []
    for output in outputs:
        filters = Filters(output.options)
        for venue, sub in asked:
            try:
                filters.check(venue, _open(sub))
            except ConfigError as error:
                found.append(f"sink.{output.name}.when_full: {error}")
                break
    return found


def idle(outputs: Iterable[Output], asked: Sequence[Asked]) -> list[str]:
    """Return the filters that let nothing of `asked` through, a line each."""
    found: list[str] = []
    for output in outputs:
        options = output.options
        before = len(found)
        for name, words, of in _WORDS:
            known = {word for one in asked if (word := of(one)) is not None}
            for wrong in getattr(options, name):
                alone: dict[str, Any] = {name: (wrong,)}
                if not _lets_through(LaneOptions(**alone), asked):
                    likely = meant(wrong, [*sorted(known), *words])
                    found.append(f"sink.{output.name}.{name}: nothing that is subscribed to is {wrong!r}{likely}")
        if len(found) == before and not _lets_through(options, asked):
            found.append(f"sink.{output.name}: nothing that is subscribed to passes all its filters together")
    return found


_WORDS: list[tuple[str, Iterable[str], Callable[[Asked], str | None]]] = [
    ("types", TYPES, lambda asked: type_of(asked[1].channel)),
    ("channels", [*PUBLIC, *USER], lambda asked: asked[1].channel),
    ("instruments", [], lambda asked: asked[1].inst),
    ("venues", [], lambda asked: asked[0]),
]


def _lets_through(options: LaneOptions, asked: Iterable[Asked]) -> bool:
    filters = Filters(replace(options, when_full="drop_oldest"))
    return any(filters.verdict(venue, _open(sub)) != "none" for venue, sub in asked)


def _open(sub: Subscription) -> Subscription:
    """Return `sub`, without an instrument where that is a pattern: what it will mean is not known yet."""
    return replace(sub, inst=None) if sub.is_pattern else sub
