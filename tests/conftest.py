"""What all tests share."""

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from okstream.simulator import TEST_ACCOUNT

settings.register_profile("okstream", deadline=None, max_examples=100)
settings.load_profile("okstream")


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recorded exchange messages; they are not part of this repository."""
    folder = os.environ.get("OKSTREAM_RECORDINGS")
    if not folder:
        pytest.skip("OKSTREAM_RECORDINGS is not set: it names the folder of recorded exchange messages")
    path = Path(folder)
    assert path.is_dir(), f"OKSTREAM_RECORDINGS names {folder}, which is no folder"
    return path


def pytest_collection_finish() -> None:
    """Take what has been imported and collected out of the reach of the garbage collector: many tests wait for it."""
    _freeze()


def _freeze() -> None:
    gc.collect()
    gc.freeze()


MARKERS = ("marker-key-7c1e", "marker-secret-9f2b", "marker-phrase-4d0a")
"""Wrong credentials that tests try to log in with."""

SECRETS = (*MARKERS, TEST_ACCOUNT.secret, TEST_ACCOUNT.passphrase)
"""What nothing may ever print or log, but `okstream simulate` its own."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """The same for what a module has imported and remembered by its end."""
    done = yield
    if nextitem is None or nextitem.path != item.path:
        _freeze()
    return done


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport]:
    """Fail every test whose output or log holds a secret, whatever the test is about."""
    report = yield
    shown = "".join(text for _, text in report.sections)
    if any(secret in shown for secret in SECRETS):
        report.outcome = "failed"
        report.longrepr = "a secret was printed or logged"
    return report
