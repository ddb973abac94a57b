"""
Dialects: one module a wire generation, none of which knows a socket, a clock or another generation.

A dialect says how to ask (login, subscribe, ping) and reads what comes. Everything it reads is one of the
messages below; everything it cannot read raises DecodeError. docs/adding-a-dialect.md tells how to add one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import orjson

from ..channels import Subscription, unknown
from ..errors import ConfigError, DecodeError
from ..freshness import Pace
from ..records import DataRecord
from .signing import Credentials

Op = Literal["subscribe", "unsubscribe"]


@dataclass(slots=True)
class Push:
    """Data of one subscription, named by its key; `payload` is for the decoder of that subscription."""

    key: str
    payload: Any


@dataclass(slots=True)
class Ack:
    """One argument of one request was accepted; `request` is the id of the request where it is echoed."""

    op: Op
    key: str
    request: str | None = None


@dataclass(slots=True)
class Refusal:
    """
    A request, or one argument of it, was not accepted.

    `retry`: the same request may succeed later. `key`: the argument, where the message names it. `unfit`: this account
    may not have the channel.
    """

    code: str | None
    message: str
    key: str | None = None
    request: str | None = None
    retry: bool = False
    unfit: bool = False

    def __str__(self) -> str:
        return f"{self.message} ({self.code})" if self.code else self.message


@dataclass(slots=True)
class LoginReply:
    """The answer to a login. `clock`: it was refused for its timestamp. `retry`: it may succeed later."""

    ok: bool
    code: str | None = None
    message: str = ""
    clock: bool = False
    retry: bool = False


@dataclass(slots=True)
class Pong:
    """The answer to a ping."""


@dataclass(slots=True)
class Notice:
    """The exchange will close this connection soon."""

    code: str | None
    message: str


@dataclass(slots=True)
class Dropped:
    """The exchange ended subscriptions by itself: all those whose key `covers` accepts."""

    message: str
    covers: Callable[[str], bool]


@dataclass(slots=True)
class Other:
    """Understood to be of no consequence (`known`), or not understood at all."""

    what: str
    known: bool = False


Message = Push | Ack | Refusal | LoginReply | Pong | Notice | Dropped | Other

Decoder = Callable[[Any, int], "list[DataRecord]"]
"""Turns one payload and the time of its arrival (ns) into records; raises DecodeError."""


@dataclass(frozen=True, slots=True)
class Traits:
    """
    What a dialect says of one subscription.

    Args:
        key: names it within a connection, equal to the key of its pushes and acknowledgements.
        path: the kind of connection it rides on, a key of the venue's paths.
        login: whether the connection must be logged in.
        first_push: whether something is pushed right after each subscribe.
        cached: whether that first push repeats what was published before (then it is marked `cached`).
        chained: whether trades name their predecessor, so that a loss shows.
        incremental: whether it is a book of a snapshot and changes.
        deep: whether it is a book of 50 levels or more, of which a connection may carry a limited number.
        excludes: keys that may not share a connection with this one; it may not share one with them, either.
        sequenced: whether its changes are numbered and name the one before.
        checksums: whether every message of the book carries a checksum; else 0 means that there is none.
        alternative: a channel for those who may not have this one.
        stamp: what its rows call the time of a push, which each connection has its own of.
        pace: how often it speaks; None for a channel of events, whose silence says nothing.
        canary: what goes over the same connection, and whose silence says that everything there is silent.
    """

    key: str
    path: str
    login: bool = False
    first_push: bool = True
    cached: bool = False
    chained: bool = False
    incremental: bool = False
    deep: bool = False
    excludes: tuple[str, ...] = ()
    sequenced: bool = False
    checksums: bool = False
    alternative: str | None = None
    stamp: str | None = None
    pace: Pace | None = None
    canary: Subscription | None = None


class Dialect(Protocol):
    """What every dialect module provides."""

    @property
    def NAME(self) -> str: ...

    @property
    def CHANNELS(self) -> Mapping[str, str]:
        """okstream's channel names that this dialect has, with the exchange's own names."""
        ...

    def traits(self, sub: Subscription) -> Traits:
        """
        Say how `sub` is spoken of.

        Raises:
            ConfigError: this dialect does not have the channel, or it lacks an argument.
        """
        ...

    def subscription(self, key: str) -> Subscription | None:
        """Return what has this key, in okstream's words where there are some; None for what cannot be asked for."""
        ...

    def decoder(self, sub: Subscription, venue: str) -> Decoder:
        """Return what reads the payloads of `sub` after one subscribe; a new subscribe takes a new decoder."""
        ...

    def login(self, credentials: Credentials, wall_ms: int) -> bytes:
        """
        Return the login request, signed for the exchange's clock `wall_ms` (ms since the epoch).

        Raises:
            ConfigError: the credentials lack something.
        """
        ...

    def request(self, op: Op, subs: Sequence[Subscription], request: str) -> bytes:
        """Return one subscribe or unsubscribe request with the id `request`, where the dialect has ids."""
        ...

    def size(self, sub: Subscription) -> int:
        """Return how many bytes of a request's limit `sub` takes."""
        ...

    def ping(self) -> bytes: ...

    def read(self, text: bytes) -> list[Message]:
        """
        Read one message.

        Raises:
            DecodeError: it is not one of this dialect. Nothing else, whatever the bytes.
        """
        ...

    def route(self, text: bytes) -> bytes | None:
        """
        Return a token from a look at a data message: equal tokens are of one subscription.

        None where that takes a full `read`. It lets raw lanes pass messages on without parsing them, and records be
        made with less work.
        """
        ...

    def payload(self, text: bytes) -> Any:
        """
        Return what `read` would put into the push of a message that has a token, without naming its subscription.

        Whatever it does not look at, the decoder must: where that raises, the message is read again with care.

        Raises:
            DecodeError: it is no message.
        """
        ...


def with_key(key: str, subs: Iterable[Subscription], traits: Callable[[Subscription], Traits]) -> Subscription | None:
    """Return the first of `subs` that has this key, None where none has."""
    for sub in subs:
        try:
            if traits(sub).key == key:
                return sub
        except ConfigError:
            continue
    return None


def guard(decode: Decoder, what: str) -> Decoder:
    """Wrap `decode` so that a payload of another shape than documented raises DecodeError and nothing else."""

    def guarded(payload: Any, recv: int) -> list[DataRecord]:
        try:
            return decode(payload, recv)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise DecodeError(f"{what}: {type(error).__name__}: {error}") from None

    return guarded


def parsed(message: bytes, dialect: str) -> Any:
    """Return `message` as JSON; raises DecodeError where it is none."""
    try:
        return orjson.loads(message)
    except ValueError as error:
        raise DecodeError(f"not a message of {dialect}: {error}") from None


def text(value: Any) -> str | None:
    """Return the exchange's text as it is, None for what it left empty; raises TypeError for anything else."""
    if type(value) is str:
        return value or None
    if value is None:
        return None
    raise TypeError(f"{value!r} is not text")


def needed(value: Any) -> str:
    """Return the exchange's text, which must be there; raises TypeError otherwise."""
    if type(value) is str and value:
        return value
    raise TypeError(f"{value!r} is not text")


def integer(value: Any) -> int | None:
    """Return a time or count given as digits or as a JSON integer, None for what was left empty."""
    kind = type(value)
    if kind is str:
        if not value:
            return None
        number = int(value)
    elif kind is int:
        number = value
    elif value is None:
        return None
    else:
        raise TypeError(f"{value!r} is not an integer")
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{value!r} does not fit 64 bits")
    return number


def rows(levels: Any) -> list[list[str]]:
    """Return book levels as they are, once sure that each is a list of at least two texts."""
    if levels:
        if type(levels) is not list:
            raise TypeError("book levels are not a list")
        for row in levels:
            if type(row) is not list or len(row) < 2:
                raise TypeError("book levels are not lists of price and size")
            "".join(row)  # raises TypeError unless all are text
        return levels
    return []


def writable(data: Any) -> Any:
    """Return `data`, once sure that it can be written as JSON again; raises TypeError otherwise."""
    orjson.dumps([[[data]]])
    return data


if TYPE_CHECKING:
    from . import okex_v1, okex_v3, okx_v5

    _CHECKED: tuple[Dialect, ...] = (okx_v5, okex_v3, okex_v1)

_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "okx-v5": "okx_v5",
        "okex-v3": "okex_v3",
        "okex-v1": "okex_v1",
    }
)


def load(name: str) -> Dialect:
    """
    Return the dialect called `name`; its module is imported only now.

    Raises:
        ConfigError: there is none.
    """
    if name not in _MODULES:
        raise unknown("dialect", name, _MODULES)
    return cast(Dialect, import_module(f".{_MODULES[name]}", __name__))
