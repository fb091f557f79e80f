"""Rules of the house that a machine can check: clocks, environment, size, docstrings, broad excepts, mirrored tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator

import pytest

from server.settings import settings_table
from tests.architecture.source import ROOT, Module, modules

CLOCKS = {f"time.{name}{suffix}" for name in ("time", "monotonic", "perf_counter", "process_time") for suffix in ("", "_ns")} | {
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today"
}  # fmt: skip

CLOCK_READERS = {
    "server.runtime.clock": "the server's one clock",
    "server.intake.timer": "the benchmark timer",
}

MAX_LINES = 400

NO_TESTS_OF_THEIR_OWN = {
    "server.contract.errors": "declares one exception",
    "server.intake.errors": "declares one exception",
    "server.intake.timer": "names one function of the standard library",
}


def users(names: Collection[str], *packages: str) -> Iterator[tuple[Module, int]]:
    for module in modules(*packages):
        for name, line in module.attributes:
            if name in names:
                yield module, line


def test_clocks_are_read_in_two_places_only() -> None:
    found = [
        f"{module.where}:{line}" for module, line in users(CLOCKS, "server", "optimizer") if module.name not in CLOCK_READERS
    ]
    assert found == [], "take a Clock as an argument"
    assert {module.name for module, _ in users(CLOCKS, "server", "optimizer")} == set(CLOCK_READERS)


def test_the_wall_clock_is_read_for_its_stamp_only() -> None:
    assert len(list(users({"time.time", "time.time_ns"}, "server", "optimizer"))) == 1


def test_the_environment_is_read_in_settings_only() -> None:
    names = {"os.environ", "os.environb", "os.getenv", "os.putenv"}
    assert [f"{module.where}:{line}" for module, line in users(names, "server") if module.name != "server.settings"] == []


@pytest.mark.parametrize("folder", ["server", "optimizer", "loadtests", "tests", "examples"])
def test_files_stay_small(folder: str) -> None:
    sizes = {module.where: len(module.text.splitlines()) for module in modules(folder)}
    assert {where: size for where, size in sizes.items() if size > MAX_LINES} == {}


def test_every_module_says_what_lives_there() -> None:
    sizes = {module.where: len((ast.get_docstring(module.tree) or "").splitlines()) for module in modules()}
    assert {where: size for where, size in sizes.items() if not 1 <= size <= 6} == {}


def test_who_catches_everything_says_why() -> None:
    silent = []
    for module in modules():
        lines = module.text.splitlines()
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else "everything"
            has_reason = any("#" in line for line in lines[node.lineno - 2 : node.lineno + 1])
            if caught in ("everything", "Exception", "BaseException") and not has_reason:
                silent.append(f"{module.where}:{node.lineno}")
    assert silent == [], "add a comment beside the except"


@pytest.mark.parametrize("package", ["server/core", "server/contract", "server/intake"])
def test_each_module_has_its_mirror_in_tests(package: str) -> None:
    wanted = {m.path.stem for m in modules(package) if m.path.stem != "__init__" and m.name not in NO_TESTS_OF_THEIR_OWN}
    present = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / package).glob("test_*.py")}
    assert sorted(wanted - present) == []


def test_readme_map_names_only_what_exists() -> None:
    section = re.search(r"^## Where is it\?\n(.*?)(?=^## |\Z)", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert section, "README.md has a section 'Where is it?'"
    paths = [path for path in re.findall(r"`([^`\s]+)`", section[1]) if "/" in path or path.endswith((".py", ".md", ".toml"))]
    assert paths
    assert [path for path in paths if not any(ROOT.glob(path.rstrip("/")))] == []


def test_the_documented_settings_are_the_real_ones() -> None:
    assert settings_table().strip() in (ROOT / "docs" / "settings.md").read_text()
