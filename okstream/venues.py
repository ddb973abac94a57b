"""
Where markets are reached, and what each of them allows.

Hosts, paths and limits are from the exchange's documentation as of 2026-10 (v5) and from the archived
documentation of the time (v3, v1, whose servers are gone: gateways and simulators are reached with `--url`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from urllib.parse import SplitResult, urlsplit, urlunsplit

from .channels import unknown
from .errors import ConfigError


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What a venue allows, and how its links are kept alive.

    Args:
        connects: new connections a second from one address.
        requests: login, subscribe and unsubscribe requests an hour; None where no limit is known.
        requests_shared: whether `requests` counts per address, not per connection.
        request_bytes: size of the arguments of one request.
        ping_after: seconds of silence after which a ping is sent.
        ping_every: seconds between pings whatever arrives; None where silence alone decides.
        pong_within: seconds of silence after a ping which mean that the link is dead.
        ack_within: seconds after which an unanswered request is asked again.
        deep_books: books of 50 levels or more on one connection; None where no limit is known.
        channel_connections: connections of one account; None where no limit is known.
    """

    connects: float
    requests: int | None
    requests_shared: bool
    request_bytes: int
    ping_after: float = 20.0
    ping_every: float | None = None
    pong_within: float = 10.0
    ack_within: float = 10.0
    deep_books: int | None = None
    channel_connections: int | None = None


# 64 KiB is the limit of the arguments; the rest of the request may or may not count. The deep books are an advice.
# The connections count per channel and account; that no account has more in all keeps to it.
V5_LIMITS = Limits(
    connects=3, requests=480, requests_shared=False, request_bytes=64 * 1024 - 256, deep_books=30,
    channel_connections=30,
)  # fmt: skip
# The documentation of v3 does not say whether the 240 an hour count per connection or per address.
V3_LIMITS = Limits(connects=1, requests=240, requests_shared=True, request_bytes=4096)
V1_LIMITS = Limits(connects=1, requests=None, requests_shared=False, request_bytes=4096, ping_every=25.0)

_V5_PATHS = MappingProxyType({"public": "/ws/v5/public", "private": "/ws/v5/private", "business": "/ws/v5/business"})


@dataclass(frozen=True, slots=True)
class Venue:
    """
    A market and where to reach it.

    Args:
        name: as it stands in records.
        dialect: the wire generation spoken there.
        url: scheme, host and port of its WebSocket, without a path.
        paths: the path for each kind of connection the dialect tells apart.
        limits: what it allows.
        rest: base URL of its REST interface, None where there is none to ask.
        deflate: whether to offer permessage-deflate; it saves bandwidth and costs processor time.
        note: what it is, for people.
        others: further base URLs of the same market, for redundant links.
        closed: whether its own servers are switched off, so that `at` must tell another place.
    """

    name: str
    dialect: str
    url: str
    paths: Mapping[str, str] = field(hash=False)
    limits: Limits
    rest: str | None = None
    deflate: bool = False
    note: str = ""
    closed: bool = False
    others: tuple[str, ...] = ()

    def at(self, url: str, rest_url: str | None = None) -> "Venue":
        """
        Return this venue reached at `url` instead: a base to which its paths are added, or one whole URL.

        Its REST interface is that at `rest_url` then; without it there is none to ask.

        Raises:
            ConfigError: `url` is not ws:// or wss:// with a host, or see `asked_at`.
        """
        parts = _parts(url)
        if parts.scheme not in {"ws", "wss"} or not parts.hostname:
            raise ConfigError(f"{url!r} is not a WebSocket URL; write wss://host or ws://host:port")
        # Port 8443 of the v5 hosts was switched off on 2026-10-31; old configurations still name it.
        netloc = parts.netloc
        if parts.port == 8443 and parts.hostname.endswith(".okx.com"):
            netloc = netloc.removesuffix(":8443")
        base = urlunsplit((parts.scheme, netloc, "", "", ""))
        path = parts.path.rstrip("/")
        known = next((p for p in self.paths.values() if path.endswith(p)), "")
        prefix = path.removesuffix(known)
        query = f"?{parts.query}" if parts.query else ""
        if known or not path:
            paths = {kind: prefix + p + query for kind, p in self.paths.items()}
        else:
            paths = dict.fromkeys(self.paths, path + query)
        there = replace(self, url=base, paths=MappingProxyType(paths), rest=None, closed=False)
        return there if rest_url is None else there.asked_at(rest_url)

    def asked_at(self, rest_url: str) -> "Venue":
        """
        Return this venue with its REST interface at `rest_url`, a base to which paths are added.

        Raises:
            ConfigError: `rest_url` is not http:// or https:// with a host, or nothing could be asked there.
        """
        parts = _parts(rest_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"{rest_url!r} is no base of a REST interface; write https://host or http://host:port")
        there = replace(self, rest=rest_url.rstrip("/"))
        if not there.answers:
            raise ConfigError(f"{self.name} speaks {self.dialect}, which has no REST interface that is asked here")
        return there

    @property
    def answers(self) -> bool:
        """Whether there is a REST interface that we know how to ask."""
        return self.rest is not None and self.dialect == "okx-v5"

    def link_url(self, kind: str, number: int = 0) -> str:
        """Return the whole URL of the connections of one kind; `number` tells redundant ones apart."""
        bases = (self.url, *self.others)
        return bases[number % len(bases)] + self.paths[kind]


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
    except ValueError as error:
        raise ConfigError(f"{url!r} is not a URL: {error}") from None
    return parts


def _v5(name: str, host: str, rest: str, note: str) -> Venue:
    return Venue(name, "okx-v5", f"wss://{host}", _V5_PATHS, V5_LIMITS, rest=f"https://{rest}", note=note)


VENUES: Mapping[str, Venue] = MappingProxyType(
    {
        venue.name: venue
        for venue in (
            _v5("okx", "ws.okx.com", "openapi.okx.com", "OKX, global site"),
            _v5("okx-demo", "wspap.okx.com", "openapi.okx.com", "OKX demo trading, global site"),
            _v5("okx-eea", "wseea.okx.com", "eea.okx.com", "OKX, accounts of the European Economic Area"),
            _v5("okx-eea-demo", "wseeapap.okx.com", "eea.okx.com", "OKX demo trading, EEA"),
            _v5("okx-us", "wsus.okx.com", "us.okx.com", "OKX, accounts of the US and Australia"),
            _v5("okx-us-demo", "wsuspap.okx.com", "us.okx.com", "OKX demo trading, US and Australia"),
            _v5("okx-tr", "ws.okx.com", "tr.okx.com", "OKX, accounts of Türkiye"),
            Venue(
                "okex-v3", "okex-v3", "wss://real.okex.com:8443", MappingProxyType({"main": "/ws/v3"}), V3_LIMITS,
                note="OKEx 2018-2022, switched off: needs --url", closed=True,
            ),
            Venue(
                "okcoin-v3", "okex-v3", "wss://real.okcoin.com:8443", MappingProxyType({"main": "/ws/v3"}), V3_LIMITS,
                note="OKCoin 2019-2022, switched off: needs --url", closed=True,
            ),
            Venue(
                "okex-v1", "okex-v1", "wss://real.okex.com:10440", MappingProxyType({"main": "/ws/v1"}), V1_LIMITS,
                note="OKEx 2017-2019, switched off: needs --url", closed=True,
            ),
            Venue(
                "okcoin-v1", "okex-v1", "wss://real.okcoin.com:10440",
                MappingProxyType({"main": "/websocket/okcoinapi"}), V1_LIMITS,
                note="OKCoin 2014-2018, switched off: needs --url", closed=True,
            ),
        )
    }
)  # fmt: skip

SIM = "sim"
"""The simulated exchange; it runs inside this process."""

_BY_DIALECT = {"okx-v5": "okx", "okex-v3": "okex-v3", "okex-v1": "okex-v1"}
DIALECTS = tuple(_BY_DIALECT)


def find(name: str) -> Venue:
    """
    Return the venue called `name`.

    Raises:
        ConfigError: there is none; the message says which there are.
    """
    try:
        return VENUES[name]
    except KeyError:
        raise unknown("venue", name, [*VENUES, SIM], _BY_DIALECT.get(name)) from None


def simulated(dialect: str, url: str, rest: str) -> Venue:
    """
    Return the venue `sim`, as a simulated exchange at `url` that speaks `dialect`.

    Raises:
        ConfigError: there is no such dialect.
    """
    if dialect not in _BY_DIALECT:
        raise unknown("dialect", dialect, DIALECTS)
    model = VENUES[_BY_DIALECT[dialect]]
    return replace(model.at(url), name=SIM, rest=rest, note="the simulated exchange, in this process")
