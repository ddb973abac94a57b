"""Reads files of JSON lines, plain or zstd, as far as they are whole."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from hashlib import blake2b
from typing import Any, BinaryIO

import orjson

from okstream.entries import RAW, Entry, Head
from okstream.records import TYPES
from okstream.zstd import MAGIC, ZstdCompressor, ZstdDecompressor, ZstdError

LONGEST_LINE = 64 << 20
_PIECE = 1 << 18


class Lines:
    """
    The whole lines of `file`, from where it stands; iterate to get them.

    `good` is the offset up to which everything is whole: behind the last line, or behind the last frame; `damage` says
    why that is not the end, None where it is.

    Args:
        early: yield lines of a frame that is very long before its checksum is known.
    """

    def __init__(self, file: BinaryIO, compressed: bool | None = None, early: bool = False) -> None:
        self.good = file.tell()
        self.damage: str | None = None
        self._file = file
        self._early = early
        if compressed is None:
            compressed = file.read(len(MAGIC)) == MAGIC
            file.seek(self.good)
        self.compressed = compressed

    def __iter__(self) -> Iterator[bytes]:
        for lines in self.flushes():
            yield from lines

    def flushes(self) -> Iterator[list[bytes]]:
        """Iterate over what was written together: the lines of a frame, or of a piece of a plain file."""
        return self._frames() if self.compressed else self._plain()

    def _plain(self) -> Iterator[list[bytes]]:
        rest = b""
        while piece := self._file.read(_PIECE):
            lines, rest = _split(rest + piece)
            if lines:
                self.good += sum(map(len, lines))
                yield lines
            if len(rest) > LONGEST_LINE:
                self.damage = "a line is too long"
                return
        if rest:
            self.damage = "the last line is torn"

    def _frames(self) -> Iterator[list[bytes]]:
        left = b""
        while left := left or self._file.read(_PIECE):
            frame, size, made = ZstdDecompressor(), len(left), 0
            text: list[bytes] = []
            try:
                while not frame.eof:
                    text.append(frame.decompress(left, LONGEST_LINE))
                    made += len(text[-1])
                    if made > LONGEST_LINE:
                        lines, rest = _split(b"".join(text))
                        if not self._early or len(rest) > LONGEST_LINE:
                            self.damage = "a frame is too long"
                            return
                        yield lines
                        text, made = [rest], len(rest)
                    left = b""
                    if not frame.eof and frame.needs_input:
                        left = self._file.read(_PIECE)
                        size += len(left)
                        if not left:
                            self.damage = "the last frame is torn"
                            return
            except ZstdError as error:
                self.damage = f"a frame is broken ({error})"
                return
            left = frame.unused_data
            lines, rest = _split(b"".join(text))
            if rest:
                self.damage = "a frame ends within a line"
                return
            self.good += size - len(left)
            yield lines


def packed(lines: Iterable[bytes], compressor: ZstdCompressor | None) -> bytes:
    """Return `lines` as a file has them: with a `compressor` in a frame, in several where one would be too long."""
    text = b"".join(lines)
    if compressor is None:
        return text
    frames = []
    begin = 0
    while len(text) - begin > LONGEST_LINE and (end := text.rfind(b"\n", begin, begin + LONGEST_LINE) + 1):
        frames.append(compressor.compress(text[begin:end], compressor.FLUSH_FRAME))
        begin = end
    return b"".join([*frames, compressor.compress(text[begin:], compressor.FLUSH_FRAME)])


def _split(text: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole lines of `text`, and what follows them."""
    *lines, rest = text.split(b"\n")
    return [line + b"\n" for line in lines], rest


def entry(line: bytes) -> Entry:
    """
    Return the entry that `line` was written of, as far as it tells: of the exchange's own text it tells nothing.

    Raises:
        ValueError: it is no JSON object or array.
    """
    said = orjson.loads(line)
    if not isinstance(said, dict | list):
        raise ValueError("no object")
    kind = said.get("type") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(kind, str):
        return Entry(line, Head("", RAW, "", None, None, None, None, 0))
    head: dict[str, Any] = {name: said.get(name) for name in _HEAD}
    if not isinstance(head["venue"], str) or any(type(head[name]) not in kinds for name, kinds in _HEAD.items()):
        raise ValueError(f"its head is none of a record: {head}")
    if (known := TYPES.get(kind)) is None:  # of a schema after ours
        return Entry(line, Head(blake2b(line, digest_size=8).hexdigest(), kind, **head))
    values: dict[str, Any] = {name: said.get(name) for name in _NAMES[known]}
    return Entry(line, known(**values))


_TEXT = (str, type(None))
_HEAD: dict[str, Any] = {
    "venue": _TEXT, "channel": _TEXT, "inst": _TEXT, "account": _TEXT, "ts": (int, type(None)), "recv": (int,)
}  # fmt: skip
_NAMES = {kind: [field.name for field in fields(kind) if field.init] for kind in TYPES.values()}
