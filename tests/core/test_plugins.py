"""Plugins are loaded by entry point or dotted name; a wrong name is answered with what there is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import SettingsError
from core.plugins import load_plugin

GROUP = "neardup.test_plugins"


def install(folder: Path, package: str, source: str, points: str) -> None:
    """A package as an installer leaves it: a module, and its entry points beside it."""
    (folder / f"{package}.py").write_text(source)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_an_entry_point_is_loaded_by_its_name(site: Path) -> None:
    install(site, "plug_one", "class Store:\n    Inner = 7\n", "one = plug_one:Store\ninner = plug_one:Store.Inner")
    assert load_plugin(GROUP, "one").__name__ == "Store"
    assert load_plugin(GROUP, "inner") == 7


def test_nothing_else_is_imported(site: Path) -> None:
    install(site, "plug_good", "VALUE = 1\n", "good = plug_good:VALUE")
    install(site, "plug_broken", "raise RuntimeError('imported')\n", "broken = plug_broken:VALUE")
    assert load_plugin(GROUP, "good") == 1
    assert "plug_broken" not in sys.modules


def test_a_dotted_name_needs_no_entry_point(site: Path) -> None:
    (site / "plug_plain.py").write_text("class Store:\n    pass\n")
    assert load_plugin(GROUP, "plug_plain:Store") is sys.modules["plug_plain"].Store


def test_an_unknown_name_is_answered_with_what_there_is(site: Path) -> None:
    with pytest.raises(SettingsError, match=f"'tree' in the group {GROUP}; {GROUP} has no entry points"):
        load_plugin(GROUP, "tree")
    install(site, "plug_two", "", "b = plug_two:B\na = plug_two:A")
    with pytest.raises(SettingsError, match=r"are: a, b; a class is also named as package\.module:Class"):
        load_plugin(GROUP, "tree")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("plug_nowhere:Store", "No module named 'plug_nowhere'"),
        ("plug_three:Missing", "cannot load plug_three:Missing: module 'plug_three' has no attribute 'Missing'"),
        ("three", r"cannot load three \(plug_three:Missing\): module 'plug_three' has no attribute 'Missing'"),
    ],
)
def test_what_cannot_be_loaded_says_why(site: Path, name: str, reason: str) -> None:
    install(site, "plug_three", "", "three = plug_three:Missing")
    with pytest.raises(SettingsError, match=f"{reason}; the entry points of {GROUP} are: three"):
        load_plugin(GROUP, name)


@pytest.mark.parametrize("name", [":Store", "plug-six:Store", "plug_six:"])
def test_what_is_no_name_is_answered_with_the_form_of_one(name: str) -> None:
    with pytest.raises(SettingsError, match=r"a class is also named as package\.module:Class"):
        load_plugin(GROUP, name)


def test_two_packages_with_one_name_are_refused_unless_they_agree(site: Path) -> None:
    install(site, "plug_four", "VALUE = 4\n", "same = plug_four:VALUE\nother = plug_four:VALUE")
    install(site, "plug_five", "VALUE = 5\n", "same = plug_four:VALUE\nother = plug_five:VALUE")
    assert load_plugin(GROUP, "same") == 4
    with pytest.raises(SettingsError, match=r"several packages declare 'other'.*plug_five:VALUE, plug_four:VALUE"):
        load_plugin(GROUP, "other")
