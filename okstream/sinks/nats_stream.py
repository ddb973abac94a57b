"""The stream that records go to: made where it is missing, looked at where it is there, never changed."""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from okstream.errors import RetryError, SinkError

from .nats_link import DeniedError, NatsLink
from .nats_subjects import covered

log = logging.getLogger("okstream.sinks.nats")

_MISSING, _OTHERWISE, _OVERLAP = 10059, 10058, 10065
_NS = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamWish:
    """
    What the stream is to be; None leaves it to the server, or to whoever made it.

    Args:
        name, pattern: its name, and the subjects it must take.
        duplicate_window: seconds in which a second message of the same identity is dropped.
        max_age: seconds until a message is removed.
        max_bytes: what it may hold.
        discard: what a full stream means: the `old` are removed, or the `new` refused.
    """

    name: str
    pattern: str
    duplicate_window: float
    storage: Literal["file", "memory"] | None = None
    max_age: float | None = None
    max_bytes: int | None = None
    replicas: int | None = None
    discard: Literal["old", "new"] | None = None

    def config(self) -> dict[str, Any]:
        """Return it as JetStream's API writes it."""
        config = {
            "name": self.name,
            "subjects": [self.pattern],
            "storage": self.storage or "file",
            "duplicate_window": int(self.duplicate_window * _NS),
            "num_replicas": self.replicas or 1,
            "discard": self.discard or "old",
        }
        if self.max_age is not None:
            config["max_age"] = int(self.max_age * _NS)
        if self.max_bytes is not None:
            config["max_bytes"] = self.max_bytes
        return config

    def drift(self, config: dict[str, Any]) -> list[str]:
        """Say in what the stream of this `config` is less than, or other than, what is wished for."""
        wanted = self.config()
        found = []
        if (window := config.get("duplicate_window") or 0) < wanted["duplicate_window"]:
            found.append(f"duplicate_window is {window / _NS:g} s, not {self.duplicate_window:g} s")
        if self.max_age is not None and (age := config.get("max_age") or 0) != wanted["max_age"]:
            found.append(f"max_age is {f'{age / _NS:g} s' if age else 'not set'}, not {self.max_age:g} s")
        given = {"storage": self.storage, "max_bytes": self.max_bytes, "discard": self.discard}
        given["num_replicas"] = self.replicas
        found += [
            f"{name} is {config.get(name)}, not {value}"
            for name, value in given.items()
            if value is not None and config.get(name) != value
        ]
        return found

    def unusable(self, config: dict[str, Any]) -> str | None:
        """Say why nothing can be written to the stream of this `config`, None if it can."""
        if not covered(self.pattern, config.get("subjects") or []):
            return f"it takes {', '.join(config.get('subjects') or ['nothing'])}, which leaves out {self.pattern}"
        if config.get("no_ack"):
            return "it acknowledges nothing (no_ack)"
        return "it is sealed" if config.get("sealed") else None


async def settle(link: NatsLink, wish: StreamWish, create: bool, timeout: float) -> list[str] | None:
    """
    Find the stream, or make it if `create`; return its drift, None if it may not be looked at.

    Raises:
        RetryError: it is not there, or JetStream is not.
        SinkError: it cannot take the records, or may not be made.
    """
    try:
        config = await _api(link, f"STREAM.INFO.{wish.name}", {}, timeout)
        if config is None and create:
            log.info("stream %s is not there: it is made, for %s", wish.name, wish.pattern)
            config = await _api(link, f"STREAM.CREATE.{wish.name}", wish.config(), timeout)
            if config is None:  # somebody else was faster, with something else
                config = await _api(link, f"STREAM.INFO.{wish.name}", {}, timeout)
    except DeniedError as error:
        if not create:
            return None
        raise SinkError(f"stream {wish.name}: {error}; create = false needs no such right") from None
    if config is None:
        raise RetryError(f"there is no stream {wish.name}: make it, or have okstream do it with create = true")
    if (why := wish.unusable(config)) is not None:
        raise SinkError(f"stream {wish.name} is of no use: {why}")
    return wish.drift(config)


async def _api(link: NatsLink, what: str, question: dict[str, Any], timeout: float) -> dict[str, Any] | None:
    """Return the stream's config from the answer, None where there is no such stream, or another one."""
    status, answer = await link.ask(f"$JS.API.{what}", orjson.dumps(question) if question else b"", timeout)
    if status is not None:
        raise RetryError("JetStream does not answer: it is not enabled, or has no leader at the moment")
    try:
        said = orjson.loads(answer)
        error, config = said.get("error"), said.get("config")
        if error is None:
            return dict(config)
        code, text = error["err_code"], str(error["description"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise RetryError(f"{what}: an answer that cannot be read") from None
    if code in (_MISSING, _OTHERWISE):
        return None
    if code == _OVERLAP:
        raise SinkError(f"{what}: {text} ({code})")
    raise RetryError(f"{what}: {text} ({code})")
