"""The house's own rules: which way imports point, and that every file says what it is for."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tallystick.node.cli import VERBS

ROOT = Path(__file__).parents[1]
PROTOCOL = sorted((ROOT / "protocol").glob("*.py"))
SOURCES = [
    *PROTOCOL,
    *sorted((ROOT / "node").rglob("*.py")),
    *sorted((ROOT / "scripts").rglob("*.py")),
]
IMPURE = {
    "asyncio", "duckdb", "fcntl", "lmdb", "os", "pathlib", "random", "secrets", "shutil", "signal",
    "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "trio",
}  # fmt: skip
LINES_MAX = 600


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", PROTOCOL, ids=lambda path: path.name)
def test_protocol_touches_nothing(path: Path) -> None:
    imports = _imports(path)
    assert not [name for name in imports if name.startswith("tallystick.node")]
    assert not {name.split(".")[0] for name in imports} & IMPURE


def test_protocols_imports_have_no_cycle() -> None:
    graph = {
        path.stem: {
            name.rpartition(".")[2]
            for name in _imports(path)
            if name.startswith("tallystick.protocol.")
        }
        for path in PROTOCOL
    }
    while graph:
        leaves = {name for name, needs in graph.items() if not needs & set(graph)}
        assert leaves, f"an import cycle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in leaves}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_what_it_is_for_and_fits_in_the_head(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= LINES_MAX


def test_every_verb_is_documented() -> None:
    pages = (
        (ROOT / "README.md").read_text()
        + "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
        + (ROOT / "CHANGELOG.md").read_text()
    )
    assert [
        verb for verb in VERBS if f"tally {verb}" not in pages and f"`{verb}`" not in pages
    ] == []


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = [requirement.split(">=")[0] for requirement in wanted]
    assert [name for name in names if name not in page] == []


def test_the_tests_that_the_threat_model_names_are_there() -> None:
    page = (ROOT / "docs" / "threat-model.md").read_text()
    tests = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    named = re.findall(r"`((?:node|protocol)/[\w/]*)(\.py)?`", page)
    assert named
    assert [name for name, end in named if not (ROOT / "tests" / f"{name}{end}").exists()] == []
    words = [word.rstrip("…") for word in re.findall(r"`([a-z]+_[a-z_]+…?)`", page)]
    assert words
    assert [
        word for word in words if not any(f"def test_{word}" in text for text in tests.values())
    ] == []
    mistakes = (ROOT / "tests" / "simulator" / "mutations.py").read_text()
    for group in re.findall(r"mutations? ((?:`[^`]+`,? ?)+)", page):
        for name in re.findall(r"`([^`]+)`", group):
            assert name in mistakes, name


def test_every_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    named = {folder: name for name, folder in project["package-dir"].items()}
    folders = [
        file.parent.relative_to(ROOT)
        for root in ("node", "protocol")
        for file in (ROOT / root).rglob("__init__.py")
    ]
    # The client is a package of its own: who uses it needs nothing of the node.
    there = {named.get(str(folder), ".".join(("tallystick", *folder.parts))) for folder in folders}
    assert set(project["packages"]) == there
