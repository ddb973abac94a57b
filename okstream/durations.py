"""Spans of time as people write them."""

import re

from .errors import ConfigError

_FORM = re.compile(r"(\d+\.?\d*|\.\d+)(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MOST = 1e9


def seconds(text: str) -> float:
    """
    Return how many seconds `text` means: 100ms, 1s, 2m, 1.5h, 1d, or a number of seconds.

    Raises:
        ConfigError: it means none, nothing at all, or decades.
    """
    match = _FORM.fullmatch(text)
    span = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < span < _MOST:
        raise ConfigError(f"{text!r} is no duration above 0; write 100ms, 0.5s, 2m or 1h")
    return span
