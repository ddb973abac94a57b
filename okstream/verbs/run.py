"""`okstream run`: the same from a configuration file, until a signal ends it."""

import argparse
import logging
from dataclasses import replace

from okstream import config, venues
from okstream.channels import Subscription
from okstream.daemon import LOG_FORM, configure_log, serve, stamped
from okstream.dialects import load
from okstream.errors import ConfigError, OkstreamError
from okstream.exits import exit_code
from okstream.journal import Journal
from okstream.memory import bound, mib
from okstream.options import MIB, LaneOptions
from okstream.sinks import Sink
from okstream.sinks.lines import Lines
from okstream.stream import Stream
from okstream.venues import Venue
from okstream.version import VERSION

from .plan import Place, described, on_disk
from .record import said_of

log = logging.getLogger("okstream")


def check(arguments: argparse.Namespace) -> tuple[str, list[str]]:
    """
    Validate the configuration; return the plan (links, requests, sinks, memory, disk) and what is odd about it.

    Raises:
        ConfigError: it cannot be run.
    """
    settings = config.load(arguments.config)
    outputs = settings.outputs()
    with config.placed(arguments.config):
        lines = [described(output, output.sink()) for output in outputs]
        places = _plan(settings, _stream(settings, []))
        odd = config.idle_filters(settings)
        journal = Journal(settings.journal).memory_bound if settings.journal is not None else 0
    if settings.every is not None:
        lines.insert(0, f"books: the best {settings.depth} levels each {settings.every:g} s")
    links, books = sum(place.links for place in places), sum(place.books for place in places)
    buffers = sum(output.options.bytes for output in outputs) + journal
    more = ", and more for what patterns mean" if any(place.patterns for place in places) else ""
    most = bound(buffers, links, settings.inflate_mib * MIB, books, settings.redundancy)
    lines.append(f"memory: {mib(most)} MiB of buffers at most{more}")
    if settings.journal is not None:
        lines.insert(0, f"journal: {settings.journal}")
    if disk := sum(map(on_disk, outputs)) // MIB:
        lines.append(f"disk: {disk} MiB of spools and dead letters at most")
    return "".join(f"{line}\n" for line in (*places, *lines)), [f"{arguments.config}: {said}" for said in odd]


async def run(arguments: argparse.Namespace) -> int:
    """Run until a signal ends it; return the exit code. Raises ConfigError where it does not even begin."""
    settings = config.load(arguments.config)
    configure_log(_verbosity(arguments, settings), arguments.quiet or settings.log_level == "error", LOG_FORM)
    with config.placed(arguments.config):
        sinks = [(output.sink(), output.options) for output in settings.outputs()]
        journal = Journal(settings.journal) if settings.journal is not None else None
        stream = _stream(settings, sinks, journal)
        _plan(settings, stream)
        for odd in config.idle_filters(settings):
            log.warning("%s: %s", arguments.config, odd)
    log.info("%s, instance %s, %s", VERSION, stream.instance, arguments.config)
    only = sinks[0][0] if len(sinks) == 1 else None
    reader_gone = only.reader_gone if isinstance(only, Lines) else None
    try:
        code = await serve(
            stream, _wanted(settings), reader_gone=reader_gone, stats=settings.stats, say=stamped, drain=settings.drain
        )
    except OkstreamError as error:
        stamped(str(error), "ERROR")
        return exit_code(error)
    return code if journal is None else said_of(journal, code, stamped)


def _stream(settings: config.Settings, sinks: list[tuple[Sink, LaneOptions]], journal: Journal | None = None) -> Stream:
    return Stream(
        _venue(settings.source[0]),
        dialect=settings.dialect,
        accounts=config.credentials(settings),
        sinks=sinks,
        proxy=settings.proxy,
        redundancy=settings.redundancy,
        rotate_after=settings.rotate_after,
        local=settings.local_addresses,
        depth=settings.depth,
        every=settings.every,
        inflate_cap=settings.inflate_mib * MIB,
        journal=journal,
    )


def _venue(source: config.Source) -> str | Venue:
    if source.venue == venues.SIM:
        if any((source.url, source.rest_url, source.name, source.others)):
            raise ConfigError(
                "the venue sim runs in this process: url, rest_url, others and name make no sense with it"
            )
        return venues.SIM
    venue = venues.find(source.venue)
    if source.url is not None:
        venue = venue.at(source.url)
    if source.rest_url is not None:
        venue = venue.asked_at(source.rest_url)
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
    for number, source in enumerate(settings.source):
        try:
            for sub in source.read():
                _place(settings, stream, sub, _venue(source), places, known)
        except ConfigError as error:
            raise ConfigError(f"source[{number}]: {error}") from None
    return list(places.values())


def _place(
    settings: config.Settings,
    stream: Stream,
    sub: Subscription,
    reached: str | Venue,
    places: dict[tuple[str, str, str | None], Place],
    known: dict[str, Venue],
) -> None:
    """Put `sub` into `places`, and its venue among those `known`; raises ConfigError as `_plan` does."""
    venue = reached if isinstance(reached, Venue) else venues.simulated(settings.dialect, "ws://127.0.0.1", "")
    login = load(venue.dialect).traits(sub).login
    if login and venue.name != venues.SIM and not settings.account:
        raise ConfigError(f"{sub} needs an account, and there is none: give its credentials in [account.NAME]")
    if login and sub.account is None and len(settings.account) > 1:
        names = ", ".join(settings.account)
        raise ConfigError(f"{sub} needs an account: say which of {names} with `account` in this source")
    stream.check(sub, venue=reached)
    if known.setdefault(venue.name, venue) != venue:
        raise ConfigError(f"two sources are called {venue.name!r} but are not the same place: give one a `name`")
    traits = load(venue.dialect).traits(sub)
    account = (sub.account or next(iter(settings.account), None)) if traits.login else None
    key = (venue.name, traits.path, account)
    if key not in places:
        places[key] = Place(venue, traits.path, account, settings.redundancy)
    places[key].add(sub)


def _verbosity(arguments: argparse.Namespace, settings: config.Settings) -> int:
    return max(int(arguments.verbose), {"info": 1, "debug": 2}.get(settings.log_level, 0))
