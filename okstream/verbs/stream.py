"""`okstream stream`: records to stdout."""

import argparse
import os

from okstream import accounts
from okstream.channels import BOOKS, parse
from okstream.daemon import configure_log, serve
from okstream.errors import ConfigError
from okstream.options import LaneOptions
from okstream.patterns import kinds
from okstream.sinks.lines import Stdout
from okstream.stream import Stream
from okstream.venues import DIALECTS, SIM


async def run(arguments: argparse.Namespace) -> int:
    """Run `okstream stream`; return the exit code. Raises as Stream does."""
    configure_log(arguments.verbose, arguments.quiet, "okstream: %(message)s")
    subs = [sub for text in arguments.subscriptions for sub in parse(text)]
    if arguments.dialect is not None and arguments.venue != SIM:
        raise ConfigError(f"--dialect is for --venue sim; {arguments.venue} speaks its own")
    if (arguments.depth is None) != (arguments.every is None):
        raise ConfigError("--depth and --every go together: --depth 5 --every 100ms")
    if arguments.depth is not None and not any(sub.channel in BOOKS for sub in subs):
        raise ConfigError(f"--depth is for books that come as changes, and here is none of {', '.join(sorted(BOOKS))}")
    sink = Stdout()
    streaming = Stream(
        arguments.venue,
        url=arguments.url,
        rest_url=arguments.rest_url,
        dialect=arguments.dialect or DIALECTS[0],
        accounts=accounts.credentials(arguments.account, os.environ) if arguments.account else None,
        sinks=[(sink, LaneOptions(form=arguments.format, statements=not arguments.data_only))],
        count=arguments.count,
        proxy=arguments.proxy,
        redundancy=arguments.redundancy,
        rotate_after=arguments.rotate_after,
        depth=arguments.depth,
        every=arguments.every,
    )
    streaming.check(*subs)
    for sub in subs:
        if sub.is_pattern:
            kinds(sub.inst or "")  # raises where no instrument can have such a name
    wanted = [(sub, None) for sub in subs]
    return await serve(
        streaming, wanted, reader_gone=sink.reader_gone, stats=arguments.stats, duration=arguments.duration
    )
