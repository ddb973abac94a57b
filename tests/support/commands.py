"""What commands say."""

import re

_SLOW = re.compile(r"^.*held everything up for \d+ ms in `write`\n", re.MULTILINE)


def calm(errors: str) -> str:
    """Return what was said on stderr without the lines about a busy machine, on which any `write` may take long."""
    return _SLOW.sub("", errors)
