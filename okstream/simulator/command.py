"""The verb `okstream simulate`: a simulated exchange until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping

from okstream.errors import ConfigError, SinkError
from okstream.simulator.faults import COMMON, FAULTS, Fault
from okstream.simulator.server import DIALECTS, Simulator
from okstream.simulator.settings import TEST_ACCOUNT, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the options of the simulator, and the faults as what it says below them."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _faults()
    parser.add_argument("--dialect", default="okx-v5", help=f"one of {', '.join(DIALECTS)} (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0, the default: any free port")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same market (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1.0, help="how much happens; 2 is twice as much")
    parser.add_argument(
        "--step", type=float, default=0.010, help="seconds between two cuts of a book (default: %(default)s)"
    )
    parser.add_argument("--clock-offset", type=float, default=0.0, help="seconds the exchange's clock is ahead")
    parser.add_argument(
        "--checksum", choices=("zero", "real"), default="zero", help="of okx-v5 books (default: %(default)s)"
    )
    parser.add_argument("--deflate", action="store_true", help="offer permessage-deflate")
    parser.add_argument("--no-limits", action="store_true", help="lift the limits on connections and requests")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME[:KEY=VALUE,...]", help="see below; as often as you like"
    )


def _faults() -> str:
    """Return each fault with its own options on a line, what it does on the next, and the options of all."""
    lines = ["faults, and their options with defaults:"]
    for name, (own, about) in FAULTS.items():
        lines += [f"  {name}{_options(own)}", f"      {about}"]
    lines += ["  options of all", f"      {_options(COMMON)[1:]}", "  for example drop:path=private,after=2"]
    return "\n".join(lines).replace("%", "%%")


def _options(options: Mapping[str, str]) -> str:
    return "".join(f"{':' if not at else ','}{key}={value}" for at, (key, value) in enumerate(options.items()))


def settings_from(args: argparse.Namespace) -> Settings:
    limits: dict[str, None] = {}
    if args.no_limits:
        limits = dict.fromkeys(("connects_per_second", "requests_per_hour", "channel_connections"))
    return Settings(
        seed=args.seed,
        rate=args.rate,
        step=args.step,
        clock_offset=args.clock_offset,
        checksum=args.checksum,
        deflate=args.deflate,
        rest_limits=not args.no_limits,
        log_limit=10_000,
        **limits,  # type: ignore[arg-type]
    )


async def run(args: argparse.Namespace) -> int:
    """
    Serve until SIGINT or SIGTERM, then return 0.

    Raises:
        ConfigError: no such dialect or fault, or nothing can listen on that host and port.
        SinkError: what it listens on cannot be printed.
    """
    if not 0 <= args.port < 65_536:
        raise ConfigError(f"--port {args.port}: a port is a number from 0 to 65535")
    faults = [Fault.parse(text) for text in args.fault]
    simulator = Simulator(args.dialect, settings_from(args), args.host, args.port)
    try:
        await simulator.__aenter__()
    except OSError as error:
        number = error.errno or 0  # below 0 of a name that cannot be resolved
        why = os.strerror(number) if number > 0 else error.strerror or error
        raise ConfigError(f"{args.host}:{args.port}: {why}") from None
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_exit(simulator)
        for fault in faults:
            simulator.inject(fault)
        lines = [f"{name} {url}" for name, url in simulator.urls.items()]
        lines += [f"rest {simulator.rest_url}", f"control {simulator.control_url} token {simulator.token}"]
        account = TEST_ACCOUNT
        lines.append(f"account key {account.key} secret {account.secret} passphrase {account.passphrase}")
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        try:
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
            await ended.wait()
        except OSError as error:
            raise SinkError(f"stdout failed: {error.strerror}") from None
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
    return 0
