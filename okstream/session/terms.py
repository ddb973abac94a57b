"""What the sessions of one link have in common."""

from dataclasses import dataclass

from ..dialects import Dialect
from ..dialects.signing import Credentials
from ..inflate import CAP
from ..venues import Limits
from .budget import Budget


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What the sessions of one link have in common.

    Args:
        dialect: the wire generation.
        limits: what the venue allows.
        budget: requests an hour of an address; where the venue counts connections, each session has its own.
        credentials: for the login, None where there is none.
        cap: the longest text that a frame may inflate to, in bytes.
        parsed: whether anybody wants records; False passes text on unparsed.
        raw: whether anybody wants the exchange's own text.
    """

    dialect: Dialect
    limits: Limits
    budget: Budget
    credentials: Credentials | None = None
    cap: int = CAP
    parsed: bool = True
    raw: bool = False
