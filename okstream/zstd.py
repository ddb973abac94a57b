"""zstd: the standard library's from Python 3.14 on, the same as a package before. The one place that knows which."""

import sys

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdError
else:
    from backports.zstd import CompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdError

__all__ = ["MAGIC", "ZstdCompressor", "ZstdDecompressor", "ZstdError", "compressor"]

MAGIC = b"\x28\xb5\x2f\xfd"
"""What a frame begins with."""


def compressor(level: int) -> ZstdCompressor:
    """Return what makes frames, each with a checksum of its content: `compress(data, FLUSH_FRAME)` is a whole one."""
    options: dict[int, int] = {CompressionParameter.compression_level: level, CompressionParameter.checksum_flag: 1}
    return ZstdCompressor(options=options)
