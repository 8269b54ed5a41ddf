"""Checking a manifest: sound ones pass, and every damage is named by file and row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError
from core.notifications import EmbeddingSpec
from core.vector_limits import VectorLimits
from manifests.checking import ManifestReport, check_manifest
from manifests.clustered_files import ClusteredBatch
from manifests.faults import MAX_LISTED
from manifests.folder import LocalFolder
from manifests.image_files import NO_PLACE, ImageBatch
from manifests.manifest import Kind, Manifest
from manifests.metadata import FileMetadata
from manifests.value_checks import ValueChecks
from manifests.writer import FileSizes, ManifestWriter
from tests.manifests.test_clustered_files import MADE, SIGNAL, written_file
from tests.manifests.test_writer import rows

CHECKS = ValueChecks(
    VectorLimits(EmbeddingSpec("s", "1", SIGNAL.search_dimension)),
    VectorLimits(EmbeddingSpec("c", "1", SIGNAL.score_dimension)),
)
FILES = FileSizes(rows_per_file=10, rows_per_group=4)


def sound(count: int = 25, **changes: Any) -> ClusteredBatch:
    """Some rows with nothing wrong, in clusters of five; fields of the images or of the batch may be changed."""
    batch = rows(0, count, hashed=True, places=True)
    heads = [f"image-{number - number % 5}" for number in range(count)]
    images = {name: changes.pop(name) for name in list(changes) if name in ImageBatch.__slots__}
    return replace(batch, images=replace(batch.images, **images), **{"heads": heads, **changes})


def check(root: Path, name: str = "one.json") -> ManifestReport:
    return check_manifest(LocalFolder(root), name, SIGNAL, CHECKS, root)


def checked(root: Path, batch: ClusteredBatch, **options: Any) -> ManifestReport:
    with ManifestWriter(LocalFolder(root), "one", MADE, sizes=FILES, **options) as writer:
        writer.add(batch)
        writer.finish()
    return check(root)


def told(report: ManifestReport) -> list[str]:
    return [str(fault) for fault in report.faults.listed]


def test_sound_rows(tmp_path: Path) -> None:
    report = checked(tmp_path, sound())
    assert told(report) == []
    assert (report.images, report.clusters, report.superseded, report.hashed) == (25, 5, 0, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "manifests"]


def with_value(name: str, row: int, value: Any) -> dict[str, Any]:
    """The sound rows' column with one value changed."""
    batch = sound()
    holder = batch.images if name in ImageBatch.__slots__ else batch
    column = getattr(holder, name)
    changed = column.copy()
    changed[row] = value
    return {name: changed}


SEARCH, SCORE = np.ones(SIGNAL.search_dimension), np.arange(1, SIGNAL.score_dimension + 1)

VALUES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "empty id": (with_value("image_ids", 14, ""), ["row 4: column image_id is refused: the image id is empty"]),
    "long id": (
        with_value("image_ids", 14, "x" * 257),
        ["row 4: column image_id is refused: the image id has"],
    ),
    "empty match": (with_value("matched", 14, ""), ["row 4: column matched is refused: the image id is empty"]),
    "NaN": (
        with_value("search", 14, SCORE[0] * np.nan),
        ["row 4: column search is refused: search[0] is not"],
    ),
    "infinite": (with_value("score", 14, np.inf), ["row 4: column score is refused: score[0] is infinite"]),
    "zeros": (with_value("score", 14, 0), ["row 4: column score is refused: all 3 numbers of score are zero"]),
    "constant": (
        with_value("search", 14, 0.5),
        ["row 4: column search is refused: the numbers of"],
    ),
    "tiny": (with_value("score", 14, 1e-6), ["row 4: column score is refused: the largest number"]),
    "place": (with_value("places", 14, 26), ["row 4: column place is 26, that of the row before 26"]),
    "version": (with_value("versions", 14, -1), ["row 4: column image_version is -1"]),
    "score": (with_value("scores", 14, 1.5), ["row 4: column probability is 1.5"]),
    "time": (with_value("created_at_ms", 14, 10**18), ["row 4: column created_at is"]),
    "term": (with_value("terms", 14, 16), ["row 4: column terms has the term 16"]),
    "code": (with_value("founding_codes", 14, b"ab"), ["row 4: column founding_code has 2 bytes"]),
    "head": (with_value("heads", 14, "image-13"), ["row 4: names a head that is in another cluster by row 3"]),
    "head elsewhere": (
        with_value("heads", 14, "image-21"),
        ["row 4: names a head that is in another cluster by row 1 of data/one-000002.parquet"],
    ),
    "no head": (with_value("heads", 14, None), ["row 4: names no head"]),
    "unknown head": (with_value("heads", 14, "nobody"), ["row 4: names a head that has no row"]),
    "twice": (with_value("image_ids", 14, "image-11"), ["row 4: has the same image and version as row 1"]),
}


@pytest.mark.parametrize("name", VALUES)
def test_each_wrong_value_is_named_by_file_and_row(tmp_path: Path, name: str) -> None:
    changes, expected = VALUES[name]
    found = told(checked(tmp_path, sound(**changes)))
    assert len(found) == len(expected), found
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(f"data/one-000001.parquet: {start}")


def test_several_wrong_rows_are_all_named(tmp_path: Path) -> None:
    changes = {**with_value("versions", 3, -1), **with_value("scores", 14, 2.0), **with_value("score", 4, np.nan)}
    found = told(checked(tmp_path, sound(**changes)))
    assert [fault.partition(": column")[0] for fault in found] == [
        "data/one-000000.parquet: row 3",
        "data/one-000000.parquet: row 4",
        "data/one-000001.parquet: row 4",
    ]


def test_a_wrong_score_does_not_hide_the_head_of_others(tmp_path: Path) -> None:
    report = checked(tmp_path, sound(**with_value("scores", 10, 2.0)))
    assert told(report) == ["data/one-000001.parquet: row 0: column probability is 2.0, not 0 to 1"]
    assert report.images == 25


def test_very_many_faults_are_counted(tmp_path: Path) -> None:
    count = MAX_LISTED + 500
    report = checked(tmp_path, sound(count, scores=np.full(count, 2.0), heads=["nobody"] * count))
    assert report.faults.count == 2 * count
    assert len(report.faults.listed) == MAX_LISTED


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


FILE_DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "gone": (lambda path: path.unlink(), "cannot read"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-5]), "bytes, the manifest says"),
    "one bit": (lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]), "SHA-256"),
}


@pytest.mark.parametrize("name", FILE_DAMAGES)
def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    damage, message = FILE_DAMAGES[name]
    checked(tmp_path, sound(**with_value("versions", 24, -1)))
    damage(tmp_path / "data" / "one-000001.parquet")
    report = check(tmp_path)
    first, second = told(report)
    assert first.startswith("data/one-000001.parquet: ")
    assert message in first
    assert second.startswith("data/one-000002.parquet: row 4: column image_version is -1")
    assert report.images is None


def named(root: Path, change: Callable[[Any], Any], **claims: Any) -> ManifestReport:
    """Checks a manifest that names a changed file as if it were right."""
    folder = LocalFolder(root)
    with ManifestWriter(folder, "one", MADE) as writer:
        writer.add(sound())
        before = writer.finish()
    path = root / before.files[0].path
    rewrite(path, change)
    manifest = Manifest(Kind.SNAPSHOT, [replace(written_file(root, before.files[0].path, 25), **claims)])
    (root / "manifests" / "one.json").write_bytes(manifest.encoded())
    return check(root)


def test_what_a_file_was_made_for_must_fit(tmp_path: Path) -> None:
    other = FileMetadata("faces").encoded()
    report = named(tmp_path, lambda table: table.replace_schema_metadata(other))
    (fault,) = told(report)
    assert "made for 'faces', the settings say 'photos'" in fault


def test_rows_must_be_as_many_as_the_manifest_says(tmp_path: Path) -> None:
    (fault,) = told(named(tmp_path, lambda table: table.slice(1)))
    assert fault == "data/one-000000.parquet: it has 24 rows, the manifest says 25"


def test_columns_must_be_there(tmp_path: Path) -> None:
    (fault,) = told(named(tmp_path, lambda table: table.drop_columns(["head"])))
    assert "no column head" in fault


def test_a_null_among_numbers_is_named(tmp_path: Path) -> None:
    def change(table: Any) -> Any:
        numbers = table["image_id"].to_pylist()
        numbers[7] = None
        return table.set_column(0, "image_id", pa.array(numbers))

    report = named(tmp_path, change)
    assert told(report) == ["data/one-000000.parquet: row 7: column image_id is null"]
    assert report.images is None


def test_a_delta_follows_a_manifest_of_the_folder_and_may_name_its_heads(tmp_path: Path) -> None:
    with ManifestWriter(LocalFolder(tmp_path), "zero", MADE) as writer:
        zero = writer.finish()
    report = checked(tmp_path, sound(heads=["old head"] * 25), kind=Kind.DELTA, previous=zero.id)
    assert told(report) == []
    (tmp_path / "manifests" / "zero.json").unlink()
    assert told(check(tmp_path)) == [f"one.json: it follows the manifest {zero.id}, which is not in {tmp_path}"]


def test_a_manifest_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    checked(tmp_path, sound())
    with pytest.raises(BadInputError, match=r"two\.json"):
        check(tmp_path, "two.json")
    (tmp_path / "manifests" / "one.json").write_bytes(b"{")
    with pytest.raises(BadInputError, match=r"one\.json: it is not JSON"):
        check(tmp_path)


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    checked(tmp_path, sound())
    told: list[tuple[str, int, int]] = []
    check_manifest(LocalFolder(tmp_path), "one.json", SIGNAL, CHECKS, tmp_path, lambda *step: told.append(step))
    assert ("rows", 25, 25) in told
    assert told[-1][0] == "heads"
    assert told[-1][1] == told[-1][2]


def test_rows_without_places_have_none_to_ascend(tmp_path: Path) -> None:
    assert told(checked(tmp_path, sound(places=np.full(25, NO_PLACE)))) == []
