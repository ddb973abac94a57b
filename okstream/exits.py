"""What a command exits with, and how it speaks to people."""

import sys
from contextlib import suppress

from .errors import ConfigError, JournalError, ReaderGoneError, RefusedError, SinkError

OK = 0
"""Ended as asked: count or duration reached, a signal, the reader of the pipe has left."""
BUG = 1
USAGE = 2
REFUSED = 3
LOST = 4
"""Ended, but records were lost here: the output could not keep up, or a journal not be read to its end."""
OUTPUT = 5
"""An output failed; others may have got everything."""
UNANSWERED = 6
"""The time given was over before the exchange had answered anything."""
INTERRUPTED = 130


def exit_code(error: BaseException) -> int:
    """Return what a command that ended with `error` exits with."""
    match error:
        case ReaderGoneError():
            return OK
        case ConfigError():
            return USAGE
        case RefusedError():
            return REFUSED
        case SinkError():
            return OUTPUT
        case JournalError():
            return LOST
        case _:
            return BUG


def counted(count: int, what: str) -> str:
    """Return for people that there are so many."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def lost(count: int, what: str = "record") -> str:
    """Return for people that so many were lost."""
    return f"{counted(count, what)} {'was' if count == 1 else 'were'} lost"


def show(text: str) -> None:
    """
    Write `text` to stdout, at once.

    Raises:
        SinkError: it cannot be written; ReaderGoneError where nobody reads it.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGoneError("nobody reads any more") from None
    except OSError as error:
        raise SinkError(f"stdout failed: {error.strerror}") from None


def complain(message: str, head: str = "okstream: ") -> None:
    """Write one line for people, after its `head`; what cannot be written is not worth dying for."""
    with suppress(OSError, ValueError, AttributeError):  # full, closed, or never there
        sys.stderr.write(f"{head}{message}\n")
        sys.stderr.flush()
