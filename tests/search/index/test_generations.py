"""Which generation serves: damage of the pointer never makes an empty index, and never opens another generation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from core.errors import MismatchError
from search.index.engine import SegmentedIndex
from search.index.errors import IndexDamagedError, IndexLockedError
from search.index.generations import Generation, IndexGenerations
from tests.search.index.index_oracle import LOG, index_settings, insert
from tests.support.damage import damages

SETTINGS = index_settings()
FIRST = Generation("gen-000001", SETTINGS.identity.terms_fingerprint, SETTINGS.identity.code_fingerprint)


@pytest.fixture
def filled(tmp_path: Path) -> IndexGenerations:
    """One generation with one image."""
    generations = IndexGenerations(tmp_path / "index")
    fill(generations.folder(generations.serving(SETTINGS.identity)))
    return generations


def fill(folder: Path) -> None:
    index = SegmentedIndex(folder, SETTINGS, background=False)
    index.insert_and_search(LOG, [insert(0, "a")])
    index.close()


def test_the_first_generation_is_made_before_it_is_named(tmp_path: Path) -> None:
    generations = IndexGenerations(tmp_path / "index")
    assert generations.current() is None
    assert generations.serving(SETTINGS.identity) == FIRST
    assert (tmp_path / "index" / "gen-000001" / "index.json").exists()
    (tmp_path / "index" / "current").unlink()  # as if the start was cut off between the two
    assert generations.serving(SETTINGS.identity) == FIRST


def test_a_pointer_without_a_checksum_is_written_anew(filled: IndexGenerations) -> None:
    pointer = filled.path / "current"
    written = pointer.read_bytes()
    pointer.write_text(json.dumps(json.loads(written)["body"]))
    assert filled.current() == filled.serving(SETTINGS.identity) == FIRST
    assert pointer.read_bytes() == written


def test_a_pointer_damaged_anywhere_is_refused_or_reads_the_same(filled: IndexGenerations) -> None:
    pointer = filled.path / "current"
    for damaged in damages(pointer.read_bytes()):
        pointer.write_bytes(damaged)
        try:
            assert filled.serving(SETTINGS.identity) == FIRST
        except (IndexDamagedError, MismatchError) as error:
            assert str(pointer) in str(error)  # noqa: PT017
    assert sorted(each.name for each in filled.path.iterdir()) == ["current", "gen-000001"]


@pytest.mark.parametrize("lost", ["current", "gen-000001", "gen-000001/index.json"])
def test_what_is_lost_is_never_replaced_by_an_empty_index(filled: IndexGenerations, lost: str) -> None:
    path = filled.path / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for _ in range(2):
        with pytest.raises(IndexDamagedError, match=r"current.*missing.*index restore SNAPSHOT.*index build"):
            filled.serving(SETTINGS.identity)
    assert not path.exists()


def test_a_pointer_of_a_later_format_is_refused(filled: IndexGenerations) -> None:
    from core.checked_json import write_checked

    write_checked(filled.path / "current", 2, {"generation": "gen-000001"})
    with pytest.raises(MismatchError, match="format 2, this program reads format 1"):
        filled.current()


def test_a_build_replaces_a_damaged_pointer_and_keeps_a_way_back(filled: IndexGenerations) -> None:
    (filled.path / "current").write_text("")
    with filled.building() as built:
        fill(built)
        assert filled.adopt(built, SETTINGS.identity).name == "gen-000002"
    assert filled.serving(SETTINGS.identity).name == "gen-000002"
    assert sorted(each.name for each in filled.path.glob("gen-*")) == ["gen-000001", "gen-000002"]


def test_a_build_keeps_the_generation_before_it_alone(filled: IndexGenerations) -> None:
    for _ in range(3):
        with filled.building() as built:
            fill(built)
            filled.adopt(built, SETTINGS.identity)
    assert sorted(each.name for each in filled.path.glob("gen-*")) == ["gen-000003", "gen-000004"]


def test_nothing_is_built_beside_a_first_load(filled: IndexGenerations) -> None:
    assert filled.load() is None
    with filled.loading() as folder:
        assert folder.name == "gen-000002.load"
        fill(folder)
        with pytest.raises(IndexLockedError, match="another process builds"), filled.building():
            pass
    with pytest.raises(IndexLockedError, match=r"a first load is under way in .*gen-000002\.load"), filled.building():
        pass
    assert filled.serving(SETTINGS.identity) == FIRST
    with filled.loading() as again:
        assert again == folder == filled.load()
    assert filled.adopt(folder, SETTINGS.identity).name == "gen-000002"
    assert filled.load() is None
    assert filled.adopt(filled.path / "gen-000002", SETTINGS.identity).name == "gen-000002"  # as after a kill
    with filled.loading() as folder:
        fill(folder)
    filled.drop_load()
    filled.drop_load()
    with filled.building() as built:
        assert built.name == "gen-000003.new"


def test_an_unfinished_load_is_no_lost_index(tmp_path: Path) -> None:
    generations = IndexGenerations(tmp_path / "index")
    with generations.loading() as folder:
        fill(folder)
    assert generations.serving(SETTINGS.identity).name == "gen-000001"
