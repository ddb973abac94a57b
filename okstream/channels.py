"""
Channel names and subscriptions, the same for every dialect.

A subscription is written `channel[:item,...]`. An item with `=` is an argument under the exchange's own key,
any other is an instrument: `ticker:BTC-USDT`, `orders:instType=SWAP,instFamily=BTC-USD`. A channel that okstream
has no word for keeps the exchange's own name: `price-limit:BTC-USDT-SWAP`, `futures/estimated_price:BTC-USD-191227`.
An instrument with a `*` is a pattern, see `okstream.patterns`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches

from .errors import ConfigError

BARS = (
    "1s", "1m", "3m", "5m", "15m", "30m", "1H", "2H", "4H", "6H", "12H", "1D", "2D", "3D", "5D", "1W", "1M", "3M",
    "6Hutc", "12Hutc", "1Dutc", "2Dutc", "3Dutc", "5Dutc", "1Wutc", "1Mutc", "3Mutc",
)  # fmt: skip
"""Candle bars in the exchange's own spelling: `1m` is a minute, `1M` a month."""

PUBLIC = {
    "ticker": "last price, best bid and ask, 24 hours",
    "trades": "trades, one taker order at one price a record",
    "trades-all": "every single match",
    "book": "order book: a snapshot, then changes",
    "book5": "the best 5 levels, whole each time",
    "book10": "the best 10 levels, whole each time",
    "book20": "the best 20 levels, whole each time",
    "bbo": "best bid and ask, whole each time",
    "book-l2-tbt": "order book, every change",
    "book50-l2-tbt": "order book of 50 levels, every change",
    "book-rpi": "order book with retail price improvement orders",
    "funding": "funding rate",
    "mark-price": "mark price",
    "index-price": "index price",
    "open-interest": "open interest",
    "liquidations": "liquidation orders, a sample",
    "instruments": "changes of what is traded",
}
"""Public channels by okstream's name; `candle-<bar>` comes on top, see BARS."""

USER = {
    "orders": "own orders, each change",
    "fills": "own fills",
    "account": "own balances",
    "positions": "own positions",
}
"""Channels of one account, which need a login."""

BOOKS = frozenset({"book", "book-l2-tbt", "book50-l2-tbt", "book-rpi"})
"""Books that come as a snapshot and changes: a lost change spoils them until the next snapshot."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """
    One channel with its arguments, of one account where the channel is a user's.

    Args:
        channel: okstream's name, or the exchange's own.
        inst: the instrument, in the exchange's current spelling, or a pattern of instruments.
        args: further arguments under the exchange's own keys, sorted by key.
        account: the configured name of the account, None for public channels.
    """

    channel: str
    inst: str | None = None
    args: tuple[tuple[str, str], ...] = ()
    account: str | None = None

    @property
    def is_pattern(self) -> bool:
        """Whether `inst` has a star, so that it stands for instruments yet to be found; none is ever sent."""
        return self.inst is not None and "*" in self.inst

    def __str__(self) -> str:
        items = [self.inst] if self.inst is not None else []
        items += [f"{key}={value}" for key, value in self.args]
        return f"{self.channel}:{','.join(items)}" if items else self.channel


def parse(text: str, account: str | None = None) -> list[Subscription]:
    """
    Read the text form: one subscription for each instrument or pattern, the arguments with each.

    Raises:
        ConfigError: no channel, an empty item, or an argument without key or value.
    """
    channel, colon, rest = text.partition(":")
    return subscriptions(channel, rest.split(",") if colon else [], account)


def subscriptions(channel: str, items: Iterable[str], account: str | None = None) -> list[Subscription]:
    """Build what `channel:item,item,...` stands for; raises ConfigError as `parse` does."""
    if not channel or channel != channel.strip():
        raise ConfigError(f"{channel!r} names no channel; write channel:instrument, for example ticker:BTC-USDT")
    insts: list[str] = []
    args: dict[str, str] = {}
    for item in items:
        if not item or item != item.strip():
            wrong = "an item is empty" if not item.strip() else f"{item!r} has a space around it"
            raise ConfigError(f"{channel}: {wrong}; write {channel}:BTC-USDT,ETH-USDT")
        key, equals, value = item.partition("=")
        if not equals:
            insts.append(item)
        elif not key or not value:
            raise ConfigError(f"{item!r} is not key=value")
        elif key == "channel":
            raise ConfigError(f"{item!r}: the channel is named before the colon")
        elif args.setdefault(key, value) != value:
            raise ConfigError(f"{key!r} is given twice")
    if "instId" in args:
        insts.append(args.pop("instId"))
    ordered = tuple(sorted(args.items()))
    return [Subscription(channel, inst, ordered, account) for inst in dict.fromkeys(insts) or [None]]


def read(channel: str | Subscription, items: tuple[str, ...], account: str | None) -> list[Subscription]:
    """Read what a caller names in one of three ways: a subscription, its text form, or a channel and its items."""
    if wrong := [item for item in (channel, *items) if not isinstance(item, (str, Subscription))]:
        raise ConfigError(f"{wrong[0]!r} is no text; write each by itself: 'ticker', 'BTC-USDT', 'ETH-USDT'")
    if isinstance(channel, Subscription):
        if items:
            raise ConfigError(f"{channel} is a whole subscription; leave out {', '.join(items)}")
        return [channel if channel.account else replace(channel, account=account)]
    if not items:
        return parse(channel, account)
    if ":" in channel:
        raise ConfigError(f"{channel!r} names its items already; leave out {', '.join(items)}")
    return subscriptions(channel, items, account)


def unknown(kind: str, name: str, known: Iterable[str], meant: str | None = None) -> ConfigError:
    """Return the error for a `name` that is none of `known`: what exists, and what was `meant`, or probably so."""
    names = sorted(set(known))
    close = [meant] if meant else get_close_matches(name, names, n=1, cutoff=0.55)
    question = f" Did you mean {close[0]!r}?" if close else ""
    return ConfigError(f"there is no {kind} {name!r}.{question} There are: {', '.join(names)}")


def no_channel(dialect: str, name: str, known: Iterable[str], natives: Iterable[str] = ()) -> ConfigError:
    """
    Return the error for a channel that `dialect` does not have: what was probably meant, and what it has.

    `natives` are the exchange's own names, which are too many to list but may have been meant.
    """
    known = list(known)
    ours = sorted(name for name in known if not name.startswith("candle-"))
    close = get_close_matches(name, [*known, *natives], n=1, cutoff=0.55)
    if name.rstrip("s") == "candle":
        close = ["candle-1m"]
    meant = f" Did you mean {close[0]!r}?" if close else ""
    if not close and not name.islower():
        meant = " Write channel:instrument, for example ticker:BTC-USDT."
    return ConfigError(f"{dialect} has no channel {name!r}.{meant} It has: {', '.join(ours)} and candle-1m")
