"""Reading clustered images: what is taken, what is trusted, what is refused by name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError, MismatchError
from core.types import Cause
from manifests.clustered_files import ClusteredBatch, ClusteredFile, Signal
from manifests.manifest import ManifestFile
from manifests.metadata import FileMetadata
from tests.manifests.test_image_files import SCORE, SEARCH, table

SIGNAL = Signal("photos", SEARCH, SCORE, terms="T", groups=2, bits_per_group=4, code="C", code_bytes=3)
MADE = FileMetadata("photos", terms="T", code="C", model="m-1", rule="by hand")


def write(path: Path, metadata: FileMetadata | None = MADE, rows: int = 3, **columns: Any) -> Path:
    content = table(rows, **{"head": pa.array(["image-0"] * rows), **columns})
    if metadata is not None:
        content = content.replace_schema_metadata(metadata.encoded())
    pq.write_table(content, path)
    return path


def written_file(root: Path, path: str, rows: int) -> ManifestFile:
    """A file as a manifest names it."""
    content = (root / path).read_bytes()
    return ManifestFile(path, rows, len(content), hashlib.sha256(content).hexdigest())


def read(path: Path) -> ClusteredBatch:
    (batch,) = ClusteredFile(path, SIGNAL).batches(100)
    return batch


CODES = pa.array([b"abc", b"def", b"ghi"])
TERMS = pa.array([[1, 2], [3, 4], [5, 15]], pa.list_(pa.uint32()))


def test_only_the_head_is_required(tmp_path: Path) -> None:
    batch = read(write(tmp_path / "a"))
    assert batch.heads == ["image-0"] * 3
    assert batch.causes == [Cause.BOOTSTRAPPED] * 3
    assert np.isnan(batch.scores).all()
    assert batch.matched == batch.founding_codes == [None] * 3
    assert (batch.terms, batch.codes) == (None, None)


def test_all_columns(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a",
        cause=pa.array(["founded", "matched", None]),
        probability=pa.array([None, 0.5, 1.0], pa.float32()),
        matched=pa.array([None, "image-0", None]),
        place=pa.array([4, 5, 9]),
        founding_code=pa.array([b"xyz", None, None]),
        terms=TERMS,
        code=CODES,
    )
    batch = read(file)
    assert batch.causes == [Cause.FOUNDED, Cause.MATCHED, Cause.BOOTSTRAPPED]
    assert batch.scores[1:].tolist() == [0.5, 1.0]
    assert batch.matched == [None, "image-0", None]
    assert batch.images.places.tolist() == [4, 5, 9]
    assert batch.founding_codes == [b"xyz", None, None]
    assert batch.terms is not None
    assert batch.codes is not None
    assert batch.terms.tolist() == [[1, 2], [3, 4], [5, 15]]
    assert [row.tobytes() for row in batch.codes] == [b"abc", b"def", b"ghi"]


def test_batches_begin_anywhere(tmp_path: Path) -> None:
    file = ClusteredFile(write(tmp_path / "a", rows=10, head=pa.array([f"image-{n}" for n in range(10)])), SIGNAL)
    found = [(batch.images.first, batch.heads) for batch in file.batches(4, 5)]
    assert [head for _, heads in found for head in heads] == [f"image-{n}" for n in range(5, 10)]
    assert found[0][0] == 5


@pytest.mark.parametrize(("terms", "code"), [("X", "C"), ("T", "X"), ("", "")])
def test_terms_and_codes_of_other_settings_are_not_read(tmp_path: Path, terms: str, code: str) -> None:
    made = FileMetadata("photos", terms=terms, code=code)
    founding = pa.array([b"no code of ours", None, None] if code != "C" else [b"xyz", None, None])
    batch = read(write(tmp_path / "a", made, terms=TERMS, code=CODES, founding_code=founding))
    assert (batch.terms is None) is (terms != "T")
    assert (batch.codes is None) is (code != "C")
    assert batch.founding_codes[0] == (b"xyz" if code == "C" else None)


FIXED = pa.array([b"abc", b"def", b"ghi"], pa.binary(3))


@pytest.mark.parametrize("codes", [None, CODES, FIXED])
@pytest.mark.parametrize("terms", [None, TERMS])
def test_an_index_gets_what_it_needs_and_no_more(tmp_path: Path, terms: Any, codes: Any) -> None:
    given = {"terms": terms, "code": codes, "image_version": pa.array([7, None, 9])}
    file = ClusteredFile(write(tmp_path / "a", **{name: one for name, one in given.items() if one is not None}), SIGNAL)
    for start in (0, 1, 2):
        (whole,), (found,) = file.batches(100, start), file.index_batches(100, start)
        assert found.rows.first == whole.images.first == start
        assert found.image_ids == whole.images.image_ids
        assert found.versions.tolist() == whole.images.versions.tolist() == [7, 1, 9][start:]
        for mine, theirs in ((found.terms, whole.terms), (found.codes, whole.codes)):
            assert (mine is None) is (theirs is None)
            assert mine is None or np.array_equal(mine, theirs)
        if terms is not None and codes is not None:
            assert found.vectors is None
        else:
            assert found.vectors is not None
            assert np.array_equal(found.vectors[0], whole.images.search)
            assert np.array_equal(found.vectors[1], whole.images.score)
    assert [len(batch.image_ids) for batch in file.index_batches(2, 1)] == [1, 1]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no head": ({"head": None}, "no column head"),
    "head of another type": ({"head": pa.array([1, 2, 3])}, "head must hold strings"),
    "unknown cause": ({"cause": pa.array(["founded", "made up", None])}, "row 1: column cause is 'made up'"),
    "cause of nothing": ({"cause": pa.array(["deleted", None, None])}, "row 0: column cause is 'deleted'"),
    "cause that hides it": ({"cause": pa.array(["unscored", None, None])}, "row 0: column cause is 'unscored'"),
    "score of 2": ({"probability": pa.array([None, 0.5, 2.0])}, r"row 2: column probability is 2\.0, not 0 to 1"),
    "score NaN": ({"probability": pa.array([None, float("nan"), 0.5])}, "row 1: column probability is nan"),
    "score of integers": ({"probability": pa.array([0, 1, 1])}, "probability must hold floats"),
    "code too short": ({"code": pa.array([b"abc", b"ab", b"abc"])}, "row 1: column code has 2 bytes"),
    "fixed code null": ({"code": pa.array([b"abc", None, b"abc"], pa.binary(3))}, "row 1: column code is null"),
    "fixed code too short": ({"code": pa.array([b"ab"] * 3, pa.binary(2))}, "row 0: column code has 2 bytes"),
    "code null": ({"code": pa.array([b"abc", None, b"abc"])}, "row 1: column code is null"),
    "code of text": ({"code": pa.array(["abc", "def", "ghi"])}, "code must hold bytes"),
    "terms too few": ({"terms": pa.array([[1, 2], [3], [4, 5]], pa.list_(pa.uint32()))}, "row 1: column terms has 1"),
    "term too high": ({"terms": pa.array([[1, 2], [3, 16], [4, 5]], pa.list_(pa.uint32()))}, r"row 1: .* the term 16"),
    "term null": ({"terms": pa.array([[1, 2], [3, None], [4, 5]], pa.list_(pa.uint32()))}, r"row 1: .* a null"),
    "terms of int64": ({"terms": pa.array([[1, 2], [3, 4], [4, 5]])}, "terms must hold lists of uint32"),
    "place null": ({"place": pa.array([1, None, 2])}, "row 1: column place is null"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(tmp_path: Path, name: str) -> None:
    columns, message = BAD[name]
    with pytest.raises(BadInputError, match=message):
        read(write(tmp_path / "a", **columns))


def test_metadata_is_required_and_must_fit(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"no metadata neardup\.format"):
        read(write(tmp_path / "a", None))
    with pytest.raises(MismatchError, match="made for 'faces', the settings say 'photos'"):
        read(write(tmp_path / "a", FileMetadata("faces")))
    later = {**MADE.encoded(), "neardup.format": "9"}
    pq.write_table(pq.read_table(write(tmp_path / "a")).replace_schema_metadata(later), tmp_path / "b")
    with pytest.raises(BadInputError, match="it has format 9, this program reads format 1"):
        read(tmp_path / "b")


def test_the_version_of_a_model_fits_into_the_records_that_carry_it(tmp_path: Path) -> None:
    longest = {**MADE.encoded(), "neardup.model": "é" * 512}
    table = pq.read_table(write(tmp_path / "a"))
    pq.write_table(table.replace_schema_metadata(longest), tmp_path / "b")
    read(tmp_path / "b")
    pq.write_table(table.replace_schema_metadata({**longest, "neardup.model": "é" * 512 + "x"}), tmp_path / "c")
    with pytest.raises(BadInputError, match=r"neardup\.model has 1025 bytes, the limit is 1024"):
        read(tmp_path / "c")
    with pytest.raises(BadInputError, match=r"neardup\.model has 1025 bytes"):
        FileMetadata("photos", model="m" * 1_025)


def test_metadata_comes_back() -> None:
    encoded = {key.encode(): value.encode() for key, value in MADE.encoded().items()}
    assert FileMetadata.decoded({**encoded, b"pandas": b"{}"}) == MADE
