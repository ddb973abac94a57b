"""The command line: verbs. stdout is data, stderr is for people."""

import argparse
import gc
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NoReturn

from .durations import seconds
from .errors import ConfigError, OkstreamError, SinkError
from .exits import INTERRUPTED, OK, USAGE, complain, exit_code, show
from .version import VERSION

_CODES = """\
exit codes: 0 ended as asked, 1 bug, 2 usage or configuration, 3 refused by the exchange,
            4 ended but records were lost here, 5 output failed, 6 the exchange never answered,
            130 second Ctrl-C
"""
_EPILOG = f"""\
subscriptions:
  channel:instrument[,instrument...]      ticker:BTC-USDT  trades:BTC-USDT,ETH-USDT
  channel:key=value[,key=value...]        orders:instType=SWAP  instruments:instType=SPOT
  channel:pattern                         'book:*-USDT-SWAP'  'ticker:BTC-USD-*'
      a star stands for any part of a name without a dash; quote it, or the shell looks for files
  the exchange's own channels             price-limit:BTC-USDT-SWAP

durations: 100ms, 0.5s, 2m, 1h30m, 5d; a plain number is seconds

{_CODES}"""

_YOUNG = 20_000
"""Objects more than there were, before the next look for cycles among them."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    try:
        parser, verbs = _parser()
        arguments, unknown = parser.parse_known_args(argv)
        if unknown:
            verbs[arguments.verb].error(f"unrecognized arguments: {unknown[0]}")
        run: Callable[[argparse.Namespace], int] = arguments.run
        code = run(arguments)
    except OkstreamError as error:
        code = exit_code(error)
        if code != OK:
            complain(str(error))
    except KeyboardInterrupt:
        code = INTERRUPTED
    _leave(code)


def _leave(code: int) -> NoReturn:
    # The interpreter would flush stdout again on its way out and complain about a closed pipe.
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        os._exit(code)
    sys.exit(code)


_QUOTE = "'"
_SLOWEST = 0.001
_PATIENCE = 1.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        complain(f"{self._worded(message)}\ntry: {self.prog} --help")
        sys.exit(USAGE)

    def _worded(self, message: str) -> str:
        """Return what argparse says in other words: it speaks of arguments and choices."""
        where, _, what = message.removeprefix("argument ").partition(": ")
        match where, what:
            case "the following arguments are required", missing:
                return f"{missing} is missing"
            case "unrecognized arguments", wrong:
                known = [option for action in self._actions for option in action.option_strings]
                return f"there is no {'option' if wrong.startswith('-') else 'argument'} {wrong}{_meant(wrong, known)}"
            case _, _ if what.startswith(("invalid int value: ", "invalid float value: ")):
                kind = "whole number" if "int" in what.partition(":")[0] else "number"
                return f"{where}: {what.partition(': ')[2]} is no {kind}"
            case _, _ if what.startswith("invalid choice: "):
                wrong, _, choices = what.removeprefix("invalid choice: ").partition(" (choose from ")
                names = [name.strip(_QUOTE) for name in choices.rstrip(")").split(", ")]
                return f"{where}: {wrong} is none of {', '.join(names)}{_meant(wrong.strip(_QUOTE), names)}"
            case _:
                return f"{where}: {what}" if what else message


def _meant(wrong: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(wrong.partition("=")[0], known, n=1)
    return f". Did you mean {close[0]}?" if close else ""


def _parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser of the command line, and that of each verb."""
    parser = _Parser(
        prog="okstream",
        description="Market data of the OKX family of exchanges.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    made = "pure Python" if find_spec("okstream._compiled") is None else "compiled"
    parser.add_argument("--version", action="version", version=f"okstream {VERSION} ({made})")
    verbs = parser.add_subparsers(dest="verb", metavar="verb", required=True)
    _add_stream(verbs)
    _add_run(verbs)
    _add_record(verbs)
    _add_replay(verbs)
    _add_list(verbs)
    _add_coverage(verbs)
    _add_simulate(verbs)
    return parser, verbs.choices


def _verb(verbs: Any, name: str, about: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """Add a verb to `verbs`, and return its parser."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=about, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=epilog, allow_abbrev=False
    )
    return verb


def _add_stream(verbs: Any) -> None:
    verb = _verb(verbs, "stream", "records to stdout, one JSON object a line", _EPILOG)
    _add_source(verb)
    _add_output(verb)
    _add_links(verb)
    verb.add_argument("--stats", type=_duration, metavar="DURATION", help="a line about the flow on stderr, this often")
    _add_verbosity(verb)
    verb.set_defaults(run=_stream)


def _add_source(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("subscriptions", nargs="+", metavar="subscription", help="see below")
    verb.add_argument("--venue", default="okx", help="which market (default: okx; see `okstream list venues`)")
    verb.add_argument("--url", help="another place to reach the venue at: wss://host or ws://host:port")
    verb.add_argument("--rest-url", help="where that place answers REST, for patterns and silence: https://host")
    verb.add_argument("--dialect", help="for --venue sim: okx-v5 (default), okex-v3 or okex-v1")
    verb.add_argument(
        "--account",
        metavar="SOURCE",
        help="log in, with credentials from a file (key, secret, passphrase as TOML) or, where SOURCE is `env`, from "
        "OKSTREAM_API_KEY, OKSTREAM_SECRET and OKSTREAM_PASSPHRASE",
    )


def _add_output(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--format", choices=("json", "raw"), default="json", help="records, or the exchange's own text")
    verb.add_argument("--count", type=_positive_int, metavar="N", help="end after N data records")
    verb.add_argument("--duration", type=_duration, metavar="DURATION", help="end after so long")
    verb.add_argument("--data-only", action="store_true", help="no gap and status records")
    verb.add_argument(
        "--depth", type=_positive_int, metavar="N", help="in place of each book's changes, its best N levels a side ..."
    )
    verb.add_argument("--every", type=_duration, metavar="DURATION", help="... this often: --depth 5 --every 100ms")


def _add_links(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--redundancy", type=_positive_int, default=1, metavar="N",
        help="carry everything over N links: losing one of them costs nothing",
    )  # fmt: skip
    verb.add_argument(
        "--rotate-after", type=_duration, metavar="DURATION", help="replace each link after so long, without a gap"
    )
    verb.add_argument("--proxy", metavar="URL", help="http:// or socks5:// proxy; the environment is not looked at")


def _add_verbosity(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-v", "--verbose", action="count", default=0, help="say more on stderr; twice for more still")
    verb.add_argument("-q", "--quiet", action="store_true", help="say only errors")


def _add_run(verbs: Any) -> None:
    verb = _verb(verbs, "run", "the same as a daemon, from a configuration file", _CODES)
    verb.add_argument("--config", required=True, metavar="FILE", help="see config.example.toml")
    verb.add_argument("--check", action="store_true", help="validate, print the plan, do not connect")
    _add_verbosity(verb)
    verb.set_defaults(run=_run)


def _add_record(verbs: Any) -> None:
    verb = _verb(verbs, "record", "a journal of all that arrives, to be replayed", _EPILOG)
    _add_source(verb)
    verb.add_argument(
        "-o", "--output", required=True, metavar="PLACE",
        help="a folder, or a path in .jsonl.zst with {instance}, {segment}, and {date} and {time} of when each begins",
    )  # fmt: skip
    verb.add_argument(
        "--segment-mib", type=_positive_int, default=256, metavar="N",
        help="begin another segment after so much (default: 256) ...",
    )  # fmt: skip
    verb.add_argument(
        "--segment-time", type=_duration, default=3600.0, metavar="DURATION", help="... or so long (default: 1h)"
    )
    verb.add_argument("--duration", type=_duration, metavar="DURATION", help="end after so long")
    _add_links(verb)
    verb.add_argument("--stats", type=_duration, metavar="DURATION", help="a line about the flow on stderr, this often")
    _add_verbosity(verb)
    verb.set_defaults(run=_record)


def _add_replay(verbs: Any) -> None:
    verb = _verb(verbs, "replay", "records of a journal or a recording, as they were live", _CODES)
    verb.add_argument("files", nargs="+", metavar="file", help="segments of a journal, folders of them, or recordings")
    verb.add_argument(
        "--speed", type=_speed, metavar="xN", help="x1 as fast as it was recorded, x10 ten times; default: as it goes"
    )
    verb.add_argument("--format", choices=("json", "raw"), help="records, or the exchange's own text (default: json)")
    verb.add_argument("--data-only", action="store_true", help="no gap and status records")
    verb.add_argument("--config", metavar="FILE", help="deliver to the sinks of this configuration, not to stdout")
    verb.add_argument("--venue", help="whose recordings are that do not say it themselves")
    _add_verbosity(verb)
    verb.set_defaults(run=_replay)


def _add_list(verbs: Any) -> None:
    verb = _verb(verbs, "list", "what there is")
    verb.add_argument("what", choices=("venues", "channels"), metavar="venues|channels", help="which table")
    verb.set_defaults(run=_list)


def _add_coverage(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "coverage",
        "what of the files that were written is complete",
        "exit codes: 0 all is complete, 2 there is nothing to read, 4 something is not complete",
    )
    verb.add_argument("files", nargs="+", metavar="FILE", help="files, folders with all in them, or patterns")
    verb.add_argument("--config", metavar="FILE", help="say what it asks for and the files lack")
    verb.add_argument("--json", action="store_true", help="one JSON object a subscription")
    verb.set_defaults(run=_coverage)


def _add_simulate(verbs: Any) -> None:
    verb = _verb(verbs, "simulate", "a simulated exchange for your own programs")
    if "simulate" in sys.argv:  # its options are the simulator's own, which takes its time to import
        from importlib import import_module

        import_module("okstream.simulator.command").add_arguments(verb)
    verb.set_defaults(run=_simulate)


def _positive_int(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _duration(text: str) -> float:
    try:
        return seconds(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _speed(text: str) -> float:
    try:
        speed = float(text.removeprefix("x"))
    except ValueError:
        speed = 0.0
    if not _SLOWEST <= speed < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no speed: x1, x10, x0.5; the slowest is x{_SLOWEST:g}")
    return speed


def _stream(arguments: argparse.Namespace) -> int:
    from .verbs import stream

    _hold_descriptors()
    return asyncio_run(stream.run(arguments))


def _hold_descriptors() -> None:
    """
    Before anything is opened: it would have the number of a closed descriptor, as would an event loop.

    Raises:
        SinkError: stdout is closed.
    """
    try:
        os.fstat(1)
    except OSError as error:
        raise SinkError(f"stdout: {error.strerror}") from None
    for number, flags in ((0, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, flags), number)


def _run(arguments: argparse.Namespace) -> int:
    from .verbs import run

    _hold_descriptors()
    if arguments.check:
        plan, odd = run.check(arguments)
        show(plan)
        for said in odd:
            complain(said)
        return OK
    return asyncio_run(run.run(arguments))


def _record(arguments: argparse.Namespace) -> int:
    from .verbs import record

    _hold_descriptors()
    return asyncio_run(record.run(arguments))


def _replay(arguments: argparse.Namespace) -> int:
    from .verbs import replay

    _hold_descriptors()
    return asyncio_run(replay.run(arguments))


def _list(arguments: argparse.Namespace) -> int:
    from .verbs import list as listing

    _hold_descriptors()
    show(listing.venues_table() if arguments.what == "venues" else listing.channels_table())
    return OK


def _coverage(arguments: argparse.Namespace) -> int:
    from .verbs import coverage

    _hold_descriptors()
    return coverage.run(arguments)


def _simulate(arguments: argparse.Namespace) -> int:
    from importlib import import_module

    _hold_descriptors()
    return asyncio_run(import_module("okstream.simulator.command").run(arguments))


def asyncio_run(work: Coroutine[Any, Any, int]) -> int:
    """Run `work` on uvloop where the platform has it."""
    # Records come and go in thousands, and hardly one is part of a cycle: looking for those less often saves 5 to 8 %.
    gc.set_threshold(_YOUNG)
    try:
        import uvloop
    except ImportError:
        import asyncio

        return asyncio.run(_without_what_goes_on(work))
    return uvloop.run(_without_what_was_given_up(_without_what_goes_on(work)))


async def _without_what_goes_on(work: Coroutine[Any, Any, int]) -> int:
    """Await `work`; where something then does not end although it is told to, the process ends with `work`."""
    import asyncio

    code = OK
    failure: OkstreamError | None = None
    try:
        code = await work
    except OkstreamError as error:
        code, failure = exit_code(error), error
    if left := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_PATIENCE)
    if left and failure is not None and code != OK:
        complain(str(failure))
    if left:
        os._exit(code)
    if failure is not None:
        raise failure
    return code


async def _without_what_was_given_up(work: Coroutine[Any, Any, int]) -> int:
    """Await `work`; where it ends while uvloop looks a host up, nobody is told that this fails later."""
    import asyncio

    def tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not (isinstance(context.get("exception"), OSError) and context["message"].startswith("Future ")):
            loop.default_exception_handler(context)

    asyncio.get_running_loop().set_exception_handler(tell)
    return await work
