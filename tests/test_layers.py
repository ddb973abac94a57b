"""The import rule: nothing points upwards, and the core neither waits, nor logs, nor reads a clock."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "okstream"

LAYERS = [
    {"errors", "exits", "levels", "_compiled", "records", "encoding", "channels", "durations", "version", "zstd"},
    {"dialects", "identities", "venues", "book", "freshness", "inflate", "patterns"},
    {"planner", "statements", "feed", "entries", "options", "stitching", "coverage", "memory"},
    {"session"},
    {"limiting", "rest", "links", "fanout", "states", "sampling", "files", "sinks", "spool", "journal"},
    {"listings", "replay", "following", "wanted", "places", "stream", "lifetime"},
    {"config", "accounts", "monitor"},
    {"daemon"},
    {"verbs"},
    {"cli"},
    {"__init__", "__main__", "testing"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
CORE = set().union(*LAYERS[:4])
"""What decides: frames, ticks and answers come in as arguments, actions and records go out."""

EDGE = {"asyncio", "socket", "time", "logging", "random", "threading", "websockets", "aiohttp", "os"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def unit(name: str) -> str:
    """Return what has a place in the layers: `dialects.okx_v5` is part of `dialects`."""
    return name.partition(".")[0]


def absolute(name: str, node: ast.ImportFrom) -> list[str]:
    """Return the whole names of what `from ... import ...` in module `name` names, `okstream` first."""
    if not node.level:
        base = str(node.module)
    else:
        is_package = MODULES[name].name == "__init__.py"
        home = ["okstream", *([] if name == "__init__" else name.split("."))]
        parents = home[: len(home) - node.level + (1 if is_package else 0)]
        base = ".".join([*parents, *([node.module] if node.module else [])])
    return [f"{base}.{alias.name}" for alias in node.names]


@cache
def imports(name: str) -> set[str]:
    """Return the whole names of everything that module `name` imports anywhere, those for type checks included."""
    found: set[str] = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(absolute(name, node))
    return found


def roots(name: str) -> set[str]:
    return {whole.partition(".")[0] for whole in imports(name)}


def own(name: str) -> set[str]:
    """Return the units of okstream that module `name` imports."""
    units = {whole.split(".")[1] for whole in imports(name) if whole.startswith("okstream.")}
    return {one if one in RANK or one == "simulator" else "__init__" for one in units} - {unit(name)}


LAYERED = [name for name in MODULES if unit(name) != "simulator"]


def test_every_module_has_a_place_in_the_layers():
    assert {unit(name) for name in LAYERED} <= RANK.keys(), "give the new module its place in LAYERS above"


@pytest.mark.parametrize("name", [name for name in LAYERED if unit(name) in CORE])
def test_the_core_imports_nothing_that_opens_waits_logs_or_reads_a_clock(name):
    assert not roots(name) & EDGE


@pytest.mark.parametrize("name", LAYERED)
def test_nothing_points_upwards(name):
    above = {other for other in own(name) - {"simulator"} if RANK[other] > RANK.get(unit(name), -1)}
    assert not above, f"{name} imports {', '.join(sorted(above))} from above"


@pytest.mark.parametrize("name", [name for name in MODULES if unit(name) == "simulator"])
def test_the_simulator_shares_errors_and_records_with_the_rest_and_nothing_else(name):
    """Were a dialect shared, its mistakes would agree with the simulator's."""
    assert own(name) <= {"errors", "records"}


def test_nothing_but_the_test_kit_imports_the_simulator():
    """Stream and command line load it by name, when the venue is `sim`."""
    assert {name for name in LAYERED if "simulator" in own(name)} <= {"testing"}


def test_links_alone_know_websockets_as_a_client():
    """The simulator is a server; it may import the other half."""
    assert {unit(name) for name in LAYERED if "websockets" in roots(name)} == {"links"}
    for name in MODULES.keys() - set(LAYERED):
        assert not [whole for whole in imports(name) if whole.startswith("websockets") and "client" in whole]


def test_a_dialect_knows_no_other():
    dialects = {path.stem for path in (PACKAGE / "dialects").glob("okx_*.py")}
    dialects |= {path.stem for path in (PACKAGE / "dialects").glob("okex_*.py")}
    for stem in dialects:
        generation = "_".join(stem.split("_")[:2])
        for whole in imports(f"dialects.{stem}"):
            for part in whole.split(".")[:3]:
                assert part not in dialects or part.startswith(generation), f"{stem} imports {whole}"


def test_records_are_imported_without_any_dependency_but_orjson():
    allowed = sys.stdlib_module_names | {"orjson", "okstream"}
    for name in ("errors", "records", "channels"):
        assert roots(name) <= allowed


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_printed(name):
    """stdout is data: only a sink writes there."""
    calls = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def test_the_rule_itself_sees_relative_absolute_and_nested_imports():
    assert "dialects" in own("dialects.okx_v5") | {"dialects"}
    assert {"channels", "errors"} <= own("dialects.okx_v5")
    assert "orjson" in roots("records")
