"""
What a lane lets through, decided once for each subscription.

A star in a pattern stands for any run of characters without a dash, as everywhere (see patterns.py); a star alone means
all there is.
"""

from collections.abc import Iterable
from typing import Literal

from ..channels import BOOKS, PUBLIC, USER, Subscription, unknown
from ..errors import ConfigError
from ..options import LaneOptions
from ..patterns import matches
from ..records import TYPES, Gap, Status

Verdict = Literal["all", "none", "some"]

_TYPES = {
    "ticker": "ticker",
    "trades": "trade",
    "trades-all": "trade",
    "funding": "funding",
    "mark-price": "mark_price",
    "index-price": "index_price",
    "open-interest": "open_interest",
    "liquidations": "liquidation",
    "instruments": "instrument",
    "orders": "order",
    "fills": "fill",
    "account": "balance",
    "positions": "position",
} | dict.fromkeys((*BOOKS, *(name for name in PUBLIC if name.startswith(("book", "bbo")))), "book")
_DATA = TYPES.keys() - {Gap.__name__.lower(), Status.__name__.lower()}

STATES = frozenset({"ticker", "bbo", "book5", "mark-price", "index-price", "account", "positions"})
"""Channels whose every message is the whole present state, so that the latest says all."""


def type_of(channel: str) -> str:
    """Return the type of the records of `channel`; `native` where they have no normalised form."""
    return "candle" if channel.startswith("candle-") else _TYPES.get(channel, "native")


class Filters:
    """
    Which subscriptions, and which of their records, a lane is for.

    Args:
        options: its types, channels, instruments and venues; what is not given lets everything through.

    Raises:
        ConfigError: there is no such type of data; or `latest` is asked for channels that are no states.
    """

    def __init__(self, options: LaneOptions) -> None:
        for pattern in options.types:
            if not any(_means(pattern, name) for name in _DATA):
                if any(_means(pattern, name) for name in TYPES):
                    raise ConfigError(
                        f"{pattern!r} is no type of data: gaps and statuses come with what they are about, "
                        "unless only data is wanted"
                    )
                raise unknown("type of data", pattern, _DATA)
        self._types = options.types
        self._channels = options.channels
        self._instruments = options.instruments
        self._venues = options.venues
        if options.when_full == "latest" and (wrong := self._unfit()):
            raise ConfigError(
                f"`latest` is for {', '.join(sorted(STATES))}; `channels` lets {', '.join(sorted(wrong))} through, too"
            )
        self._states_only = options.when_full == "latest"

    def verdict(self, venue: str, sub: Subscription) -> Verdict:
        """Say whether a lane gets `all` of a subscription or `none`, or `some`: its records are of many instruments."""
        if not (
            _any(self._venues, venue) and _any(self._channels, sub.channel) and _any(self._types, type_of(sub.channel))
        ):
            return "none"
        if self._instruments and sub.inst is not None and not _any(self._instruments, sub.inst):
            return "none"
        return "some" if self._instruments and sub.inst is None else "all"

    def check(self, venue: str, sub: Subscription) -> None:
        """
        Say whether a lane may get what it would get of `sub`.

        Raises:
            ConfigError: its policy is `latest`, which is not for this channel.
        """
        if self._states_only and sub.channel not in STATES and self.verdict(venue, sub) != "none":
            raise ConfigError(
                f"`latest` is for {', '.join(sorted(STATES))}, and {sub} is none of them; narrow the sink's `channels`"
            )

    def means(self, inst: str | None) -> bool:
        """Whether a record of this instrument passes; one of no instrument does."""
        return inst is None or _any(self._instruments, inst)

    def _unfit(self) -> set[str]:
        """Return channels that were asked for by their full names and are no states."""
        known = {*PUBLIC, *USER}
        return {name for name in self._channels if name in known - STATES}


def _any(patterns: Iterable[str], name: str) -> bool:
    return not patterns or any(_means(pattern, name) for pattern in patterns)


def _means(pattern: str, name: str) -> bool:
    return pattern == "*" or matches(pattern, name)
