"""How fast the exchange may be asked over REST, as documented, and what keeps to it."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from .errors import RestError

LIMITS: Mapping[str, tuple[int, str | None]] = MappingProxyType(
    {
        "public/time": (10, None),
        "public/instruments": (20, "instType"),
        "market/tickers": (20, None),
        "market/ticker": (20, None),
        "market/books": (40, None),
        "market/trades": (100, None),
        "market/candles": (40, None),
    }
)
"""How many requests from one address each endpoint answers in 2 s, and the argument whose values count apart."""

WINDOW = 2.0
PATIENCE = 30.0
"""The longest that one asks to be left alone, in seconds, before the question is given up."""

_MARGIN = 0.01


class Limiter:
    """
    Lets at most `most` requests through in any 2 s, in the order they came.

    A place is taken from before the request until 2 s after its answer: whenever the exchange counted the request,
    it was in between. So the limit holds for the exchange's clock, too, however long messages are under way.
    """

    def __init__(self, most: int) -> None:
        self._places = asyncio.Semaphore(most)
        self._turn = asyncio.Lock()
        self._shut_until = 0.0

    async def __aenter__(self) -> None:
        async with self._turn:
            await self._places.acquire()
            try:
                await self._opened()
            except BaseException:
                self._places.release()
                raise

    async def __aexit__(self, *_: object) -> None:
        # The margin is for timers, which may be early by the resolution of the clock.
        asyncio.get_running_loop().call_later(WINDOW + _MARGIN, self._places.release)

    def shut(self, seconds: float) -> None:
        """Let nothing through for so long."""
        self._shut_until = max(self._shut_until, asyncio.get_running_loop().time() + seconds)

    async def _opened(self) -> None:
        loop = asyncio.get_running_loop()
        while (wait := self._shut_until - loop.time()) > 0:
            if wait > PATIENCE:
                raise RestError(f"the exchange wants to be left alone for another {wait:.0f} s")
            await asyncio.sleep(wait)
