"""The work of a message that is done most often; made of compiled/ where there is a compiler."""

from .levels import Levels as Levels
