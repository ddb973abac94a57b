"""
One connection to one NATS server: the only module that knows nats-py.

nats-py's futures for acknowledgements stay pending for ever once one is lost, its `flush` may overtake what was
published before it, and its `close` waits until a frozen server has read everything. So replies come to an inbox of our
own, by number; what must be seen by the server is followed by a message to ourselves; and a connection is cut.
"""

import asyncio
import logging
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from okstream.errors import ReopenError, RetryError, SinkError, reason

from .nats_credentials import NatsCredentials

if TYPE_CHECKING:
    from nats.aio.msg import Msg

log = logging.getLogger("okstream.sinks.nats")

_CLOSE = 0.2
_PING_EVERY = 10
_DENIED = "permissions violation"
_REFUSING = ("authorization", "authentication", "nkeys")
_SLOW = "authentication timeout"  # we were not heard in time, and may be next time
_NO_TLS = "the server offers no TLS"


class DeniedError(SinkError):
    """The server forbids us to say this."""


Reply = tuple[int, str | None, bytes]
"""Number of the message, the status that stands in place of an answer, and the answer."""


class NatsLink:
    """
    A connection and its inbox.

    Attributes:
        lost: why it is of no more use, None while it is.
        denied: what the server said it forbids, None if nothing.

    Args:
        inbox: the prefix of the inbox's subject.
    """

    def __init__(self, inbox: str) -> None:
        from nats.aio.client import Client

        self.lost: str | None = None
        self.denied: str | None = None
        self._client = Client()
        self._inbox = inbox
        self._prefix = ""
        self._listening: asyncio.Task[None] | None = None
        self._replies: list[Reply] = []
        self._woken = asyncio.Event()
        self._number = 0
        self._said = ""

    async def dial(self, server: str, credentials: NatsCredentials, tls: ssl.SSLContext | None, timeout: float,
                   *, tls_first: bool = False) -> None:  # fmt: skip
        """
        Connect to `server` and listen to the inbox. `tls` means that nothing else will do.

        Raises:
            SinkError: we are not let in.
            RetryError: it cannot be reached within `timeout` seconds, or does not speak NATS.
        """
        from nats import errors

        wrong: tuple[type[Exception], ...] = (errors.Error, OSError, ValueError, *_nkeys_errors())
        client = self._client
        options: dict[str, Any] = {"tls": tls, "tls_handshake_first": tls_first} if tls is not None else {}
        try:
            async with asyncio.timeout(timeout):
                await client.connect(
                    server, name="okstream", error_cb=self._heard, inbox_prefix=self._inbox, allow_reconnect=False,
                    max_reconnect_attempts=1, reconnect_time_wait=0, connect_timeout=timeout,  # type: ignore[arg-type]
                    ping_interval=_PING_EVERY, pending_size=0, **options, **self._who(credentials, tls is not None),
                )  # fmt: skip
            if tls is not None and not self._encrypted():
                raise errors.Error(_NO_TLS)
            self._prefix = f"{client.new_inbox()}."
            subscription = await client.subscribe(f"{self._prefix}*", cb=self._replied)
        except TimeoutError:
            raise RetryError(f"{server} does not answer") from None
        except errors.NoServersError:
            raise RetryError(f"{server}: {self._said}") from None
        except wrong as error:
            text = reason(error).removeprefix("nats: ").strip("'")
            refused = any(word in text.lower() for word in _REFUSING) and _SLOW not in text.lower()
            raise (SinkError if refused else RetryError)(f"{server}: {text or type(error).__name__}") from None
        self._listening = subscription._wait_for_msgs_task
        for task in (client._reading_task, client._flusher_task):
            if task is not None:
                task.add_done_callback(self._ended)

    @property
    def max_payload(self) -> int:
        """The largest message the server takes, headers included, bytes."""
        return self._client.max_payload

    def reserve(self, count: int) -> int:
        """Return the first of `count` numbers that no message had before."""
        first, self._number = self._number, self._number + count
        return first

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str] | None, number: int | None) -> None:
        """
        Hand over one message, not waiting until it is sent; replies to it will carry `number`.

        Raises:
            ReopenError: the connection is lost.
        """
        from nats import errors

        reply = "" if number is None else f"{self._prefix}{number}"
        try:
            await self._client.publish(subject, payload, reply, headers)
        except (errors.Error, OSError) as error:
            raise ReopenError(self.lost or reason(error)) from None

    async def echo(self, number: int) -> None:
        """Have the server send us a message: once it comes, the server has seen all that was published before."""
        await self.publish(f"{self._prefix}{number}", b"", None, None)

    async def arrived(self, deadline: float) -> list[Reply]:
        """Return the replies that came; waits for some until `deadline`, loop time, or until the link is in trouble."""
        if not self._replies and self.lost is None and self.denied is None:
            self._woken.clear()
            timer = asyncio.get_running_loop().call_at(deadline, self._woken.set)
            try:
                await self._woken.wait()
            finally:
                timer.cancel()
        replies, self._replies = self._replies, []
        return replies

    async def ask(self, subject: str, question: bytes, timeout: float) -> tuple[str | None, bytes]:
        """
        Return status and answer to a `question`.

        Raises:
            RetryError: there was none within `timeout` seconds.
            DeniedError: it may not be asked. SinkError: no answer may be heard.
        """
        number = self.reserve(1)
        deadline = asyncio.get_running_loop().time() + timeout
        await self.publish(subject, question, None, number)
        while asyncio.get_running_loop().time() < deadline:
            for answered, status, answer in await self.arrived(deadline):
                if answered == number:
                    return status, answer
            if self.lost is not None:
                raise ReopenError(self.lost)
            if self.denied is not None:
                denied, self.denied = self.denied, None
                raise (SinkError if "for subscription" in denied else DeniedError)(denied)
        raise RetryError(f"no answer to {subject} within {timeout:g} s")

    async def cut(self) -> None:
        """Leave the server, at once and whatever state it is in. What was not sent yet is dropped."""
        from nats import errors

        client = self._client
        client._pending.clear()
        client._pending_data_size = 0
        if self._listening is not None:
            self._listening.cancel()
        if (writer := self._writer()) is not None:
            writer.transport.abort()
        with suppress(TimeoutError, OSError, errors.Error):
            async with asyncio.timeout(_CLOSE):
                await client.close()
        await asyncio.sleep(0)  # the socket is closed by the loop's next turn

    def _who(self, credentials: NatsCredentials, tls: bool) -> dict[str, Any]:
        """Return what nats-py is told of us; what is secret it asks for when it is about to send it."""
        if credentials.creds is not None:
            return {"user_credentials": str(credentials.creds)}

        def revealing(text: str) -> Callable[[], str]:
            def reveal() -> str:
                from nats import errors

                if tls and not self._encrypted():
                    raise errors.Error(_NO_TLS)
                return text

            return reveal

        named = {"user": credentials.user, "password": credentials.password, "token": credentials.token}
        return {name: revealing(text) for name, text in named.items() if text is not None}

    def _writer(self) -> asyncio.StreamWriter | None:
        return getattr(self._client._transport, "_io_writer", None)

    def _encrypted(self) -> bool:
        writer = self._writer()
        return writer is not None and writer.get_extra_info("ssl_object") is not None

    async def _replied(self, message: "Msg") -> None:
        number = message.subject[len(self._prefix) :]
        status = message.headers.get("Status") if message.headers else None
        if number.isdecimal():
            self._replies.append((int(number), status, message.data))
            self._woken.set()

    async def _heard(self, error: Exception) -> None:
        """What nats-py tells of errors; by default it writes a traceback to stderr."""
        self._said = reason(error).removeprefix("nats: ")
        log.debug("nats: %s", self._said)
        if _DENIED in self._said:
            self.denied = self.denied or self._said
            self._woken.set()

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        """nats-py has stopped reading or writing. Its exception is looked at here, or asyncio would print it."""
        error = None if task.cancelled() else task.exception()
        if self.lost is None:
            self.lost = f"the connection was lost: {error or self._client.last_error or self._said or 'closed'}"
        self._woken.set()


def _nkeys_errors() -> tuple[type[Exception], ...]:
    """Return what the library that reads .creds files raises about them, where it is in use."""
    library = sys.modules.get("nkeys")
    return () if library is None else (library.NkeysError,)
