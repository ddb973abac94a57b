"""
Every exception okstream raises on purpose, sorted by what the operator can do.

* OkstreamError
    * ConfigError        change the command, the configuration or the code: asking again cannot help
    * RefusedError       the exchange said no and will say it again; never retried as it stands
        * LoginRefusedError          wrong key, secret, passphrase, clock, or site
        * SubscriptionRefusedError   one subscription; the others live on
        * RestRefusedError           one question over REST
    * RestError          a question over REST got no answer, however often it was asked; later it may
    * LinkError          this connection is finished; okstream reconnects by itself
        * InflateError   a binary frame is not one complete raw-Deflate stream, or exceeds the cap
        * DecodeError    a message is not what the dialect describes
    * JournalError       a journal or recording cannot be read (any further); what stands before it could be
    * BookVoidError      a book is not known at this moment; its next snapshot is awaited
    * SinkError          the output failed for good (closed pipe, wrong rights): this sink is done, the others go on
        * ReaderGoneError            whoever read the pipe has closed it: a quiet end
        * RetryError                 not written now, later it may be; the lane in front of the sink tries again
            * ReopenError            the same, once the sink was closed and opened again
        * SpoolError                 what waits for it on disk cannot be read, or nothing be added to it
            * SpoolFullError         it has no room, within its bound or on its disk; later it may
        * RejectedError              these records can never be written; the others of the batch are

Anything else that escapes is a bug, or OSError from the network.
"""

from collections.abc import Collection, Mapping


class OkstreamError(Exception):
    """The root of the tree above."""


class ConfigError(OkstreamError):
    """What was asked for cannot be: a name, an option or a value is wrong."""


class BookVoidError(OkstreamError):
    """The book is not known at this moment: its first snapshot is awaited, or a change of it was lost."""


class RefusedError(OkstreamError):
    """
    The exchange refused. `code` is its own code as text, or None where it gave none.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class LoginRefusedError(RefusedError):
    """The exchange does not accept these credentials, this site for them, or this clock."""


class SubscriptionRefusedError(RefusedError):
    """The exchange does not serve this subscription."""


class RestRefusedError(RefusedError):
    """
    The exchange does not answer this question over REST. `status` is that of HTTP, None where there is none.
    """

    def __init__(self, message: str, code: str | None = None, status: int | None = None) -> None:
        super().__init__(message, code)
        self.status = status


class RestError(OkstreamError):
    """
    No answer over REST, or none that can be read. `code` is the exchange's own as text, `status` that of HTTP; each
    is None where there is none.
    """

    def __init__(self, message: str, code: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class LinkError(OkstreamError):
    """This connection is of no more use."""


class InflateError(LinkError):
    """Not one complete raw-Deflate stream within the cap."""


class DecodeError(LinkError):
    """Not a message of this dialect."""


class JournalError(OkstreamError):
    """A journal or recording is torn, corrupt, not whole, or none at all."""


class SinkError(OkstreamError):
    """The output failed for good."""


class ReaderGoneError(SinkError):
    """The reader at the other end of the pipe has left."""


class RetryError(SinkError):
    """
    Not all of a batch was written; the rest may be later.

    Args:
        pending: positions in the batch of what is still to be written; None for all that is not rejected.
        rejected: positions of what can never be written, and why.
    """

    def __init__(
        self, message: str, pending: Collection[int] | None = None, rejected: Mapping[int, str] | None = None
    ) -> None:
        super().__init__(message)
        self.pending = pending
        self.rejected = dict(rejected or {})


class ReopenError(RetryError):
    """As RetryError; the sink has to be closed and opened first."""


class RejectedError(SinkError):
    """These records can never be written, all others of the batch are: `rejected` has positions, and why."""

    def __init__(self, message: str, rejected: Mapping[int, str]) -> None:
        super().__init__(message)
        self.rejected = dict(rejected)


class SpoolError(SinkError):
    """
    A spool cannot be read or written, or another process has it. It has `accepted` of what was to be appended.
    """

    def __init__(self, message: str, accepted: int = 0) -> None:
        super().__init__(message)
        self.accepted = accepted


class SpoolFullError(SpoolError):
    """A spool has no room for more, within its bound or on its disk."""


def reason(error: BaseException, name: str | None = None) -> str:
    """Return for people what `error` says, where that stands after `name`."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error).removeprefix(f"{name}: ") or type(error).__name__
