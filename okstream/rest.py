"""Plain HTTP: the one question that a login needs an answer to, and what headers say."""

import logging
import ssl
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import orjson

from .venues import Venue

log = logging.getLogger("okstream.rest")

_TIMEOUT = 5.0
_LONGEST_WAIT = 3600.0


async def clock_offset(
    venue: Venue, wall_ns: Callable[[], int], proxy: str | None = None, tls: ssl.SSLContext | None = None
) -> int:
    """Return the exchange's clock minus ours in ms, half of the round trip allowed for; 0 where it does not answer."""
    if venue.rest is None or venue.dialect != "okx-v5":
        return 0
    import aiohttp  # takes a quarter of a second, and most streams need no login

    try:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            asked = wall_ns()
            async with http.get(f"{venue.rest}/api/v5/public/time", proxy=proxy, ssl=tls or True) as response:
                body = await response.read()
            answered = wall_ns()
        exchange = int(orjson.loads(body)["data"][0]["ts"])
    except (aiohttp.ClientError, TimeoutError, OSError, LookupError, TypeError, ValueError) as error:
        log.warning("%s: its clock cannot be asked (%s); signing with ours", venue.name, type(error).__name__)
        return 0
    offset = exchange - (asked + answered) // 2_000_000
    if abs(offset) > 2000:
        side = "behind" if offset > 0 else "ahead of"
        log.warning("this machine's clock is %.1f s %s that of %s", abs(offset) / 1000, side, venue.name)
    return offset


def date_ms(text: str) -> int | None:
    """Return a header's date in ms since the epoch, None where it is none."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, LookupError, OverflowError):
        return None
    return int(date.replace(tzinfo=date.tzinfo or UTC).timestamp() * 1000)


def retry_after(text: str, wall_ms: int) -> float:
    """Return the seconds that a Retry-After of seconds or a date asks for, an hour at most; 0 for anything else."""
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_WAIT)
    date = date_ms(text)
    return 0.0 if date is None else min(max((date - wall_ms) / 1000, 0.0), _LONGEST_WAIT)


def shown(url: str) -> str:
    """Return `url` without the parts that may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
