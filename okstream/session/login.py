"""What a refused login means."""

from collections.abc import Callable

from ..dialects import LoginReply
from ..errors import LinkError, LoginRefusedError


def refused(reply: LoginReply, scrub: Callable[[str], str], clock_hint: int | None) -> LinkError | LoginRefusedError:
    """
    Return the error that `reply` is: LinkError where the same login may succeed later.

    Args:
        scrub: takes what is secret out of the exchange's words.
        clock_hint: the exchange's clock minus ours in ms, as far as that is known.
    """
    code = scrub(reply.code) if reply.code else None
    message = f"login refused: {scrub(reply.message)}{f' ({code})' if code else ''}"
    if reply.retry:
        return LinkError(message)
    if reply.clock and clock_hint is not None:
        side = "behind" if clock_hint > 0 else "ahead of"
        message += f"; this machine's clock is {abs(clock_hint) / 1000:.0f} s {side} the exchange's"
    return LoginRefusedError(message, code)
