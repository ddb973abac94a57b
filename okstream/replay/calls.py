"""What stands in a line of a journal, once sure that it is what it should be."""

import base64
import binascii
from typing import Any, TypeVar

from okstream.channels import Subscription
from okstream.dialects import Dialect, load
from okstream.errors import ConfigError, JournalError
from okstream.venues import Limits

END_OF_TIME = 2**63
"""Integers of a journal are of 64 bits with a sign, as those of records."""

_LONGEST = 1 << 30

T = TypeVar("T")
Call = dict[str, Any]


def get(call: Call, name: str, kind: type[T]) -> T:
    value = call.get(name)
    if type(value) is not kind or (isinstance(value, int) and not -END_OF_TIME <= value < END_OF_TIME):
        raise JournalError(f"its {name} is not what it should be")
    return value


def text(call: Call, name: str) -> str:
    return get(call, name, str)


def now(call: Call) -> float:
    value = call.get("now")
    return float(get(call, "now", int)) if type(value) is int else get(call, "now", float)


def wall(call: Call) -> int:
    wall = get(call, "wall", int)
    if wall < 0:
        raise JournalError("its wall is before all time")
    return wall


def cap(call: Call) -> int:
    """Return how long a message may be, inflated."""
    cap = get(call, "cap", int)
    if not 0 < cap <= _LONGEST:
        raise JournalError(f"its cap is not from 1 to {_LONGEST}")
    return cap


def frame(call: Call) -> tuple[bytes, bool]:
    """Return the bytes of a frame that is no text, and whether it was binary."""
    binary = "b64" in call
    try:
        return base64.b64decode(text(call, "b64" if binary else "raw"), validate=True), binary
    except (binascii.Error, ValueError):
        raise JournalError("its frame is not what it should be") from None


def dialect(name: str) -> Dialect:
    try:
        return load(name)
    except ConfigError as error:
        raise JournalError(str(error)) from None


def limits(values: dict[str, Any]) -> Limits:
    if any(type(value) not in (int, float, bool, type(None)) for value in values.values()):
        raise JournalError("its limits are no numbers")
    try:
        return Limits(**values)
    except TypeError:
        raise JournalError("its limits are not those of a venue") from None


def subscription(call: Call) -> Subscription:
    args = get(call, "args", list)
    pairs = tuple(tuple(pair) for pair in args if type(pair) is list and [type(one) for one in pair] == [str, str])
    optional = (call.get("inst"), call.get("account"))
    if len(pairs) != len(args) or any(type(one) not in (str, type(None)) for one in optional):
        raise JournalError("it is no subscription")
    return Subscription(text(call, "channel"), optional[0], pairs, optional[1])
