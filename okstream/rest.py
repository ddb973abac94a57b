"""
REST of okx-v5: public questions, asked no faster than the exchange allows, and what headers say.

Prices, sizes and times stay the text that the exchange sends.
"""

import asyncio
import logging
import os
import random
import ssl
import time
import zlib
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import orjson

from .errors import ConfigError, OkstreamError, RestError, RestRefusedError
from .limiting import LIMITS, PATIENCE, Limiter
from .venues import Venue

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger("okstream.rest")

Row = dict[str, Any]

CAP = 16 * 1024 * 1024
"""The longest answer in bytes, compressed or not."""

_TIMEOUT = 10.0
_CLOCK_TIMEOUT = 5.0
_ATTEMPTS = 5
_LONGEST_PAUSE = 4.0
_LONGEST_WAIT = 3600.0
_LONGEST_MESSAGE = 200

_THROTTLED = "50011"
_LISTS = frozenset({"market/candles"})
_BUSY = frozenset({"50001", "50004", "50013", "50026", _THROTTLED})


class _BusyError(Exception):
    """No answer this time: ask again, after `wait` seconds at least; the endpoint is shut meanwhile if `throttled`."""

    def __init__(
        self, what: str, code: str | None = None, status: int | None = None, wait: float = 0.0, throttled: bool = False
    ) -> None:
        super().__init__(what)
        self.code = code
        self.status = status
        self.wait = wait
        self.throttled = throttled


class Rest:
    """
    The REST interface of one venue; it is opened by the first question, and closed once.

    Args:
        venue: where to ask; its dialect must be okx-v5.
        wall_ns: the wall clock, for dates in answers; durations come from the event loop.
        proxy: URL of an HTTP proxy; the environment is not looked at.
        tls: for certificates of your own; they are verified in any case.
        chance: randomness for delays.
        attempts: how often a question is asked before it is given up.
        timeout: seconds that one answer may take.

    Raises:
        ConfigError: the venue has no such interface, or the proxy cannot carry it.

    Every question raises RestError where no answer came or it cannot be read, RestRefusedError where the exchange
    refuses to answer.
    """

    def __init__(
        self,
        venue: Venue,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
        chance: random.Random | None = None,
        attempts: int = _ATTEMPTS,
        timeout: float = _TIMEOUT,
    ) -> None:
        if not venue.rest or not venue.answers:
            raise ConfigError(
                f"{venue.name}, as it is reached here, has no REST interface; patterns need a venue with REST: "
                "name each instrument instead"
            )
        if not venue.rest.startswith(("http://", "https://")):
            raise ConfigError(f"{venue.name}: the base of its REST interface must be https://host or http://host")
        if proxy is not None and not proxy.startswith(("http://", "https://")):
            raise ConfigError("REST needs an HTTP proxy; SOCKS proxies carry WebSockets only")
        self.venue = venue
        self._base = venue.rest.rstrip("/")
        self._wall_ns = wall_ns
        self._proxy = proxy
        self._tls = tls
        self._chance = chance or random.Random()
        self._attempts = attempts
        self._timeout = timeout
        self._limiters: dict[tuple[str, str | None], Limiter] = {}
        self._http: aiohttp.ClientSession | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up; questions that wait are given up."""
        self._closed = True
        if self._http is not None:
            await self._http.close()

    # -- questions

    async def time(self) -> int:
        """Return the exchange's clock, ms since the epoch."""
        row = self._first("public/time", await self._ask("public/time"))
        stamp = row.get("ts")
        if not isinstance(stamp, str) or not (stamp.isascii() and stamp.isdigit() and len(stamp) < 20):
            raise RestError(f"{self.venue.name}: public/time: the answer holds no time")
        return int(stamp)

    async def instruments(self, kind: str, family: str | None = None) -> list[Row]:
        """Return what is listed of one kind (SPOT, SWAP, FUTURES, OPTION); of OPTION for one family."""
        if kind == "OPTION" and family is None:
            raise ConfigError("options are listed by family: name one, for example BTC-USD")
        of_family = {} if family is None else {"instFamily": family}
        return await self._ask("public/instruments", instType=kind, **of_family)

    async def tickers(self, kind: str) -> list[Row]:
        """Return the ticker of each instrument of one kind."""
        return await self._ask("market/tickers", instType=kind)

    async def ticker(self, inst: str) -> Row:
        """Return the ticker of one instrument."""
        return self._first("market/ticker", await self._ask("market/ticker", instId=inst))

    async def book(self, inst: str, depth: int = 1) -> Row:
        """Return the best `depth` levels of both sides, 400 at most."""
        return self._first("market/books", await self._ask("market/books", instId=inst, sz=str(depth)))

    async def trades(self, inst: str, limit: int = 1) -> list[Row]:
        """Return the last trades, newest first, 500 at most."""
        return await self._ask("market/trades", instId=inst, limit=str(limit))

    async def candle(self, inst: str, bar: str) -> list[str]:
        """Return the present bar: its time, open, high, low, close and volume, and more."""
        rows: list[Any] = await self._ask("market/candles", instId=inst, bar=bar, limit="1")
        if len(rows) != 1:
            raise RestError(f"{self.venue.name}: market/candles: the answer is not one bar")
        bar_now: list[str] = rows[0]
        return bar_now

    # -- inside

    def _first(self, endpoint: str, rows: list[Row]) -> Row:
        if not rows:
            raise RestError(f"{self.venue.name}: {endpoint}: the answer is empty")
        return rows[0]

    async def _ask(self, endpoint: str, **asked: str) -> list[Row]:
        """Ask until there is an answer: the rows in its envelope."""
        most, key = LIMITS[endpoint]
        limiter = self._limiters.setdefault((endpoint, asked[key] if key else None), Limiter(most))
        where = f"{self.venue.name}: {endpoint}"
        for attempt in range(1, self._attempts + 1):
            try:
                async with limiter:
                    status, wait, body = await self._get(endpoint, asked)
                    return read(status, wait, body, list if endpoint in _LISTS else dict)
            except _BusyError as busy:
                wait = max(busy.wait, self._chance.uniform(0, min(_LONGEST_PAUSE, 0.25 * 2**attempt)))
                if busy.throttled or busy.wait:
                    limiter.shut(wait)
                if attempt == self._attempts or wait > PATIENCE or self._closed:
                    raise RestError(f"{where}: {busy}", busy.code, busy.status) from None
            except (RestError, RestRefusedError) as error:
                raise type(error)(f"{where}: {error}", error.code, error.status) from None
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt raises or returns")

    async def _get(self, endpoint: str, asked: dict[str, str]) -> tuple[int, float, bytes]:
        """Return the status, the seconds we are asked to wait, and the body of one answer."""
        import aiohttp  # takes a quarter of a second, and most streams ask nothing

        try:
            async with self._session().get(
                f"{self._base}/api/v5/{endpoint}", params=asked, proxy=self._proxy, ssl=self._tls or True,
                # What is asked here is not asked where somebody else says.
                allow_redirects=False, middlewares=[_once()],
            ) as response:  # fmt: skip
                body = await _body(response)
                asks = response.headers.get("Retry-After", "")
                return response.status, retry_after(asks, self._wall_ns() // 1_000_000), body
        except TimeoutError:
            raise _BusyError(f"no answer within {self._timeout:g} s") from None
        except aiohttp.ClientConnectorCertificateError as error:
            why = getattr(error.certificate_error, "verify_message", "it is for another host")
            raise RestRefusedError(f"the certificate does not prove who answers: {why}") from None
        except aiohttp.ClientHttpProxyError as error:
            raise _BusyError(f"the proxy answered with HTTP {error.status}", None, error.status) from None
        except OSError as error:
            raise _BusyError(f"cannot reach it: {_reason(error)}") from None
        except aiohttp.ClientError as error:
            raise _BusyError(f"the connection was lost ({type(error).__name__})") from None

    def _session(self) -> "aiohttp.ClientSession":
        import aiohttp

        if self._closed:
            raise RestError("its client is closed")
        if self._http is None:
            self._http = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                headers={"Accept-Encoding": "gzip"},
                auto_decompress=False,  # it knows no bound
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._http


def read(status: int, wait: float, body: bytes, kind: type = dict) -> list[Row]:
    """
    Return the rows of an answer, each of one `kind`: `{"code":"0","msg":"","data":[...]}`.

    A code other than 0 may come with any status, 200 included; sub-codes look like `51004_1101`.
    """
    try:
        envelope = orjson.loads(body)
    except orjson.JSONDecodeError:
        envelope = None
    good = isinstance(envelope, dict) and isinstance(envelope.get("code"), str)
    code = envelope["code"] if good else None
    if code == "0" and status < 400:
        data = envelope.get("data")
        if not isinstance(data, list) or not all(isinstance(row, kind) for row in data):
            raise RestError("the answer holds no rows", None, status)
        return data
    message = envelope.get("msg") if good else None
    code = None if code == "0" else code
    what = _line(message) if isinstance(message, str) and message else f"HTTP {status}"
    what = f"{what} ({_line(code)})" if code else what
    main = (code or "").partition("_")[0]
    if main in _BUSY or status in (408, 429) or status >= 500:
        raise _BusyError(what, code, status, wait, throttled=main == _THROTTLED or status == 429)
    if code or status >= 400:
        raise RestRefusedError(what, code, status)
    raise RestError(f"HTTP {status} without an answer that can be read", None, status)


def _reason(error: OSError) -> str:
    """Return why nothing was reached, in the system's words where asyncio has put its own in their place."""
    said = error.strerror or type(error).__name__
    return os.strerror(error.errno) if error.errno and said.startswith("Connect call failed") else said


def _line(text: str) -> str:
    """Return what may stand in one line for people."""
    return "".join(char if char.isprintable() else " " for char in text[:_LONGEST_MESSAGE])


def _once() -> "aiohttp.ClientMiddlewareType":
    """aiohttp itself sends a second time where the connection is lost; the exchange counts both."""
    import aiohttp

    sent = False

    async def send(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        nonlocal sent
        if sent:
            raise aiohttp.ServerDisconnectedError
        sent = True
        return await handler(request)

    return send


async def _body(response: "aiohttp.ClientResponse") -> bytes:
    """Return the whole body, inflated, CAP bytes at most."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > CAP:
            raise RestError(f"the answer is longer than {CAP} bytes", None, response.status)
    coding = response.headers.get("Content-Encoding", "identity").lower()
    if coding == "identity" or not body:
        return bytes(body)
    if coding != "gzip":
        raise RestError(f"the answer is compressed as {coding[:20]!r}", None, response.status)
    decoder = zlib.decompressobj(zlib.MAX_WBITS + 16)
    try:
        text = decoder.decompress(body, CAP + 1)
    except zlib.error as error:
        raise RestError(f"the answer is not gzip: {error}", None, response.status) from None
    if len(text) > CAP:
        raise RestError(f"the answer inflates to more than {CAP} bytes", None, response.status)
    if not decoder.eof:
        raise RestError("the answer ends before its gzip stream does", None, response.status)
    return text


async def clock_offset(
    venue: Venue, wall_ns: Callable[[], int], proxy: str | None = None, tls: ssl.SSLContext | None = None
) -> int:
    """Return the exchange's clock minus ours in ms, half of the round trip allowed for; 0 where it does not answer."""
    if not venue.rest or not venue.answers:
        return 0
    try:
        async with Rest(venue, wall_ns=wall_ns, proxy=proxy, tls=tls, attempts=1, timeout=_CLOCK_TIMEOUT) as rest:
            asked = wall_ns()
            exchange = await rest.time()
            answered = wall_ns()
    except OkstreamError as error:
        log.warning("%s: its clock cannot be asked (%s); signing with ours", venue.name, error)
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
