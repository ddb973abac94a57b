"""Where the venues of a stream are; the simulated exchange among them runs in this process."""

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import Any

from . import venues
from .channels import unknown
from .errors import ConfigError
from .lifetime import finished
from .venues import Venue


class Places:
    """
    Where the venues of a stream are; the simulated exchange among them is started when it is first needed.

    Args:
        venue, url, rest_url, dialect, wall_ns: see Stream.
    """

    def __init__(
        self,
        venue: str | Venue,
        url: str | None,
        dialect: str,
        wall_ns: Callable[[], int],
        rest_url: str | None = None,
    ) -> None:
        if isinstance(venue, str) and venue != venues.SIM:
            venue = venues.find(venue)
        if isinstance(venue, str):
            if url is not None or rest_url is not None:
                raise ConfigError(f"{venue} runs in this process; reach one elsewhere as venue okx, with its url")
        else:
            venue = venue if url is None else venue.at(url)
            venue = venue if rest_url is None else venue.asked_at(rest_url)
        if dialect not in venues.DIALECTS:
            raise unknown("dialect", dialect, venues.DIALECTS)
        self.name = venue if isinstance(venue, str) else venue.name
        self._default = venue
        self._dialect = dialect
        self._wall_ns = wall_ns
        self._simulator: Any = None
        self._simulated: Venue | None = None
        self._changing = asyncio.Lock()

    async def open(self) -> None:
        """Start what the default venue needs."""
        await self.reach(None)

    async def reach(self, venue: str | Venue | None) -> Venue:
        """Return what is called `venue`, None for the default one."""
        venue = self._default if venue is None else venue
        if venue != venues.SIM:
            return venues.find(venue) if isinstance(venue, str) else venue
        async with self._changing:
            if self._simulated is None:
                await finished(self._simulate())
        assert self._simulated is not None
        return self._simulated

    def model(self, venue: str | Venue | None) -> Venue:
        """Return the same as `reach`, but start nothing: an exchange not yet simulated has no port."""
        venue = self._default if venue is None else venue
        if venue == venues.SIM:
            return self._simulated or venues.simulated(self._dialect, "ws://127.0.0.1", "")
        return venues.find(venue) if isinstance(venue, str) else venue

    async def close(self) -> None:
        """Stop what was started."""
        async with self._changing:
            if self._simulator is not None:
                simulator, self._simulator = self._simulator, None
                await simulator.stop()

    async def _simulate(self) -> None:
        # Loaded by name: the simulator is a server, which nobody needs who has a real venue.
        simulator = import_module("okstream.simulator")
        settings = simulator.Settings(start_ms=self._wall_ns() // 1_000_000)
        self._simulator = await simulator.Simulator(self._dialect, settings).__aenter__()
        self._simulated = venues.simulated(self._dialect, self._simulator.url, self._simulator.rest_url)
