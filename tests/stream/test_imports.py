"""The arrows between the packages, and the frameworks that pure logic never loads.

    stream -> operators -> search, storage
    storage -> search.types, search.errors (its servers also search.serving)
    search -> nothing of ours

The arrows and the places of each framework are read from the source, also of imports inside functions. That the pure
modules load none of the frameworks, by whatever way, is seen in a fresh interpreter.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ARROWS = {
    "search": ("search",),
    "storage": ("storage", "search.types", "search.errors"),
    "storage.serving": ("storage", "search.types", "search.errors", "search.serving"),
    "operators": ("operators", "search", "storage"),
    "stream": ("stream", "operators", "search", "storage"),
}
"""Whom a package may import; the longest name that fits a module counts."""

_TRAINS = tuple(
    f"search.scoring.{module}" for module in ("tf_model", "train", "export", "fit", "forward", "graph_scorer")
)

PLACES = {
    "pyflink": ("operators", "stream"),
    "grpc": ("search.serving", "storage.serving"),
    "tensorflow": _TRAINS,
    "keras": _TRAINS,
    "rocksdict": ("storage.rocks",),
    "kafka": ("stream", "storage.serving.publisher"),
    "fastapi": ("storage.api",),
    "cv2": ("search.labelling.matching", "search.labelling.edits"),
}
"""Where each framework may be imported."""

EDGES = (
    "search.serving",
    "search.scoring.tf_model",
    "search.scoring.train",
    "search.scoring.export",
    "search.scoring.fit",
    "search.scoring.graph_scorer",
    "search.scoring.forward",
    "search.labelling.matching",
    "search.labelling.edits",
    "search.labelling.training",
    "storage.serving",
    "storage.rocks",
    "storage.api",
)
"""The parts of search and storage that are not pure."""

PURE_OPERATORS = ("operators.batcher", "operators.found", "operators.in_flight_pb2")
"""The parts of operators that are."""

OURS = ("search", "storage", "operators", "stream")


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
            # `from search import types` names a module by its alias.
            for alias in node.names:
                yield Import(module, node.lineno, f"{base}.{alias.name}" if f"{base}.{alias.name}" in SOURCES else base)


SOURCES = sources()
IMPORTS = [one for module, path in SOURCES.items() for one in imports_of(module, path)]
PURE = [module for module in SOURCES if within(module, ("search", "storage")) and not within(module, EDGES)] + [
    *PURE_OPERATORS
]


def test_there_is_something_to_check() -> None:
    assert {"search.types", "search.clustering.rule", "storage.interfaces", "operators.join", "stream.settings"} <= set(
        SOURCES
    )
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
    assert loaded_by(["search.serving.rpc"]) == {"search.serving.rpc": ["grpc"]}


def test_relative_and_nested_imports_are_seen(tmp_path: Path) -> None:
    source = tmp_path / "rule.py"
    source.write_text(
        "import storage.rocks as r\n"
        "def late():\n"
        "    from search import types\n"
        "    from . import arrivals\n"
        "    from ..errors import NeardupError\n"
    )
    assert [one.target for one in imports_of("search.clustering.rule", source)] == [
        "storage.rocks",
        "search.types",
        "search.clustering.arrivals",
        "search.errors",
    ]
