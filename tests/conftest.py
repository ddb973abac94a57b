"""What all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
