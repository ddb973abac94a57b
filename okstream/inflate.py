"""
Bounded raw Deflate.

OKEx and OKCoin v3, and v1 where compressed, put one complete raw-Deflate stream (no zlib or gzip
header) into each binary WebSocket frame; the last block carries the final bit and no bytes follow.
Seen in every one of more than 13,000 recorded frames.
"""

import zlib

from .errors import InflateError

try:
    from . import _compiled
except ImportError:  # it was not built, or is not wanted
    _COMPILED = False
else:
    _COMPILED = True

CAP = 16 * 1024 * 1024
"""Default limit of one frame's text, in bytes."""

INFLATING = 3
"""Bytes of memory that a frame takes while it inflates, for each byte of the cap, as measured."""

EXPANSION = 1032
"""Deflate cannot expand by more than that, so a short frame needs no cap while it inflates."""


def inflate(frame: bytes, cap: int = CAP) -> bytes:
    """
    Return the text that `frame` holds, at most `cap` bytes; zlib takes up to three times that until it is whole.

    Raises:
        InflateError: `frame` is not exactly one complete raw-Deflate stream, or its text is longer than `cap`.
    """
    # To set zlib up costs more than such a message; what is longer than 64 KiB, or wrong, is left to it all the same.
    if _COMPILED and (short := _compiled.inflate(frame, cap)) is not None:
        return short
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        if len(frame) * EXPANSION <= cap:
            text = decoder.decompress(frame)
        else:
            text = decoder.decompress(frame, cap)
            if not decoder.eof and decoder.decompress(decoder.unconsumed_tail, 1):
                raise InflateError(f"frame of {len(frame)} bytes inflates to more than {cap} bytes")
    except zlib.error as error:
        raise InflateError(f"frame of {len(frame)} bytes is not raw Deflate: {error}") from None
    if not decoder.eof:
        raise InflateError(f"frame of {len(frame)} bytes ends before its Deflate stream does")
    if decoder.unused_data:
        raise InflateError(f"{len(decoder.unused_data)} bytes follow the Deflate stream")
    return text
