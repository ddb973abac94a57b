"""
NATS: every record a message, in a JetStream stream that stores each identity once.

`write` returns when JetStream has acknowledged every message of the batch, stored or known already. What is not
acknowledged in time is published again with the same `Nats-Msg-Id`; after that the connection is given up.
"""

import logging
import os
import random
import re
import ssl
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from okstream.entries import Entry
from okstream.errors import ConfigError, ReopenError, RetryError, SinkError

from .nats_credentials import NatsCredentials, nats_credentials
from .nats_delivery import Delivery
from .nats_link import NatsLink
from .nats_stream import StreamWish, settle
from .nats_subjects import Subjects

log = logging.getLogger("okstream.sinks.nats")

_INBOX = re.compile(r"[\w-]+(\.[\w-]+)*", re.ASCII)
_NO_NAME = frozenset(" .*>/\\")
"""What the server allows in no name of a stream, beside what cannot be printed."""


class Nats:
    """
    Records as messages of a NATS server.

    Attributes:
        stored, duplicates: messages acknowledged as new, and as known already.
        repeated: messages published again because no acknowledgement came in time.
        drift: in what the stream differs from the options, as of the last `open`.
        where: where messages go, for people.

    Args:
        servers: nats:// or tls:// addresses, tried in random order.
        subject: template of the subjects: words and {venue}, {channel}, {inst}, {account}, {type}, {date}.
        stream: the stream's name; unused without `jetstream`.
        jetstream: false is plain NATS: best effort, the server has it, and whoever listens at that moment.
        credentials: a file with user and password, or token, in TOML; or a .creds file. Without one the environment's
            OKSTREAM_NATS_USER, OKSTREAM_NATS_PASSWORD and OKSTREAM_NATS_TOKEN, where they are set.
        tls_ca, tls_cert, tls_key: PEM files: whom to trust in place of the system, and who we are.
        tls_first: TLS before anything else is said.
        in_flight: messages on their way at a time.
        in_flight_each: of them, messages of one subscription; more than 1 gives up its order where messages fail.
        ack_timeout: seconds until a message without an acknowledgement is published again, then until the connection
            is given up.
        connect_timeout: seconds to connect to one server, and for an answer about the stream.
        create: make the stream where it is missing, with the options that follow; else they are only compared.
        duplicate_window: seconds in which the stream drops what it has already.
        storage, max_age, max_bytes, replicas, discard: see StreamWish.
        inbox: prefix of the subjects that answers come to.

    Raises:
        ConfigError: an option is wrong, or nats-py is not installed.
    """

    batch_records = 1000
    linger = 0.0

    def __init__(
        self,
        *,
        servers: list[str] | str = "nats://127.0.0.1:4222",
        subject: str = "okstream.{venue}.{channel}.{inst}",
        stream: str = "OKSTREAM",
        jetstream: bool = True,
        credentials: Path | None = None,
        tls_ca: Path | None = None,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        tls_first: bool = False,
        in_flight: int = 1000,
        in_flight_each: int = 1,
        ack_timeout: float = 5.0,
        connect_timeout: float = 5.0,
        create: bool = True,
        duplicate_window: float = 120.0,
        storage: Literal["file", "memory"] | None = None,
        max_age: float | None = None,
        max_bytes: int | None = None,
        replicas: int | None = None,
        discard: Literal["old", "new"] | None = None,
        inbox: str = "_INBOX",
    ) -> None:
        self._servers = _addresses(servers)
        self._subjects = Subjects(subject)
        self._stream = stream if jetstream else None
        self.where = f"{subject} at {', '.join(self._servers)}" + (f", in {stream}" if jetstream else "")
        self._credentials = nats_credentials(credentials, os.environ)
        wanted = tls_first or any(server.startswith("tls:") for server in self._servers)
        self._tls = _context(tls_ca, tls_cert, tls_key, wanted)
        self._tls_first = tls_first
        self._in_flight, self._each = in_flight, in_flight_each
        self._ack_timeout, self._connect_timeout = ack_timeout, connect_timeout
        self._create, self._inbox = create, inbox
        self._wish = StreamWish(
            name=stream, pattern=self._subjects.pattern, duplicate_window=duplicate_window, storage=storage,
            max_age=max_age, max_bytes=max_bytes, replicas=replicas, discard=discard,
        )  # fmt: skip
        self._check()
        _find(self._credentials)
        self.stored = self.duplicates = self.repeated = 0
        self.drift: list[str] = []
        self._link: NatsLink | None = None

    async def open(self) -> None:
        """
        Connect to one of the servers, and find or make the stream.

        Raises:
            RetryError: no server can be reached, or the stream is not there.
            SinkError: we are not let in, or the stream cannot take the records.
        """
        link = await self._dialled()
        if self._stream is None:
            log.info("connected to %s", ", ".join(self._servers))
            return
        drift = await settle(link, self._wish, self._create, self._connect_timeout)
        if drift is None:
            log.warning("stream %s may not be looked at: whether it fits is not known", self._stream)
        elif drift and drift != self.drift:
            log.warning("stream %s is used as it is: %s", self._stream, "; ".join(drift))
        self.drift = drift or []
        log.info("connected to %s; stream %s takes %s", ", ".join(self._servers), self._stream, self._wish.pattern)

    async def write(self, batch: Sequence[Entry]) -> None:
        """
        Publish `batch`; see Sink.

        Raises:
            RetryError: the stream does not take it now. ReopenError: nor does this connection.
            RejectedError: records larger than server or stream allow.
            SinkError: the server forbids a subject.
        """
        link = self._link
        if link is None or link.lost is not None:
            raise ReopenError((link and link.lost) or "not connected")
        delivery = Delivery(link, batch, self._subjects, self._stream)
        try:
            if self._stream is None:
                await delivery.flushed(self._ack_timeout)
            else:
                await delivery.acknowledged(self._in_flight, self._each, self._ack_timeout)
        finally:
            self.stored += delivery.stored
            self.duplicates += delivery.duplicates
            self.repeated += delivery.repeated

    async def close(self) -> None:
        """Leave the server; what was not acknowledged is not waited for."""
        link, self._link = self._link, None
        if link is not None:
            await link.cut()

    async def _dialled(self) -> NatsLink:
        failures: list[SinkError] = []
        for server in random.sample(self._servers, len(self._servers)):
            link = self._link = NatsLink(self._inbox)
            try:
                await link.dial(server, self._credentials, self._tls, self._connect_timeout, tls_first=self._tls_first)
            except SinkError as error:
                failures.append(error)
                await link.cut()
            else:
                return link
        # One that only is away may let us in when it comes back.
        raise next((error for error in failures if isinstance(error, RetryError)), failures[0])

    def _check(self) -> None:
        wish = self._wish
        if not wish.name or any(character in _NO_NAME or not character.isprintable() for character in wish.name):
            raise ConfigError(f"stream: {wish.name!r} is no name for a stream")
        if not _INBOX.fullmatch(self._inbox):
            raise ConfigError(f"inbox: {self._inbox!r} is no prefix for subjects")
        positive = {
            "in_flight": self._in_flight, "in_flight_each": self._each, "ack_timeout": self._ack_timeout,
            "connect_timeout": self._connect_timeout, "duplicate_window": wish.duplicate_window,
            "max_age": wish.max_age, "max_bytes": wish.max_bytes, "replicas": wish.replicas,
        }  # fmt: skip
        for name, value in positive.items():
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} must be more than 0")
        if wish.max_age is not None and wish.max_age < wish.duplicate_window:
            raise ConfigError("max_age must not be less than duplicate_window: what is gone is not known to be there")


def _addresses(servers: list[str] | str) -> list[str]:
    """Return `servers` as whole addresses; raises ConfigError without showing what may be a password."""
    addresses = [servers] if isinstance(servers, str) else list(servers)
    if not addresses:
        raise ConfigError("servers: there is none")
    for address in addresses:
        try:
            parts = urlsplit(address)
            host = parts.hostname if parts.port != 0 else None
        except ValueError:
            raise ConfigError("servers: an address is wrong; it is nats://host:port or tls://host:port") from None
        if "@" in parts.netloc:
            raise ConfigError("servers: user and password belong into the file that `credentials` names")
        if parts.scheme not in ("nats", "tls") or not host or parts.path.strip("/"):
            raise ConfigError(f"servers: {address!r} is not nats://host:port or tls://host:port")
    return addresses


def _context(ca: Path | None, cert: Path | None, key: Path | None, wanted: bool) -> ssl.SSLContext | None:
    """Return how TLS is spoken, None where it need not be."""
    if not wanted and ca is None and cert is None and key is None:
        return None
    if key is not None and cert is None:
        raise ConfigError("tls_key is nothing without tls_cert")
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key, password="")  # or OpenSSL would ask the terminal
    except (ssl.SSLError, OSError) as error:
        named = ", ".join(str(path) for path in (ca, cert, key) if path is not None)
        raise ConfigError(f"tls: {named}: {error.strerror or error}") from None
    return context


def _find(credentials: NatsCredentials) -> None:
    """Raise ConfigError where a library is missing; importing it takes a fifth of a second, and is left for later."""
    if find_spec("nats") is None:
        raise ConfigError("the nats sink needs nats-py: pip install 'okstream[nats]'")
    if credentials.creds is not None and find_spec("nkeys") is None:
        raise ConfigError("a .creds file needs nkeys: pip install 'nats-py[nkeys]'")
