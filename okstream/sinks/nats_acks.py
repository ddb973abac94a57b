"""What a message says of itself to JetStream, and what JetStream says of it."""

import re
from dataclasses import dataclass
from hashlib import blake2b

import orjson

from okstream.entries import Entry

MSG_ID = "Nats-Msg-Id"
EXPECTED = "Nats-Expected-Stream"
NO_RESPONDERS = "503"

_PLAIN = re.compile(r"[!-}][!-~]{0,99}")
_FRAME = len("NATS/1.0\r\n\r\n")
_LINE = len(": \r\n")
_TOO_LARGE = (10054, 10097)
_WRONG_STREAM = 10060


@dataclass(frozen=True, slots=True)
class Ack:
    """
    JetStream's answer to one message: stored if `why` is empty.

    `final`: it can never be stored. `reopen`: the stream is to be looked at again first.
    """

    why: str = ""
    duplicate: bool = False
    final: bool = False
    reopen: bool = False


_STORED, _DUPLICATE = Ack(), Ack(duplicate=True)
_NOBODY = Ack("no stream takes the subject, or it has no leader at the moment", reopen=True)


def msg_id(entry: Entry) -> str:
    """
    Return the identity of `entry` as a header can hold it: itself, or where that is long or not plain, `~` and a hash.

    To a gap's it adds the time it was said: a gap's number is unique in one process only.
    """
    identity = entry.identity if entry.type != "gap" else f"{entry.identity}:{entry.recv}"
    if _PLAIN.fullmatch(identity):
        return identity
    return f"~{blake2b(identity.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def size(payload: bytes, headers: dict[str, str]) -> int:
    """Return what the server counts against its `max_payload`, bytes."""
    return len(payload) + _FRAME + sum(len(name) + _LINE + len(value) for name, value in headers.items())


def read_ack(status: str | None, data: bytes, stream: str) -> Ack | None:
    """
    Return what a reply to a message says; None where it is no answer of JetStream's.

    {"stream":"OKSTREAM","seq":17}                                      # "duplicate":true where it was stored before
    {"error":{"code":400,"err_code":10060,"description":"expected stream does not match"},"stream":"X","seq":0}
    """
    if status is not None:
        return _NOBODY if status == NO_RESPONDERS else None
    try:
        said = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(said, dict):
        return None
    if isinstance(error := said.get("error"), dict):
        code, text = error.get("err_code"), str(error.get("description"))
        return Ack(f"{stream}: {text} ({code})", final=code in _TOO_LARGE, reopen=code == _WRONG_STREAM)
    if said.get("stream") != stream or "seq" not in said:
        return None
    return _DUPLICATE if said.get("duplicate") else _STORED
