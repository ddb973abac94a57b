"""Commands as their users meet them: real processes, and what they print."""

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from conftest import SECRETS

OKSTREAM = str(Path(sys.executable).with_name("okstream"))
SIM = ["stream", "--venue", "sim"]
TIMEOUT = 60

_SLOW = re.compile(r"^.*held everything up for \d+ ms in `write`\n", re.MULTILINE)


def calm(errors: str) -> str:
    """Return what was said on stderr without the lines about a busy machine, on which any `write` may take long."""
    return _SLOW.sub("", errors)


def clean_environment(**more):
    return {name: value for name, value in os.environ.items() if not name.startswith("OKSTREAM_API")} | more


def okstream(*arguments, **options):
    """Run a command to its end; return it with stdout and stderr as text. No output may hold a secret."""
    done = subprocess.run(
        [OKSTREAM, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False,
        env=options.pop("env", clean_environment()), **options,
    )  # fmt: skip
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr
    done.stderr = calm(done.stderr)
    return done


def shell(script, **options):
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=TIMEOUT, check=False,
        env=clean_environment(OKSTREAM=OKSTREAM), **options,
    )  # fmt: skip
    done.stderr = calm(done.stderr)
    return done


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def data(text):
    return [record for record in records(text) if record["type"] not in {"status", "gap"}]


@contextmanager
def process(*arguments, **options):
    """A running command, ended in any case."""
    with subprocess.Popen(
        [OKSTREAM, *arguments], stdout=options.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, text=True,
        env=clean_environment(), **options,
    ) as running:  # fmt: skip
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


@contextmanager
def simulator(*arguments):
    """A simulated exchange in a process of its own; yields its base URL and the process."""
    with process("simulate", *arguments) as running:
        first = running.stdout.readline()
        url = re.search(r"ws://127\.0\.0\.1:\d+", first)
        assert url, first
        yield url[0], running
