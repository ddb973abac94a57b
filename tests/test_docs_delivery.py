"""docs/delivery.md, and the tables of files.md and nats.md: what they promise has a test, and nothing is left out."""

import re
from collections.abc import Iterator
from typing import get_args

import pytest
from support.collecting import TESTS, collected

from okstream.options import WhenFull
from okstream.sinks import SINKS

DOCS = TESTS.parent / "docs"
NAMES = ("delivery.md", "files.md", "nats.md")
PAGES = {name: (DOCS / name).read_text("utf-8") for name in NAMES}
PAGE = PAGES["delivery.md"]

TEST = re.compile(r"`((?:\w+\.py::)?(?:Test\w+::)?test_\w+(?:\[[^`]+\])?)`( \(skipped )?")
LAST = "shown by"
FAULTS = ("kill −9", "Power cut", "Full disk", "The sink is down", "A poison record")
WHO = {*(f"`{name}`" for name in SINKS), "`nats`, `jetstream = false`", "`module:Class`"}
POLICIES = {*(f"`{policy}`" for policy in get_args(WhenFull)), "`spool_always`"}


def tables(page: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Return each table by the heading above it: its cells, head first."""
    for heading, part in re.findall(r"^(#+ .*?)$(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL):
        for rows in re.findall(r"(?:^\|.*\n)+", part, re.MULTILINE):
            lines = [line.strip("| ") for line in rows.splitlines()]
            yield heading, [re.split(r" *\| *", line) for line in (lines[0], *lines[2:])]


@pytest.fixture(scope="module")
def known() -> dict[str, bool]:
    """All tests that may be meant, and whether they may be skipped."""
    named = {name for page in PAGES.values() for name, _ in TEST.findall(page)}
    parts = {part.partition("[")[0] for name in named for part in name.split("::")}
    files = [
        path
        for path in TESTS.rglob("test_*.py")
        if parts & {path.name, *re.findall(r"^(?:async )?(?:def|class) (\w+)", path.read_text("utf-8"), re.MULTILINE)}
    ]
    return collected(files)


@pytest.mark.parametrize("name", NAMES)
def test_every_test_that_is_named_exists(name: str, known: dict[str, bool]):
    named = {test for test, _ in TEST.findall(PAGES[name])}
    assert len(named) > 10
    assert named == {one for one in re.findall(r"`([^`\s]*test_[^`]*)`", PAGES[name]) if not one.startswith("tests/")}
    assert named - known.keys() == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_test_that_may_be_skipped_is_said_to_be(name: str, known: dict[str, bool]):
    said = {(test, bool(skipped)) for test, skipped in TEST.findall(PAGES[name])}
    assert said == {(test, known[test]) for test, _ in said}


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_a_guarantee_names_its_test(name: str):
    rows = [
        row for _, (head, *rows) in tables(PAGES[name]) for row in rows if head[-1] == LAST or name == "delivery.md"
    ]
    assert len(rows) > 10
    assert [row for row in rows if not TEST.search(row[-1])] == []


def test_every_sink_and_policy_has_its_row_for_every_fault():
    told = {heading.lstrip("# "): rows[1:] for heading, rows in tables(PAGE)}
    for fault in FAULTS:
        (rows,) = (rows for heading, rows in told.items() if heading.startswith(fault))
        left = "; ".join(row[0] for row in rows).replace("`nats`, `jetstream", "`plain`, `jetstream")
        for name in WHO | POLICIES:
            assert left.count(name.replace("`nats`, ", "`plain`, ")) == 1, (fault, name)


def test_every_policy_is_in_the_table_of_them():
    (rows,) = (rows for _, rows in tables(PAGE) if rows[0][0] == "`when_full`")
    assert [row[0].strip("`") for row in rows[1:]] == list(get_args(WhenFull))


def test_every_page_that_is_linked_exists():
    pages = re.findall(r"\]\(([\w.-]+\.md)", PAGE)
    assert pages
    assert all((DOCS / page).exists() for page in pages)
