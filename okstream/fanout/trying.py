"""A spool that is tried again where its disk fails, and how it is doing."""

import asyncio
import logging

from ..errors import SpoolError, SpoolFullError, reason
from ..spool import Item, Spool
from .alarms import Alarms
from .surroundings import Surroundings

_LONGEST = 30.0
_PAUSE = 2.0


class Trying:
    """
    Appends to `spool`, and reads from it.

    `trouble` says since when one of that fails, ns, and why; None where neither does.
    """

    def __init__(self, spool: Spool, name: str, around: Surroundings) -> None:
        self._spool = spool
        self._name = name
        self._chance = around.chance
        self._wall_ns = around.wall_ns
        self._alarms = Alarms()
        self._troubles: dict[str, tuple[int, str]] = {}

    @property
    def trouble(self) -> tuple[int, str] | None:
        return next(iter(self._troubles.values()), None)

    async def append(self, payloads: list[bytes]) -> int:
        """Append `payloads`, however many attempts it takes; return for how many there was room."""
        done, pause = 0, 0.1
        while True:
            try:
                done += await self._spool.append(payloads[done:])
            except SpoolFullError as error:
                error.accepted += done
                raise
            except SpoolError as error:
                done += error.accepted
                self._failed("written", error)
                await asyncio.sleep(self._chance.uniform(0.0, pause))
                pause = min(_LONGEST, 2 * pause)
            else:
                self._troubles.pop("written", None)
                return done

    async def read(self, most: int, within_bytes: int) -> list[Item]:
        """Return what is the oldest there, as `Spool.read` does; nothing where that failed, after a pause."""
        try:
            items = await self._spool.read(most, within_bytes)
        except SpoolError as error:
            self._failed("read", error)
            await asyncio.sleep(self._chance.uniform(0.0, _PAUSE))
            return []
        self._troubles.pop("read", None)
        return items

    def alarm(self, message: str, *details: object, level: int = logging.ERROR) -> None:
        """Say it of the sink, each at most once a minute."""
        self._alarms.say(message, message, self._name, *details, level=level)

    def _failed(self, how: str, error: SpoolError) -> None:
        since, _ = self._troubles.get(how, (self._wall_ns(), ""))
        self._troubles[how] = since, f"its spool cannot be {how}: {reason(error)}"
        self.alarm(f"%s: its spool cannot be {how}: %s", error)
