"""`okstream run`: the same from a configuration file, until a signal ends it."""

import argparse
from dataclasses import replace
from pathlib import Path

from okstream import config, venues
from okstream.book import BOOK_BYTES
from okstream.channels import Subscription
from okstream.daemon import configure_log, serve
from okstream.dialects import load
from okstream.errors import ConfigError
from okstream.inflate import INFLATING
from okstream.options import LaneOptions
from okstream.sinks.lines import File, Lines, Stdout
from okstream.stream import Stream
from okstream.venues import Venue

from .plan import Place

_FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def check(arguments: argparse.Namespace) -> str:
    """Validate the configuration and return the plan: links, requests, output, memory. Raises ConfigError."""
    settings = config.load(arguments.config)
    places = _plan(settings, _stream(settings, []))
    text = "".join(f"{place}\n" for place in places)
    output = settings.output
    if output.path is not None and not Path(output.path).absolute().parent.is_dir():
        raise ConfigError(f"{arguments.config}: output.path: there is no folder {Path(output.path).absolute().parent}")
    what = f"the best {output.depth} levels each {output.every:g} s, " if output.every is not None else ""
    text += f"output: {output.path or 'stdout'}, {what}{output.form}\n"
    links, books = sum(place.links for place in places), sum(place.books for place in places)
    bound = settings.lane_mib + INFLATING * settings.inflate_mib * max(1, links) + -(-BOOK_BYTES * books >> 20)
    more = ", and more for what patterns mean" if any(place.patterns for place in places) else ""
    return f"{text}memory: {bound} MiB of buffers at most{more}\n"


async def run(arguments: argparse.Namespace) -> int:
    """Run until a signal ends it; return the exit code. Raises as Stream does."""
    settings = config.load(arguments.config)
    configure_log(_verbosity(arguments, settings), arguments.quiet or settings.log_level == "error", _FORM)
    sink = _sink(settings)
    stream = _stream(settings, [sink])
    _plan(settings, stream)
    return await serve(stream, sink, _wanted(settings), settings.stats, drain=settings.drain)


def _stream(settings: config.Settings, sinks: list[Lines]) -> Stream:
    output = settings.output
    options = LaneOptions(form=output.form, statements=not output.data_only, bytes=settings.lane_mib << 20)
    return Stream(
        _venue(settings.source[0]),
        dialect=settings.dialect,
        accounts=config.credentials(settings),
        sinks=[(sink, options) for sink in sinks],
        proxy=settings.proxy,
        redundancy=settings.redundancy,
        rotate_after=settings.rotate_after,
        local=settings.local_addresses,
        depth=settings.output.depth,
        every=settings.output.every,
        inflate_cap=settings.inflate_mib << 20,
    )


def _sink(settings: config.Settings) -> Lines:
    output = settings.output
    if output.type == "file":
        assert output.path is not None
        return File(Path(output.path))
    return Stdout()


def _venue(source: config.Source) -> str | Venue:
    if source.venue == venues.SIM:
        if source.url is not None or source.name is not None or source.others:
            raise ConfigError("the venue sim runs in this process: neither url, others nor name makes sense with it")
        return venues.SIM
    venue = venues.find(source.venue)
    if source.url is not None:
        venue = venue.at(source.url)
    others = [venue.at(url) for url in source.others]
    if any(other.paths != venue.paths for other in others):
        raise ConfigError(f"others have the paths of {venue.url}: write only wss://host or ws://host:port")
    return replace(venue, name=source.name or venue.name, others=tuple(other.url for other in others))


def _wanted(settings: config.Settings) -> list[tuple[Subscription, str | Venue | None]]:
    return [(sub, _venue(source)) for source in settings.source for sub in source.read()]


def _plan(settings: config.Settings, stream: Stream) -> list[Place]:
    """
    Return which subscriptions ride on which links.

    Raises:
        ConfigError: one cannot be asked for, or two are the same, or two venues have one name.
    """
    places: dict[tuple[str, str, str | None], Place] = {}
    known: dict[str, Venue] = {}
    for sub, reached in _wanted(settings):
        stream.check(sub, venue=reached)
        venue = reached if isinstance(reached, Venue) else venues.simulated(settings.dialect, "ws://127.0.0.1", "")
        if known.setdefault(venue.name, venue) != venue:
            raise ConfigError(f"two sources are called {venue.name!r} but are not the same place: give one a `name`")
        traits = load(venue.dialect).traits(sub)
        account = (sub.account or next(iter(settings.account), None)) if traits.login else None
        key = (venue.name, traits.path, account)
        if key not in places:
            places[key] = Place(venue, traits.path, account, settings.redundancy)
        places[key].add(sub)
    return list(places.values())


def _verbosity(arguments: argparse.Namespace, settings: config.Settings) -> int:
    return max(int(arguments.verbose), {"info": 1, "debug": 2}.get(settings.log_level, 0))
