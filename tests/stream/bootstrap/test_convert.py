"""Manifests from files of other systems: checked, equal to what came in, or refused with every fault."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.errors import BadInputError
from core.notifications import EmbeddingSpec
from core.types import Cause
from core.vector_limits import VectorLimits
from manifests.checking import check_manifest
from manifests.clustered_files import ClusteredBatch, Signal
from manifests.faults import MAX_LISTED
from manifests.folder import LocalFolder
from manifests.manifest import Kind, Manifest
from manifests.rows import read_rows
from manifests.value_checks import ValueChecks
from stream.bootstrap.convert import Conversion, Converted, FaultyRowsError, convert
from stream.bootstrap.sources import Columns
from tests.stream.bootstrap.test_order import ROWS, Row, heads_of_clusters, written_head

SEARCH, SCORE = 4, 3
SIGNAL = Signal("photos", SEARCH, SCORE, terms="T", groups=2, bits_per_group=4, code="C", code_bytes=3)
CHECKS = ValueChecks(VectorLimits(EmbeddingSpec("s", "1", SEARCH)), VectorLimits(EmbeddingSpec("c", "1", SCORE)))


def vectors(rows: int, size: int) -> NDArray[np.float32]:
    """Numbers that differ from row to row, and are exact in float16 and in decimals."""
    return (1 + np.arange(rows * size) * 7919 % 1009).astype(np.float32).reshape(rows, size) / 4


def table(rows: Sequence[Row], **columns: Any) -> pa.Table:
    """The rows as another system has them; columns may be replaced, or (None) taken away."""
    good: dict[str, Any] = {
        "image_id": pa.array([row[0] for row in rows], pa.string()),
        "image_version": pa.array([row[1] for row in rows], pa.int64()),
        "created_at": pa.array([row[2] or None for row in rows], pa.int64()),
        "head": pa.array([row[3] for row in rows], pa.string()),
        "search": pa.array(list(vectors(len(rows), SEARCH)), pa.list_(pa.float32())),
        "score": pa.array(list(vectors(len(rows), SCORE)), pa.list_(pa.float32())),
    }
    return pa.table({name: values for name, values in {**good, **columns}.items() if values is not None})


def asked(files: Sequence[Path], columns: Columns | None = None, **options: Any) -> Conversion:
    return Conversion(files, columns or Columns(), SIGNAL, CHECKS, **options)


def write(path: Path, content: pa.Table) -> Path:
    pq.write_table(content, path, row_group_size=5)
    return path


def made(root: Path, conversion: Conversion, name: str = "one") -> Converted:
    spool = root / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    try:
        return convert(conversion, LocalFolder(root), name, spool)
    finally:
        assert list(spool.iterdir()) == []


def read(root: Path, manifest: Manifest) -> list[ClusteredBatch]:
    return [each.batch for each in read_rows(LocalFolder(root), manifest, SIGNAL, root, at_once=7)]


Told = list[tuple[str, int, int, list[float], list[float], str | None]]


def told(batches: Sequence[ClusteredBatch]) -> Told:
    """The rows as plain values."""
    found: Told = []
    for batch in batches:
        images = batch.images
        columns = images.image_ids, images.versions.tolist(), images.created_at_ms.tolist()
        found += zip(*columns, images.search.tolist(), images.score.tolist(), batch.heads, strict=True)
    return found


def expected(rows: Sequence[Row], heads: dict[str, str | None]) -> Told:
    search, score = vectors(len(rows), SEARCH).tolist(), vectors(len(rows), SCORE).tolist()
    return [
        (image, version, time, search[row], score[row], written_head(rows, heads, row))
        for row, (image, version, time, _) in enumerate(rows)
    ]


def faults(root: Path, conversion: Conversion) -> list[str]:
    """The faults of a conversion that makes nothing."""
    with pytest.raises(FaultyRowsError, match="nothing was written") as caught:
        made(root, conversion)
    assert [path for path in root.rglob("*") if path.is_file() and path not in conversion.files] == []
    assert caught.value.count >= len(caught.value.faults)
    return [str(fault).replace(f"{root}/", "") for fault in caught.value.faults]


def as_csv(path: Path, rows: Sequence[Row], *, json_lists: bool) -> Path:
    """The rows as CSV."""
    lines = ["image_id,image_version,created_at,head,search,score"]
    for row, (image, version, time, head) in enumerate(rows):
        sides = [vectors(len(rows), size)[row].tolist() for size in (SEARCH, SCORE)]
        texts = [f'"{json.dumps(side)}"' if json_lists else " ".join(map(str, side)) for side in sides]
        lines.append(",".join([image, str(version), str(time or ""), head or "", *texts]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS.filter(bool), form=st.sampled_from(["parquet", "json", "spaces"]), split=st.integers(0, 14))
def test_what_was_made_is_sound_and_holds_what_came_in(tmp_path: Path, rows: list[Row], form: str, split: int) -> None:
    """Rows of clusters, in two files; their heads are the oracle's."""
    root = tmp_path / uuid.uuid4().hex
    root.mkdir()
    once = list({row[:2]: row for row in rows}.values())
    files = []
    parts = [part for part in (slice(0, split), slice(split, None)) if once[part]]
    for number, part in enumerate(parts):
        if form == "parquet":
            files.append(write(root / f"{number}.parquet", table(once).slice(part.start, len(once[part]))))
        else:
            lines = as_csv(root / "all.csv", once, json_lists=form == "json").read_text().splitlines()
            files.append(root / f"{number}.csv")
            files[-1].write_text("\n".join([lines[0], *lines[1:][part]]) + "\n")
    converted = made(root, asked(files, clusters=True))
    report = check_manifest(LocalFolder(root), "one.json", SIGNAL, CHECKS, root)
    assert list(report.faults.listed) == []
    found = told(read(root, converted.manifest))
    assert sorted(found, key=lambda row: row[:2]) == sorted(
        expected(once, heads_of_clusters(once)), key=lambda row: row[:2]
    )
    assert converted.manifest.kind is Kind.SNAPSHOT


ORDERED: list[Row] = [("a", 1, 0, "a"), ("b", 1, 5, "a"), ("c", 1, 0, "c"), ("b", 2, 7, "c")]
HEADS: dict[str, str | None] = {"a": "a", "b": "c", "c": "c"}


def test_rows_in_a_good_order_stay_and_are_read_once(tmp_path: Path) -> None:
    converted = made(tmp_path, asked([write(tmp_path / "in.parquet", table(ORDERED))]))
    assert converted.readings == 1
    assert told(read(tmp_path, converted.manifest)) == expected(ORDERED, HEADS)


def test_all_columns_under_names_of_their_own(tmp_path: Path) -> None:
    count = len(ORDERED)
    content = pa.table(
        {
            "photo": pa.array([10, 11, 12, 11]),
            "rev": pa.array([1.0, 1.0, None, 2.0]),
            "taken": pa.array(["2025-11-01T12:00:00Z", "2025-11-01T12:00:00.250", None, "7"]),
            "group": pa.array([10, 10, 12, 12]).dictionary_encode(),
            "like": pa.array([None, 10, None, 12]),
            "how sure": pa.array([None, 1, None, 0]),
            "why": pa.array([None, "matched", "founded", "matched"]),
            "wide": pa.array(list(vectors(count, SEARCH).astype(np.float64)), pa.large_list(pa.float64())),
            **{f"emb {n}": pa.array(vectors(count, SCORE)[:, n], pa.float64()) for n in range(SCORE)},
        }
    )
    columns = Columns(
        image_id="photo",
        image_version="rev",
        created_at="taken",
        cluster="group",
        matched="like",
        probability="how sure",
        cause="why",
        search="wide",
        score="emb *",
    )
    converted = made(tmp_path, asked([write(tmp_path / "in.parquet", content)], columns, model="m-7", rule="by hand"))
    (batch,) = read(tmp_path, converted.manifest)
    assert batch.images.image_ids == ["10", "11", "12", "11"]
    assert batch.images.versions.tolist() == [1, 1, 1, 2]
    assert batch.images.created_at_ms.tolist() == [1761998400000, 1761998400250, 0, 7]
    assert batch.heads == ["10", None, "12", "12"]
    assert batch.matched == [None, "10", None, "12"]
    assert batch.scores[[1, 3]].tolist() == [1.0, 0.0]
    assert np.isnan(batch.scores[[0, 2]]).all()
    assert batch.causes == [Cause.BOOTSTRAPPED, Cause.MATCHED, Cause.FOUNDED, Cause.MATCHED]
    assert batch.images.search.tolist() == vectors(count, SEARCH).tolist()
    assert batch.images.score.tolist() == vectors(count, SCORE).tolist()
    (found,) = read_rows(LocalFolder(tmp_path), converted.manifest, SIGNAL, tmp_path, at_once=7)
    assert (found.file.metadata.model, found.file.metadata.rule) == ("m-7", "by hand")


def test_numbers_of_csv_may_lie_in_columns(tmp_path: Path) -> None:
    names = [f"s{n}" for n in (2, 0, 1, 3)]
    lines = [",".join(["image_id", "head", "score", *names]), 'a,a,"1 2 3",2.5,.5,1e0,-3', 'b,a,"[4, 5,6]",7,5,6,8']
    (tmp_path / "in.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    converted = made(tmp_path, asked([tmp_path / "in.csv"], Columns(search="s*")))
    (batch,) = read(tmp_path, converted.manifest)
    assert batch.images.search.tolist() == [[0.5, 1, 2.5, -3], [5, 6, 7, 8]]
    assert batch.images.score.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_compressed_csv_and_tsv_are_taken(tmp_path: Path) -> None:
    plain = as_csv(tmp_path / "in.csv", ORDERED, json_lists=False).read_text()
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(plain.encode()))
    (tmp_path / "in.tsv").write_text(plain.replace(",", "\t"))
    for name in ("in.csv.gz", "in.tsv"):
        converted = made(tmp_path, asked([tmp_path / name]), name)
        assert told(read(tmp_path, converted.manifest)) == expected(ORDERED, HEADS)


def test_columns_of_single_half_numbers(tmp_path: Path) -> None:
    columns = {f"s{n}": pa.array(vectors(4, SEARCH)[:, n].astype(np.float16)) for n in range(SEARCH)}
    content = table(ORDERED, search=None, **columns)
    converted = made(tmp_path, asked([write(tmp_path / "in.parquet", content)], Columns(search="s*")))
    assert told(read(tmp_path, converted.manifest)) == expected(ORDERED, HEADS)
    assert {str(batch.images.search.dtype) for batch in read(tmp_path, converted.manifest)} == {"float16"}


def test_float16_stays_if_every_file_has_it(tmp_path: Path) -> None:
    half = pa.array(list(vectors(4, SEARCH).astype(np.float16)), pa.list_(pa.float16()))
    first = write(tmp_path / "1.parquet", table(ORDERED, search=half))
    second = write(tmp_path / "2.parquet", table([("d", 1, 0, "d")]))
    converted = made(tmp_path, asked([first]), "half")
    assert {str(batch.images.search.dtype) for batch in read(tmp_path, converted.manifest)} == {"float16"}
    assert told(read(tmp_path, converted.manifest)) == expected(ORDERED, HEADS)
    converted = made(tmp_path, asked([first, second]), "both")
    assert {str(batch.images.search.dtype) for batch in read(tmp_path, converted.manifest)} == {"float32"}


def test_terms_and_codes_are_made_of_the_rows_that_they_stand_beside(tmp_path: Path) -> None:
    def hashing(
        search: NDArray[np.float32], score: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        return search[:, :2].astype(np.uint32) % 16, score.astype(np.uint8)

    rows = [ORDERED[3], *ORDERED[:3]]
    converted = made(tmp_path, asked([write(tmp_path / "in.parquet", table(rows))], hashing=hashing))
    for batch in read(tmp_path, converted.manifest):
        terms, codes = hashing(batch.images.search, batch.images.score)
        assert batch.terms is not None
        assert batch.codes is not None
        assert (batch.terms.tolist(), batch.codes.tolist()) == (terms.tolist(), codes.tolist())
    assert check_manifest(LocalFolder(tmp_path), "one.json", SIGNAL, CHECKS, tmp_path).hashed == 4


def test_a_delta_may_name_heads_of_before(tmp_path: Path) -> None:
    first = made(tmp_path, asked([write(tmp_path / "in.parquet", table(ORDERED))]))
    rows: list[Row] = [("d", 1, 0, "a"), ("e", 1, 0, "d2"), ("d2", 1, 0, "d2")]
    conversion = asked([write(tmp_path / "more.parquet", table(rows))], previous=first.manifest.id)
    delta = made(tmp_path, conversion, "two").manifest
    assert (delta.kind, delta.previous) == (Kind.DELTA, first.manifest.id)
    assert [row[0] for row in told(read(tmp_path, delta))] == ["d", "d2", "e"]
    assert list(check_manifest(LocalFolder(tmp_path), "two.json", SIGNAL, CHECKS, tmp_path).faults.listed) == []


def changed(name: str, row: int, value: Any) -> pa.Table:
    """The rows with one value changed."""
    content = table(ORDERED, matched=pa.array([None] * 4, pa.string()), probability=pa.array([0.5] * 4))
    values = content[name].to_pylist()
    values[row] = value
    at = content.schema.names.index(name)
    return content.set_column(at, name, pa.array(values, content.schema.field(name).type))


FAULTS: dict[str, tuple[pa.Table, str]] = {
    "no id": (changed("image_id", 2, None), "row 2: column image_id is null"),
    "empty id": (changed("image_id", 2, ""), "row 2: column image_id is refused: the image id is empty"),
    "long id": (changed("image_id", 2, "x" * 300), "row 2: column image_id is refused: the image id has 300"),
    "version": (changed("image_version", 2, -1), "row 2: column image_version is -1, not 0 to"),
    "time": (changed("created_at", 2, -1), "row 2: column created_at is -1, not 0 to .*leave a time before 1970 empty"),
    "empty head": (changed("head", 3, ""), "row 3: names no head"),
    "no head": (changed("head", 3, None), "row 3: names no head"),
    "unknown head": (changed("head", 3, "x"), "row 3: names the head 'x', which has no row"),
    "matched": (changed("matched", 2, ""), "row 2: column matched is refused"),
    "score": (changed("probability", 2, 2.0), r"row 2: column probability is 2\.0"),
    "dimension": (changed("search", 2, [1.0]), "row 2: column search has 1 numbers, the signal's embedding has 4"),
    "no vector": (changed("score", 2, None), "row 2: column score is null"),
    "null in a vector": (changed("score", 2, [1, None, 2]), "row 2: column score has a null among its numbers"),
    "NaN": (changed("score", 2, [1, np.nan, 2]), r"row 2: column score is refused: score\[1\] is not a number"),
    "zeros": (changed("search", 2, [0] * 4), "row 2: column search is refused: all 4 numbers of search are zero"),
    "constant": (changed("search", 2, [3] * 4), "row 2: column search is refused: the numbers of the vector are equal"),
    "twice": (changed("image_version", 3, 1), "row 3: has the same image and version as row 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    content, message = FAULTS[name]
    (fault,) = faults(tmp_path, asked([write(tmp_path / "in.parquet", content)]))
    assert fault.startswith("in.parquet: row ")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(fault)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_an_empty_cluster_is_none(tmp_path: Path, kind: Any) -> None:
    """In Parquet as in CSV: such images are together with nobody."""
    clusters = pa.array(["", "k", "", "k"]).cast(kind)
    content = table([(name, 1, 0, None) for name in "abcd"], group=clusters)
    path = write(tmp_path / "in.parquet", content)
    found = made(tmp_path, asked([path], Columns(cluster="group"), clusters=True))
    (batch,) = read(tmp_path, found.manifest)
    assert dict(zip(batch.images.image_ids, batch.heads, strict=True)) == {"a": "a", "b": "b", "c": "c", "d": "b"}


def test_a_head_of_another_cluster_is_named_with_its_row(tmp_path: Path) -> None:
    first = write(tmp_path / "1.parquet", table(ORDERED[:2]))
    second = write(tmp_path / "2.parquet", table([("c", 1, 0, "b")]))
    assert faults(tmp_path, asked([first, second])) == [
        "2.parquet: row 0: names the head 'b', which is in another cluster by row 1 of 1.parquet"
    ]


def test_all_faults_of_all_files_are_named(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "1.parquet", changed("score", 2, [0] * 3)),
        write(tmp_path / "2.parquet", table([("d", 1, 0, "d")] * 1, score=pa.array([[np.inf, 1, 2]]))),
        tmp_path / "3.csv",
    ]
    paths[2].write_text("image_id,head,search,score\ne,e,1 2 3 4,1 2 3\nf,f,1 2 3 4,1 2 nan\n")
    assert [fault.partition(": column")[0] for fault in faults(tmp_path, asked(paths))] == [
        "1.parquet: row 2",
        "2.parquet: row 0",
        "3.csv: row 1",
    ]


CSV_FAULTS = {
    "a word among numbers": ("a,1,,a,1 2 x 4,1 2 3", "row 0: column search holds 'x', which is no number"),
    "an empty list": ("a,1,,a,[],1 2 3", "row 0: column search holds '', which is no number"),
    "version": ("a,1.5,,a,1 2 3 4,1 2 3", "row 0: column image_version is '1.5', which is no whole number"),
    "time": ("a,1,soon,a,1 2 3 4,1 2 3", "row 0: column created_at is 'soon', which is no time"),
    "no numbers": ("a,1,,a,,1 2 3", "row 0: column search is null"),
}


def test_a_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"image_id,head,search,score\n\xff,a,1 2 3 4,1 2 3\n")
    (fault,) = faults(tmp_path, asked([tmp_path / "in.csv"]))
    assert fault == r"in.csv: row 0: column image_id holds b'\xff', which is not UTF-8"


@pytest.mark.parametrize("name", CSV_FAULTS)
def test_each_fault_of_csv_is_named(tmp_path: Path, name: str) -> None:
    line, message = CSV_FAULTS[name]
    (tmp_path / "in.csv").write_text(f"image_id,image_version,created_at,head,search,score\n{line}\n")
    assert faults(tmp_path, asked([tmp_path / "in.csv"])) == [f"in.csv: {message}"]


def test_very_many_faults_are_counted(tmp_path: Path) -> None:
    rows: list[Row] = [(f"image-{number}", 1, 0, "nobody") for number in range(MAX_LISTED + 10)]
    with pytest.raises(FaultyRowsError, match="1,010 faults") as caught:
        made(tmp_path, asked([write(tmp_path / "in.parquet", table(rows))]))
    assert len(caught.value.faults) == MAX_LISTED


def refused(
    root: Path, content: pa.Table | bytes | None, columns: Columns | None = None, name: str = "in.parquet"
) -> str:
    """The message about a file that cannot be read."""
    if isinstance(content, bytes):
        (root / name).write_bytes(content)
    elif content is not None:
        write(root / name, content)
    with pytest.raises(BadInputError) as caught:
        made(root, asked([root / name], columns))
    return str(caught.value)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    assert "cannot read" in refused(tmp_path, None)
    assert "cannot read" in refused(tmp_path, None, name="in.csv")
    assert "not a Parquet file" in refused(tmp_path, b"no Parquet")
    assert "does not begin with the names" in refused(tmp_path, b"\xff\xfe\xff\n", name="in.csv")
    head = b"image_id,head,search,score\n"
    assert "cannot be read after row 0" in refused(tmp_path, head + b"a,a\n", name="in.csv")
    assert "no row in the files" in refused(tmp_path, head, name="in.csv")


def test_columns_that_are_missing_are_named_with_what_to_do(tmp_path: Path) -> None:
    assert "no column search: images are taken with their embeddings" in refused(tmp_path, table(ORDERED, search=None))
    assert "no column head: name the one with the heads" in refused(tmp_path, table(ORDERED, head=None))
    assert "no column when; its columns are image_id" in refused(tmp_path, table(ORDERED), Columns(created_at="when"))
    assert "has 0 columns e* with a number" in refused(tmp_path, table(ORDERED), Columns(search="e*"))
    texts = pa.array([1, 2, 3, 4])
    assert "column search must hold lists of numbers, it holds int64" in refused(tmp_path, table(ORDERED, search=texts))
    numbers = pa.array([1.0, 2.0, 3.0, 4.0])
    assert "column head must hold strings or whole numbers, it holds double" in refused(
        tmp_path, table(ORDERED, head=numbers)
    )
    twice = table(ORDERED).append_column("head", pa.array(["a"] * 4))
    assert "has 2 columns of the name head" in refused(tmp_path, twice)


def test_the_name_must_be_free(tmp_path: Path) -> None:
    conversion = asked([write(tmp_path / "in.parquet", table(ORDERED))])
    made(tmp_path, conversion)
    with pytest.raises(BadInputError, match="has a manifest one already"):
        made(tmp_path, conversion)


def test_many_rows_in_any_order(tmp_path: Path) -> None:
    """Several batches and row groups, two readings."""
    count, drawn = 5000, random.Random(5)
    rows: list[Row] = [(f"image-{number}", 1, 0, f"image-{number - number % 6}") for number in range(count)]
    drawn.shuffle(rows)
    steps: list[str] = []
    conversion = asked([write(tmp_path / "in.parquet", table(rows))])
    (tmp_path / "spool").mkdir()
    converted = convert(
        conversion, LocalFolder(tmp_path), "one", tmp_path / "spool", lambda step, done, total: steps.append(step)
    )
    assert converted.readings == 2
    assert list(dict.fromkeys(steps)) == ["keys", "order", "rows"]
    report = check_manifest(LocalFolder(tmp_path), "one.json", SIGNAL, CHECKS, tmp_path)
    assert (list(report.faults.listed), report.images, report.clusters) == ([], count, -(-count // 6))
    found = told(read(tmp_path, converted.manifest))
    heads = {image: head for image, _, _, head in rows}
    assert sorted(found) == sorted(expected(rows, heads))


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.stream.bootstrap.test_convert import jumbled_conversion
from manifests.folder import LocalFolder
from stream.bootstrap.convert import convert

calls = 0
def die(step, done, total):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

root = Path(sys.argv[1])
convert(jumbled_conversion(root), LocalFolder(root / "to"), "one", root / "spool", die)
"""


def jumbled_conversion(root: Path) -> Conversion:
    """Of some thousands of rows that need two readings, in a file that is written unless it is there."""
    count, path = 3000, root / "in.parquet"
    rows: list[Row] = [(f"image-{number}", 1, 0, f"image-{number - number % 6}") for number in range(count)]
    random.Random(5).shuffle(rows)
    if not path.exists():
        write(path, table(rows))
    return asked([path])


@pytest.mark.parametrize("step", [2, 6, 9])
def test_a_run_that_is_killed_leaves_no_manifest_and_can_be_said_again(tmp_path: Path, step: int) -> None:
    """Killed while ids are read, in the first reading of embeddings, and in the second."""
    (tmp_path / "spool").mkdir()
    conversion = jumbled_conversion(tmp_path)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(step)], check=False)
    assert killed.returncode == -signal.SIGKILL
    folder = LocalFolder(tmp_path / "to")
    assert not (tmp_path / "to" / "manifests").exists()
    again = convert(conversion, folder, "one", tmp_path / "spool").manifest
    (tmp_path / "other").mkdir()
    assert again.id == made(tmp_path / "other", conversion).manifest.id


@pytest.mark.parametrize("step", ["keys", "order", "rows"])
def test_a_run_that_is_interrupted_leaves_nothing(tmp_path: Path, step: str) -> None:
    def stop(now: str, done: int, total: int | None) -> None:
        if now == step:
            raise KeyboardInterrupt

    (tmp_path / "spool").mkdir()
    conversion = jumbled_conversion(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        convert(conversion, LocalFolder(tmp_path / "to"), "one", tmp_path / "spool", stop)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == list(conversion.files)
