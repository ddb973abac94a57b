"""`okstream stream`: records to stdout."""

import argparse
import os
from typing import Any

from okstream import accounts
from okstream.channels import BOOKS, Subscription, parse
from okstream.daemon import configure_log, serve
from okstream.errors import ConfigError
from okstream.options import LaneOptions
from okstream.patterns import kinds
from okstream.sinks.lines import Stdout
from okstream.stream import Stream
from okstream.venues import DIALECTS, SIM, Venue


async def run(arguments: argparse.Namespace) -> int:
    """Run `okstream stream`; return the exit code. Raises as Stream does."""
    configure_log(arguments.verbose, arguments.quiet, "okstream: %(message)s")
    subs = subscriptions(arguments)
    if (arguments.depth is None) != (arguments.every is None):
        raise ConfigError("--depth and --every go together: --depth 5 --every 100ms")
    if arguments.depth is not None and not any(sub.channel in BOOKS for sub in subs):
        raise ConfigError(f"--depth is for books that come as changes, and here is none of {', '.join(sorted(BOOKS))}")
    sink = Stdout()
    streaming = Stream(
        sinks=[(sink, LaneOptions(form=arguments.format, statements=not arguments.data_only))],
        count=arguments.count,
        depth=arguments.depth,
        every=arguments.every,
        **source(arguments),
    )
    wanted = asked(streaming, subs)
    return await serve(
        streaming, wanted, reader_gone=sink.reader_gone, stats=arguments.stats, duration=arguments.duration
    )


def subscriptions(arguments: argparse.Namespace) -> list[Subscription]:
    """Return what is asked for; raises ConfigError."""
    if arguments.dialect is not None and arguments.venue != SIM:
        raise ConfigError(f"--dialect is for --venue sim; {arguments.venue} speaks its own")
    return [sub for text in arguments.subscriptions for sub in parse(text)]


def source(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a Stream that say where records come from; raises ConfigError."""
    return {
        "venue": arguments.venue,
        "url": arguments.url,
        "rest_url": arguments.rest_url,
        "dialect": arguments.dialect or DIALECTS[0],
        "accounts": accounts.credentials(arguments.account, os.environ) if arguments.account else None,
        "proxy": arguments.proxy,
        "redundancy": arguments.redundancy,
        "rotate_after": arguments.rotate_after,
    }


def asked(streaming: Stream, subs: list[Subscription]) -> list[tuple[Subscription, str | Venue | None]]:
    """Return `subs` as `serve` wants them, once sure that they can be asked for; raises ConfigError."""
    streaming.check(*subs)
    for sub in subs:
        if sub.is_pattern:
            kinds(sub.inst or "")  # raises where no instrument can have such a name
    return [(sub, None) for sub in subs]
