"""
okstream: market data of the OKX family of exchanges.

The public names, and no more; each is imported when it is first used, so that the command line starts fast.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

from .version import VERSION as __version__

if TYPE_CHECKING:
    from .book import BookView
    from .channels import Subscription
    from .dialects.signing import Credentials
    from .encoding import encode
    from .errors import (
        BookVoidError,
        ConfigError,
        JournalError,
        LoginRefusedError,
        OkstreamError,
        RefusedError,
        RestError,
        RestRefusedError,
        SinkError,
        SubscriptionRefusedError,
    )
    from .identities import identity
    from .journal import Journal
    from .options import LaneOptions
    from .replay.playback import Playback
    from .states import SinkState, Stats, StreamState, SubscriptionState
    from .stream import Stream
    from .venues import Venue
    from .venues import find as find_venue

if os.environ.get("OKSTREAM_PURE"):
    # What is compiled is as if it were not there, and Python does its work.
    sys.modules["okstream._compiled"] = None  # type: ignore[assignment]

_HOMES = {
    "BookView": "book",
    "BookVoidError": "errors",
    "ConfigError": "errors",
    "Credentials": "dialects.signing",
    "Journal": "journal",
    "JournalError": "errors",
    "LaneOptions": "options",
    "LoginRefusedError": "errors",
    "OkstreamError": "errors",
    "Playback": "replay.playback",
    "RefusedError": "errors",
    "RestError": "errors",
    "RestRefusedError": "errors",
    "SinkError": "errors",
    "SinkState": "states",
    "Stats": "states",
    "Stream": "stream",
    "StreamState": "states",
    "Subscription": "channels",
    "SubscriptionRefusedError": "errors",
    "SubscriptionState": "states",
    "Venue": "venues",
    "encode": "encoding",
    "find_venue": "venues",
    "identity": "identities",
    "records": "",
}

__all__ = [
    "BookView",
    "BookVoidError",
    "ConfigError",
    "Credentials",
    "Journal",
    "JournalError",
    "LaneOptions",
    "LoginRefusedError",
    "OkstreamError",
    "Playback",
    "RefusedError",
    "RestError",
    "RestRefusedError",
    "SinkError",
    "SinkState",
    "Stats",
    "Stream",
    "StreamState",
    "Subscription",
    "SubscriptionRefusedError",
    "SubscriptionState",
    "Venue",
    "__version__",
    "encode",
    "find_venue",
    "identity",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'okstream' has no attribute {name!r}")
    if not _HOMES[name]:
        return import_module(f".{name}", __name__)
    found = getattr(import_module(f".{_HOMES[name]}", __name__), "find" if name == "find_venue" else name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
