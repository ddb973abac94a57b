"""Spans of time as people write them."""

import re

from .errors import ConfigError

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_AMOUNT = r"\d+\.?\d*|\.\d+"
_NUMBER = re.compile(_AMOUNT, re.ASCII)
_SPAN = re.compile("".join(f"(?:({_AMOUNT}){unit})?" for unit in _UNITS), re.ASCII)
_MOST = 1e9


def seconds(text: str) -> float:
    """
    Return how many seconds `text` means: 100ms, 1s, 2m, 1h30m, 1d, or a number of seconds.

    Raises:
        ConfigError: it means none, nothing at all, or decades.
    """
    span = 0.0
    if _NUMBER.fullmatch(text):
        span = float(text)
    elif (match := _SPAN.fullmatch(text)) is not None:
        span = sum(float(amount) * unit for amount, unit in zip(match.groups(0), _UNITS.values(), strict=True))
    if not 0 < span < _MOST:
        raise ConfigError(f"{text!r} is no duration above 0; write 100ms, 0.5s, 2m, 1h30m or 5d")
    return span
