"""`okstream run`: the same from a configuration file, until a signal ends it."""

import argparse
from pathlib import Path

from okstream import config, venues
from okstream.channels import Subscription
from okstream.daemon import configure_log, serve
from okstream.dialects import load
from okstream.errors import ConfigError
from okstream.inflate import INFLATING
from okstream.sinks.lines import File, Lines
from okstream.stream import Stream
from okstream.venues import Venue

_FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def check(arguments: argparse.Namespace) -> str:
    """Validate the configuration and return the plan: links, requests, the memory bound. Raises ConfigError."""
    settings = config.load(arguments.config)
    stream = _stream(settings, [])
    plan = _plan(settings, stream)
    text = ""
    for (venue, path, account), subs in plan.items():
        dialect = load(venue.dialect if isinstance(venue, Venue) else settings.dialect)
        model = venue if isinstance(venue, Venue) else venues.VENUES["okx"]
        size = sum(dialect.size(sub) for sub in subs)
        requests = -(-size // model.limits.request_bytes) + (1 if account else 0)
        where = venue.link_url(path) if isinstance(venue, Venue) else "in this process"
        who = f" as {account}" if account else ""
        text += f"link: {where}{who}: {_many(len(subs), 'subscription')}, {_many(requests, 'request')}\n"
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
    if source.url is None:
        return source.venue
    if source.venue == venues.SIM:
        raise ConfigError("the venue sim runs in this process; a url makes no sense with it")
    return venues.find(source.venue).at(source.url)


def _wanted(settings: config.Settings) -> list[tuple[Subscription, str | Venue | None]]:
    return [(sub, _venue(source)) for source in settings.source for sub in source.read()]


def _plan(settings: config.Settings, stream: Stream) -> dict[tuple[str | Venue, str, str | None], list[Subscription]]:
    """Return which subscriptions ride on which link, once sure that all can be asked for."""
    plan: dict[tuple[str | Venue, str, str | None], list[Subscription]] = {}
    wanted = [(sub, _venue(source)) for source in settings.source for sub in source.read()]
    for sub, venue in wanted:
        stream.check(sub, venue=venue)
        place = venue if isinstance(venue, Venue) or venue == venues.SIM else venues.find(venue)
        traits = load(place.dialect if isinstance(place, Venue) else settings.dialect).traits(sub)
        account = (sub.account or next(iter(settings.account), None)) if traits.login else None
        key = next((key for key in plan if key[0] is place and key[1:] == (traits.path, account)), None)
        plan.setdefault(key or (place, traits.path, account), []).append(sub)
    return plan


def _verbosity(arguments: argparse.Namespace, settings: config.Settings) -> int:
    return max(int(arguments.verbose), {"info": 1, "debug": 2}.get(settings.log_level, 0))


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
