"""`okstream run`: the same from a configuration file, until a signal ends it."""

import argparse
from dataclasses import replace
from pathlib import Path

from okstream import config, venues
from okstream.channels import Subscription
from okstream.daemon import configure_log, serve
from okstream.dialects import load
from okstream.errors import ConfigError
from okstream.inflate import INFLATING
from okstream.rest import shown
from okstream.sinks.lines import File, Lines
from okstream.stream import Stream
from okstream.venues import Venue

_FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def check(arguments: argparse.Namespace) -> str:
    """Validate the configuration and return the plan: links, requests, output, memory. Raises ConfigError."""
    settings = config.load(arguments.config)
    plan = _plan(settings, _stream(settings, []))
    text = ""
    for (_, path, account), (venue, subs) in plan.items():
        size = sum(load(venue.dialect).size(sub) for sub in subs)
        requests = -(-size // venue.limits.request_bytes) + (1 if account else 0)
        where = "in this process" if venue.name == venues.SIM else shown(venue.link_url(path))
        who = f" as {account}" if account else ""
        text += f"link: {where}{who}: {_many(len(subs), 'subscription')}, {_many(requests, 'request')}\n"
    output = settings.output
    if output.path is not None and not Path(output.path).absolute().parent.is_dir():
        raise ConfigError(f"{arguments.config}: output.path: there is no folder {Path(output.path).absolute().parent}")
    text += f"output: {output.path or 'stdout'}, {output.form}\n"
    bound = settings.lane_mib + INFLATING * settings.inflate_mib * len(plan)
    return f"{text}memory: {bound} MiB of buffers at most\n"


async def run(arguments: argparse.Namespace) -> int:
    """Run until a signal ends it; return the exit code. Raises as Stream does."""
    settings = config.load(arguments.config)
    configure_log(_verbosity(arguments, settings), arguments.quiet or settings.log_level == "error", _FORM)
    sink = _sink(settings)
    stream = _stream(settings, [sink])
    _plan(settings, stream)
    return await serve(stream, sink, _wanted(settings), settings.stats, drain=settings.drain)


def _stream(settings: config.Settings, sinks: list[Lines]) -> Stream:
    return Stream(
        _venue(settings.source[0]),
        dialect=settings.dialect,
        accounts=config.credentials(settings),
        sinks=sinks,
        statements=not settings.output.data_only,
        proxy=settings.proxy,
        inflate_cap=settings.inflate_mib << 20,
        lane_bytes=settings.lane_mib << 20,
    )


def _sink(settings: config.Settings) -> Lines:
    output = settings.output
    if output.type == "file":
        assert output.path is not None
        return File(Path(output.path), output.form)
    return Lines(1, "stdout", output.form)


def _venue(source: config.Source) -> str | Venue:
    if source.venue == venues.SIM:
        if source.url is not None or source.name is not None:
            raise ConfigError("the venue sim runs in this process: neither url nor name makes sense with it")
        return venues.SIM
    venue = venues.find(source.venue)
    if source.url is not None:
        venue = venue.at(source.url)
    return replace(venue, name=source.name or venue.name)


def _wanted(settings: config.Settings) -> list[tuple[Subscription, str | Venue | None]]:
    return [(sub, _venue(source)) for source in settings.source for sub in source.read()]


_Plan = dict[tuple[str, str, str | None], tuple[Venue, list[Subscription]]]


def _plan(settings: config.Settings, stream: Stream) -> _Plan:
    """
    Return which subscriptions ride on which link (venue, path, account).

    Raises:
        ConfigError: one cannot be asked for, or two are the same, or two venues have one name.
    """
    plan: _Plan = {}
    known: dict[str, Venue] = {}
    keys: dict[tuple[str, str | None, str], Subscription] = {}
    for sub, place in _wanted(settings):
        stream.check(sub, venue=place)
        venue = place if isinstance(place, Venue) else venues.simulated(settings.dialect, "ws://127.0.0.1", "")
        if known.setdefault(venue.name, venue) != venue:
            raise ConfigError(f"two sources are called {venue.name!r} but are not the same place: give one a `name`")
        traits = load(venue.dialect).traits(sub)
        account = (sub.account or next(iter(settings.account), None)) if traits.login else None
        same = keys.setdefault((venue.name, account, traits.key), sub)
        if same != sub:
            raise ConfigError(f"{same} and {sub} are the same to {venue.name}")
        plan.setdefault((venue.name, traits.path, account), (venue, []))[1].append(sub)
    return plan


def _verbosity(arguments: argparse.Namespace, settings: config.Settings) -> int:
    return max(int(arguments.verbose), {"info": 1, "debug": 2}.get(settings.log_level, 0))


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
