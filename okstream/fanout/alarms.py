"""What goes wrong, said in the log: not more often than somebody can read."""

import asyncio
import logging

log = logging.getLogger("okstream.sinks")

_EVERY = 60.0


class Alarms:
    """Logs what goes wrong, each kind at most once a minute."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def say(self, about: str, message: str, *details: object, level: int = logging.WARNING) -> None:
        """Log `message`; `about` is its kind."""
        now = asyncio.get_running_loop().time()
        if now - self._said.get(about, -_EVERY) >= _EVERY:
            self._said[about] = now
            log.log(level, message, *details)
