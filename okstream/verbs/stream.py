"""`okstream stream`: records to stdout."""

import argparse
import os

from okstream import accounts
from okstream.channels import parse
from okstream.daemon import configure_log, serve
from okstream.errors import ConfigError
from okstream.sinks.lines import Lines
from okstream.stream import Stream
from okstream.venues import DIALECTS, SIM


async def run(arguments: argparse.Namespace) -> int:
    """Run `okstream stream`; return the exit code. Raises as Stream does."""
    configure_log(arguments.verbose, arguments.quiet, "okstream: %(message)s")
    subs = [sub for text in arguments.subscriptions for sub in parse(text)]
    if arguments.dialect is not None and arguments.venue != SIM:
        raise ConfigError(f"--dialect is for --venue sim; {arguments.venue} speaks its own")
    sink = Lines(1, "stdout", arguments.format)
    streaming = Stream(
        arguments.venue,
        url=arguments.url,
        dialect=arguments.dialect or DIALECTS[0],
        accounts=accounts.credentials(arguments.account, os.environ) if arguments.account else None,
        sinks=[sink],
        statements=not arguments.data_only,
        count=arguments.count,
        proxy=arguments.proxy,
    )
    streaming.check(*subs)
    return await serve(streaming, sink, [(sub, None) for sub in subs], arguments.stats, arguments.duration)
