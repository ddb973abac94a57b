"""docs/delivery.md: what it promises has a test, and what can be chosen is in it."""

import re
from pathlib import Path
from typing import get_args

from okstream.options import WhenFull
from okstream.sinks import SINKS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "delivery.md").read_text("utf-8")


def test_every_test_that_is_named_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    written = "".join(path.read_text("utf-8") for path in [*ROOT.glob("tests/**/*.py"), *ROOT.glob("okstream/**/*.py")])
    assert len(named) > 25
    assert named - set(re.findall(r"def (test_\w+)", written)) == set()


def test_every_sink_and_policy_has_its_column_or_row():
    head = next(line for line in PAGE.splitlines() if "`stdout` | `file`" in line)
    assert set(re.findall(r"`(\w+)`", head)) == SINKS.keys()
    assert {policy for policy in get_args(WhenFull) if f"| `{policy}` |" not in PAGE} == {"block"}


def test_every_page_that_is_linked_exists():
    pages = re.findall(r"\]\(([\w.-]+\.md)", PAGE)
    assert pages
    assert all((ROOT / "docs" / page).exists() for page in pages)
