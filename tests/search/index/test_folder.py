"""The folder of an index: one process at a time, one set of settings, no guessing when files are missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.checked_json import write_checked
from core.errors import MismatchError
from search.index.engine import SegmentedIndex
from search.index.errors import IndexDamagedError, IndexLockedError
from search.index.folder import Identity, IndexFolder
from search.index.manifest import Manifest, log_name, read_manifest
from tests.search.index.index_oracle import LOG, index_settings, insert
from tests.support.damage import damages

LOG_FILE = log_name(1)
MINE = Identity("terms-a", "code-a", {"groups": 128, "candidates": 100})


def test_the_folder_and_its_parents_are_made(tmp_path: Path) -> None:
    IndexFolder(tmp_path / "a" / "b", MINE).close()
    IndexFolder(tmp_path / "a" / "b", MINE).close()
    header = json.loads((tmp_path / "a" / "b" / "index.json").read_text())
    assert header["body"]["settings"] == MINE.settings


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Identity("terms-b", "code-a", MINE.settings), "terms_fingerprint is terms-a there and terms-b here"),
        (Identity("terms-a", "code-b", MINE.settings), "code_fingerprint is code-a there and code-b here"),
        (Identity("t", "code-a", {"groups": 64, "candidates": 100}), "groups is 128 there and 64 here"),
        (Identity("t", "code-a", {"groups": 128}), "candidates is 100 there and None here"),
    ],
)
def test_other_settings_are_refused_with_both_values(tmp_path: Path, other: Identity, message: str) -> None:
    IndexFolder(tmp_path, MINE).close()
    with pytest.raises(MismatchError, match=message):
        IndexFolder(tmp_path, other)
    IndexFolder(tmp_path, MINE).close()


def test_an_open_folder_is_locked(tmp_path: Path) -> None:
    first = IndexFolder(tmp_path, MINE)
    with pytest.raises(IndexLockedError, match="stop it first"):
        IndexFolder(tmp_path, MINE)
    first.close()
    IndexFolder(tmp_path, MINE).close()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}', '{"settings": {}}'])
def test_a_damaged_header_is_refused(tmp_path: Path, content: str) -> None:
    IndexFolder(tmp_path, MINE).close()
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(IndexDamagedError, match=r"index\.json"):
        IndexFolder(tmp_path, MINE)


def test_another_format_is_refused(tmp_path: Path) -> None:
    IndexFolder(tmp_path, MINE).close()
    write_checked(tmp_path / "index.json", 99, {})
    with pytest.raises(MismatchError, match="format 99"):
        IndexFolder(tmp_path, MINE)


def test_a_header_without_a_checksum_is_written_anew(tmp_path: Path) -> None:
    IndexFolder(tmp_path, MINE).close()
    written = (tmp_path / "index.json").read_bytes()
    (tmp_path / "index.json").write_text(json.dumps({"format": 2, **json.loads(written)["body"]}))
    IndexFolder(tmp_path, MINE).close()
    assert (tmp_path / "index.json").read_bytes() == written


@pytest.mark.parametrize("name", ["index.json", "manifest.json"])
def test_a_file_damaged_anywhere_is_refused_or_reads_the_same(tmp_path: Path, name: str) -> None:
    settings = index_settings()
    index = SegmentedIndex(tmp_path, settings)
    index.insert_and_search(LOG, [insert(0, "a")])
    index.close()
    file = tmp_path / name
    for damaged in damages(file.read_bytes()):
        file.write_bytes(damaged)
        try:
            IndexFolder(tmp_path, settings.identity).close()
            assert read_manifest(tmp_path) == Manifest()
        except (IndexDamagedError, MismatchError) as error:
            assert str(tmp_path) in str(error)  # noqa: PT017


def test_a_making_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).touch()
    (tmp_path / "index.tmp").write_text("{")
    IndexFolder(tmp_path, MINE).close()
    assert (tmp_path / "index.json").exists()


def test_a_missing_file_beside_content_is_refused(tmp_path: Path) -> None:
    index = SegmentedIndex(tmp_path, index_settings())
    index.insert_and_search(LOG, [insert(0, "a")])
    index.close()
    header = (tmp_path / "index.json").read_text()
    (tmp_path / "index.json").unlink()
    with pytest.raises(IndexDamagedError, match="missing"):
        SegmentedIndex(tmp_path, index_settings())
    (tmp_path / "index.json").write_text(header)
    SegmentedIndex(tmp_path, index_settings()).close()
    (tmp_path / LOG_FILE).unlink()
    with pytest.raises(IndexDamagedError, match="missing"):
        SegmentedIndex(tmp_path, index_settings())


def test_a_refused_folder_is_left_unlocked(tmp_path: Path) -> None:
    index = SegmentedIndex(tmp_path, index_settings())
    index.insert_and_search(LOG, [insert(0, "a"), insert(1, "b")])
    index.insert_and_search(LOG, [insert(2, "c")])
    index.close()
    content = (tmp_path / LOG_FILE).read_bytes()
    (tmp_path / LOG_FILE).write_bytes(content[:20] + b"\xaa" + content[21:])
    for _ in range(2):
        with pytest.raises(IndexDamagedError):
            SegmentedIndex(tmp_path, index_settings())
    with pytest.raises(MismatchError):
        SegmentedIndex(tmp_path, index_settings(terms="terms-b"))
    (tmp_path / LOG_FILE).write_bytes(content)
    SegmentedIndex(tmp_path, index_settings()).close()


@pytest.mark.parametrize("cut", ["first", "second"])
def test_frames_that_do_not_continue_each_other_are_refused(tmp_path: Path, cut: str) -> None:
    index = SegmentedIndex(tmp_path, index_settings())
    sizes = [0]
    for offset in range(3):
        index.insert_and_search(LOG, [insert(offset, f"i{offset}")])
        sizes.append((tmp_path / LOG_FILE).stat().st_size)
    index.close()
    content = (tmp_path / LOG_FILE).read_bytes()
    row = 0 if cut == "first" else 1
    (tmp_path / LOG_FILE).write_bytes(content[: sizes[row]] + content[sizes[row + 1] :])
    with pytest.raises(IndexDamagedError, match="expected offset"):
        SegmentedIndex(tmp_path, index_settings())


def _former(min_overlap: int, candidates: int) -> str:
    return f"old of {min_overlap} and {candidates}"


FORMER_SETTINGS: dict[str, int | str] = {"terms.groups": 128, "terms.min_overlap": 2, "terms.candidates": 50}


def test_a_folder_of_the_same_terms_that_an_earlier_release_made_opens_and_is_named_anew(tmp_path: Path) -> None:
    index = IndexFolder(tmp_path, Identity("old of 2 and 50", "code-a", FORMER_SETTINGS))
    index.close()
    now = Identity("terms-new", "code-a", {"terms.groups": 128}, _former)
    IndexFolder(tmp_path, now).close()
    body = json.loads((tmp_path / "index.json").read_text())["body"]
    assert body == {"terms_fingerprint": "terms-new", "code_fingerprint": "code-a", "settings": {"terms.groups": 128}}
    IndexFolder(tmp_path, Identity("terms-new", "code-a", {"terms.groups": 128})).close()


@pytest.mark.parametrize(
    "made_for",
    [
        Identity("old of 2 and 51", "code-a", FORMER_SETTINGS),
        Identity("old of 2 and 50", "code-b", FORMER_SETTINGS),
        Identity("old of 2 and 50", "code-a", {"terms.groups": 128}),
    ],
)
def test_a_folder_of_other_terms_that_an_earlier_release_made_is_refused(tmp_path: Path, made_for: Identity) -> None:
    IndexFolder(tmp_path, made_for).close()
    with pytest.raises(MismatchError, match="made for other settings"):
        IndexFolder(tmp_path, Identity("terms-new", "code-a", {"terms.groups": 128}, _former))
