"""What a file is that was given for a journal or a recording, and is neither."""

from typing import Any

import orjson

_WANTED = "; a replay takes journals (`okstream record`) and recordings of a socket"
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_TEXTS = {"arg", "event", "table", "channel", "op"}
"""Keys of which the exchange's own messages have one."""


def stranger(first: bytes) -> str | None:
    """Return what a file is that begins with the line `first`; None where it may be a journal or a recording."""
    for magic, how in _PACKED.items():
        if first.startswith(magic):
            return f"it is packed with {how}; unpack it first"
    try:
        value = orjson.loads(first)
    except ValueError:
        return f"it is {'no journal and no recording' if _is_text(first) else 'no text'}{_WANTED}"
    if isinstance(value, dict) and isinstance(value.get("dir"), str):
        return None
    return _called(value[0] if isinstance(value, list) and value else value) + _WANTED


def _called(value: Any) -> str:
    keys = set(value) if isinstance(value, dict) else set()
    if {"type", "venue", "recv"} <= keys and "identity" not in keys:
        return "it holds records, or raw text, that okstream has delivered already: read them as they are"
    if {"sink", "reason", "record"} <= keys:
        return "it holds dead letters: records that a sink could not write"
    if {"manifest", "segment"} <= keys:
        return "it is the manifest of a file of records"
    if {"state", "template"} <= keys:
        return "it is what a file sink remembers of its files"
    if keys & _TEXTS:
        return "it holds the exchange's messages, but not when each came"
    return "it is no journal and no recording"


def _is_text(line: bytes) -> bool:
    try:
        return line.decode().replace("\t", " ").rstrip("\r\n").isprintable()
    except UnicodeDecodeError:
        return False
