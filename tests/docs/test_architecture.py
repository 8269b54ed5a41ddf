"""The architecture page has every folder with its own sentence, names files and types that exist, and a picture."""

from __future__ import annotations

import ast
import re
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.test_imports import ARROWS, CLIENTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
FLAT = re.sub(r"\s+", " ", PAGE)
NO_PACKAGES = {"tests", "examples", "deploy", "jvm", "docs", "var", "build"}


def packages() -> list[Path]:
    """All folders of the product with an `__init__.py`."""
    found = (path.parent.relative_to(ROOT) for path in ROOT.glob("*/**/__init__.py"))
    return sorted(path for path in found if path.parts[0] not in NO_PACKAGES and not path.parts[0].startswith("."))


@pytest.mark.parametrize("package", packages(), ids=str)
def test_every_folder_stands_there_with_its_sentence(package: Path) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8")))
    assert docstring is not None
    sentence = re.sub(r"\s+", " ", docstring.partition("\n\n")[0])
    assert f"**`{package}/`** {sentence} <br>*Useful for* " in FLAT


def test_the_table_has_the_arrows_that_are_tested() -> None:
    rows = dict(re.findall(r"^\| `(\w+)/` \|[^|]*\| ([^|]*) \|$", PAGE, re.MULTILINE))
    names = {"neardup.events_pb2": "neardup.events", **dict.fromkeys(CLIENTS, "clients of the servers")}
    for package, allowed in ARROWS.items():
        others = {names.get(name, name) for name in allowed if name != package}
        expected = {"all of them"} if package == "stream" else others or {"nothing of ours"}
        assert set(rows[package].split(", ")) == expected, package


def test_the_packages_are_found() -> None:
    assert {Path("core"), Path("search/index"), Path("storage/api"), Path("stream/cli")} <= set(packages())


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:\w+/)+[\w.]*)`", PAGE)) - {"var/bench"}
    assert len(named) > 40
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_type_on_the_way_is_defined_where_the_table_says() -> None:
    table = PAGE.partition("## The way of one image")[2].partition("\n## ")[0]
    checked = 0
    for row in re.findall(r"^\|[^|]*\|([^|]*)\|[^|]*\|$", table, re.MULTILINE):
        names, files = re.findall(r"`([A-Z]\w+)`", row), re.findall(r"`([\w/]+\.(?:py|proto))`", row)
        text = "".join((ROOT / file).read_text(encoding="utf-8") for file in files)
        for name in names if files else []:
            assert re.search(rf"^(?:class|message) {name}\b", text, re.MULTILINE), name
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_picture_is_what_its_script_draws(theme: str) -> None:
    draw = runpy.run_path(str(ROOT / "docs" / "images" / "draw_architecture.py"))["draw"]
    committed = (ROOT / "docs" / "images" / f"architecture-{theme}.svg").read_text(encoding="utf-8")
    assert committed == draw(theme)
    texts = {element.text for element in ElementTree.fromstring(committed).iter("{http://www.w3.org/2000/svg}text")}
    assert {"joined", "dead-letter", "assignments", "search server", "scorer", "storage server"} <= texts
