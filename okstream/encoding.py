"""From a record to its line of JSON."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, cast

import orjson

from .records import TYPES, AnyRecord, Book

try:
    from ._compiled import Writer
except ImportError:  # it was not built, or is not wanted
    _COMPILED = False
else:
    _COMPILED = True

_SIDES = {name: f"Fragment(of.sides[{i}]) if of.sides else of.{name}" for i, name in enumerate(("bids", "asks"))}


def _absent(kind: type[AnyRecord]) -> list[str]:
    """Return what is left out of the line of a record where it is None."""
    return [f.name for f in fields(kind) if f.name in ("account", "origin") and f.type is not str]


def _encoder(kind: type[AnyRecord]) -> Callable[[Any], bytes]:
    """Return what makes the line of a record, written out as an `__init__` is: that takes half the time."""
    values = {f.name: f"of.{f.name}" for f in fields(kind)} | (_SIDES if kind is Book else {})
    absent = _absent(kind)
    usual, whole = (", ".join(f"{k!r}: {v}" for k, v in values.items() if k not in out) for out in (absent, ()))
    rest = f"{{k: v for k, v in {{{whole}}}.items() if v is not None or k not in {absent}}}"
    # Adding the newline here makes a copy of the right size: what orjson returns holds 4 KiB, however short.
    is_usual = " is ".join([*(values[name] for name in absent), "None"])
    code = f"lambda of: dumps({{{usual}}} if {is_usual} else {rest}) + b'\\n'"
    return cast(Callable[[Any], bytes], eval(code, {"Fragment": orjson.Fragment, "dumps": orjson.dumps}))


def _writer(kind: type[AnyRecord]) -> Callable[[Any], bytes]:
    """Return the same, compiled where it can be."""
    if not _COMPILED:
        return _encoder(kind)
    names = tuple(f.name for f in fields(kind))
    return Writer(kind, names, tuple(_absent(kind)), _encoder(kind), "sides" if kind is Book else None)


_ENCODERS = {kind: _writer(kind) for kind in TYPES.values()}


def encode(record: AnyRecord) -> bytes:
    """Return `record` as one line of JSON, newline included; `origin` and `account` are left out where None."""
    return _ENCODERS[type(record)](record)
