"""
Which tests there are in some files, and which of them may be skipped: run as a program, for files already imported are
collected no second time.
"""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
_SKIPS = re.compile(r"pytest\.(skip|importorskip)\(|SkipTest\(")


def collected(files: Iterable[Path]) -> dict[str, bool]:
    """
    Return the names of all tests in `files`, with and without ids, and whether one so called may be skipped.

    A name begins with `file.py::` or not; where several files have it, it has to.
    """
    command = [sys.executable, "-W", "error", "-m", "support.collecting", *map(str, files)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, bool] = json.loads(done.stdout.splitlines()[-1])
    return found


class _Collected:
    def __init__(self) -> None:
        self.names: dict[str, bool] = {}
        self.files: dict[str, set[str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            assert isinstance(item, pytest.Function)
            of = f"{item.cls.__name__}::" if item.cls is not None else ""
            for name in {f"{of}{item.name}", f"{of}{item.originalname}"}:
                for full in (name, f"{item.path.name}::{name}"):
                    self.names[full] = self.names.get(full, False) or _may_be_skipped(item)
                    self.files.setdefault(full, set()).add(item.path.name)

    @property
    def known(self) -> dict[str, bool]:
        return {name: skipped for name, skipped in self.names.items() if len(self.files[name]) == 1}


def _may_be_skipped(item: pytest.Function) -> bool:
    """Whether it has a mark that says so, or its code, that of a fixture, or that of a method it calls."""
    if any(item.iter_markers("skip")) or any(item.iter_markers("skipif")):
        return True
    text = _source(item.function)
    called = [getattr(item.cls, name, None) for name in re.findall(r"self\.(\w+)\(", text)]
    fixtures = [one.func for found in item._fixtureinfo.name2fixturedefs.values() for one in found]
    return any(_SKIPS.search(part) for part in [text, *map(_source, called), *map(_source, fixtures)])


def _source(function: Any) -> str:
    try:
        return inspect.getsource(inspect.unwrap(function))
    except (TypeError, OSError):  # there is none
        return ""


if __name__ == "__main__":
    found = _Collected()
    code = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[found])
    sys.stdout.write(json.dumps(found.known))
    sys.exit(code)
