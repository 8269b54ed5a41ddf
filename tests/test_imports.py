"""The arrows between the packages, and the frameworks that pure logic never loads.

Each folder may import what `ARROWS` names, and no import leads in a circle; `ARCHITECTURE.md` shows the picture. The
arrows and the places of each framework are read from the source, also of imports inside functions. That the pure
modules load none of the frameworks, by whatever way, is seen in a fresh interpreter.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CLIENTS = ("search.serving", "scoring.serving", "storage.serving")
"""How operators reach the servers: clients and messages."""

ARROWS = {
    "neardup": ("neardup",),
    "core": ("core", "neardup.events_pb2"),
    "manifests": ("manifests", "core", "neardup.events_pb2"),
    "search": ("search", "core", "manifests", "neardup.events_pb2"),
    "scoring": ("scoring", "core", "search.hashing"),
    "clustering": ("clustering", "core"),
    "storage": ("storage", "core", "manifests"),
    "operators": ("operators", "core", "clustering", "manifests", *CLIENTS),
    "training": ("training", "core", "search.hashing", "search.ranking", "scoring", "clustering"),
    "stream": (
        *("stream", "core", "manifests", "neardup", "search", "scoring", "clustering", "storage", "operators"),
        "training",
    ),
}
"""Whom each folder may import. `neardup` is what users import: it stands alone, all may read its notifications."""

_TENSORFLOW = (
    "scoring.saved_model",
    "scoring.tf_model",
    *(f"training.{module}" for module in ("train", "export", "fit", "forward", "graph_scorer")),
)

PLACES = {
    "pyflink": ("operators", "stream"),
    "grpc": ("core.rpc", *CLIENTS),
    "tensorflow": _TENSORFLOW,
    "keras": _TENSORFLOW,
    "rocksdict": ("storage.rocks",),
    "kafka": ("stream", "storage.serving.publisher", "storage.serving.topic_view"),
    "fastapi": ("storage.api",),
    "pytest": ("storage.testing",),
    "hypothesis": ("storage.testing",),
    "cv2": ("training.labelling.matching", "training.labelling.edits"),
}
"""Where each framework may be imported."""

EDGES = (
    "core.rpc",
    *CLIENTS,
    "storage.rocks",
    "storage.api",
    "storage.testing",
    *_TENSORFLOW,
    "training.labelling.matching",
    "training.labelling.edits",
    "training.labelling.training",
)
"""The parts of the pure folders that are not pure."""

PURE_OPERATORS = (
    "operators.batcher",
    "operators.first_load",
    "operators.manifest_watch",
    "operators.pairing",
    "operators.pairing_codec",
    "operators.responses",
    "operators.in_flight_pb2",
)
"""The parts of operators that are."""

OURS = tuple(ARROWS)


@dataclass(frozen=True)
class Import:
    """One import statement's target, and where it stands."""

    module: str
    line: int
    target: str


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the prefixes or lies below one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def sources() -> dict[str, Path]:
    """Every module of ours, generated ones included."""
    found = {}
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, path: Path) -> Iterator[Import]:
    """What a module imports, at its top or anywhere inside."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            # `from core import types` names a module by its alias.
            for alias in node.names:
                yield Import(module, node.lineno, f"{base}.{alias.name}" if f"{base}.{alias.name}" in SOURCES else base)


SOURCES = sources()
IMPORTS = [one for module, path in SOURCES.items() for one in imports_of(module, path)]
PURE_FOLDERS = tuple(folder for folder in OURS if folder not in ("operators", "stream"))
PURE = [
    *(module for module in SOURCES if within(module, PURE_FOLDERS) and not within(module, EDGES)),
    *PURE_OPERATORS,
]


def test_there_is_something_to_check() -> None:
    assert {"core.types", "clustering.rule", "storage.interfaces", "operators.join", "stream.settings"} <= set(SOURCES)
    assert set(PURE) <= set(SOURCES)
    assert len(IMPORTS) > 500


@pytest.mark.parametrize("package", OURS)
def test_arrows_between_packages(package: str) -> None:
    wrong = []
    for one in IMPORTS:
        if not within(one.module, (package,)) or not within(one.target, (*OURS, "tests", "benchmarks", "examples")):
            continue
        rule = max((name for name in ARROWS if within(one.module, (name,))), key=len)
        if not within(one.target, ARROWS[rule]):
            wrong.append(f"{one.module}:{one.line} imports {one.target}")
    assert wrong == []


@pytest.mark.parametrize("framework", PLACES)
def test_each_framework_stays_in_its_place(framework: str) -> None:
    wrong = [
        f"{one.module}:{one.line} imports {one.target}"
        for one in IMPORTS
        if within(one.target, (framework,)) and not within(one.module, PLACES[framework])
    ]
    assert wrong == []


def test_nothing_of_the_product_imports_its_tests_for_stores() -> None:
    assert [
        one
        for one in IMPORTS
        if within(one.target, ("storage.testing",)) and not within(one.module, ("storage.testing",))
    ] == []


def loaded_by(modules: list[str]) -> dict[str, list[str]]:
    """Which frameworks came in with which of these modules, in a fresh interpreter."""
    script = (
        "import importlib, json, sys\n"
        f"frameworks, modules = set({sorted(PLACES)!r}), {modules!r}\n"
        "culprits = {}\n"
        "for module in modules:\n"
        "    before = set(sys.modules)\n"
        "    importlib.import_module(module)\n"
        "    came = frameworks & {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "    if came:\n"
        "        culprits[module] = sorted(came)\n"
        "print(json.dumps(culprits))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    culprits: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return culprits


def test_pure_modules_load_no_framework() -> None:
    assert loaded_by(PURE) == {}


def test_the_check_sees_a_framework() -> None:
    assert loaded_by(["core.rpc"]) == {"core.rpc": ["grpc"]}


def test_relative_and_nested_imports_are_seen(tmp_path: Path) -> None:
    source = tmp_path / "rule.py"
    source.write_text(
        "import storage.rocks as r\n"
        "def late():\n"
        "    from core import types\n"
        "    from . import tail\n"
        "    from ..errors import NeardupError\n"
    )
    assert [one.target for one in imports_of("search.index.rule", source)] == [
        "storage.rocks",
        "core.types",
        "search.index.tail",
        "search.errors",
    ]


def circles(imports: list[Import]) -> list[list[str]]:
    """The first circle of imports, if there is one."""
    graph: dict[str, set[str]] = {}
    for one in imports:
        if one.target in SOURCES and one.target != one.module:
            graph.setdefault(one.module, set()).add(one.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [error.args[1]]
    return []


def test_no_import_leads_in_a_circle() -> None:
    assert circles(IMPORTS) == []


def test_a_circle_is_seen() -> None:
    there, back = Import("core.types", 1, "core.errors"), Import("core.errors", 1, "core.types")
    assert len(circles([there, back])) == 1


def test_every_folder_says_which_question_it_answers() -> None:
    silent = [
        str(path.parent.relative_to(ROOT))
        for folder in OURS
        for path in sorted((ROOT / folder).rglob("__init__.py"))
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []
