"""Signed, rate-limited REST: so far the one question that a login needs an answer to."""

import logging
from collections.abc import Callable

from .venues import Venue

log = logging.getLogger("okstream.rest")

_TIMEOUT = 5.0


async def clock_offset(venue: Venue, wall_ns: Callable[[], int], proxy: str | None = None) -> int:
    """
    Return the exchange's clock minus ours in ms, half of the round trip allowed for; 0 where it does not answer.
    """
    if venue.rest is None or venue.dialect != "okx-v5":
        return 0
    import aiohttp  # takes a quarter of a second, and most streams need no login

    try:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            asked = wall_ns()
            async with http.get(f"{venue.rest}/api/v5/public/time", proxy=proxy) as response:
                body = await response.json(content_type=None)
            answered = wall_ns()
        exchange = int(body["data"][0]["ts"])
    except (aiohttp.ClientError, TimeoutError, OSError, LookupError, TypeError, ValueError) as error:
        log.warning("%s: its clock cannot be asked (%s); signing with ours", venue.name, type(error).__name__)
        return 0
    offset = exchange - (asked + answered) // 2_000_000
    if abs(offset) > 2000:
        side = "behind" if offset > 0 else "ahead of"
        log.warning("this machine's clock is %.1f s %s that of %s", abs(offset) / 1000, side, venue.name)
    return offset
