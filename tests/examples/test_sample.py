"""The sample that the project carries is what its README says: whole, labelled, free of leaks between its splits."""

import csv
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.notifications import EmbeddingSpec
from manifests.image_files import ImageFile
from stream.centres import file_vectors, measure, read_centres

SAMPLE = Path(__file__).parents[2] / "examples" / "photos"


@pytest.fixture(scope="module")
def photos() -> pa.Table:
    return pq.read_table(SAMPLE / "photos.parquet")


def matrix(table: pa.Table, column: str) -> np.ndarray:
    return np.stack(table[column].to_numpy(zero_copy_only=False))


def test_columns_and_types(photos: pa.Table) -> None:
    assert photos.schema.names == [
        "image_id",
        "group_id",
        "kind",
        "family",
        "ignore_group",
        "klass",
        "split",
        "search",
        "score",
    ]
    assert photos.schema.field("search").type == pa.list_(pa.float16(), 1280)
    assert photos.schema.field("score").type == pa.list_(pa.float16(), 768)
    assert all(photos[name].null_count == 0 for name in photos.schema.names)


def test_ids_are_unique_and_all_of_the_free_data_set(photos: pa.Table) -> None:
    ids = photos["image_id"].to_pylist()
    assert len(set(ids)) == len(ids) == 2100
    assert all(image_id.startswith("clothing-") for image_id in ids)


@pytest.mark.parametrize("column", ["search", "score"])
def test_embeddings_can_be_published(photos: pa.Table, column: str) -> None:
    vectors = matrix(photos, column).astype(np.float32)
    assert np.isfinite(vectors).all()
    assert vectors.any(axis=1).all()


def test_no_group_lies_in_two_splits(photos: pa.Table) -> None:
    splits = defaultdict(set)
    for group, split in zip(photos["group_id"].to_pylist(), photos["split"].to_pylist(), strict=True):
        splits[group].add(split)
    assert all(len(names) == 1 for names in splits.values())
    shares = Counter(name for names in splits.values() for name in names)
    assert shares["train"] / len(splits) == pytest.approx(0.40, abs=0.01)
    assert shares["val"] / len(splits) == pytest.approx(0.25, abs=0.01)


def test_groups_are_whole(photos: pa.Table) -> None:
    kinds = defaultdict(Counter)
    for group, kind in zip(photos["group_id"].to_pylist(), photos["kind"].to_pylist(), strict=True):
        kinds[group][kind] += 1
    shapes = {"source": {"source": 1, "edit": 12}, "distractor": {"distractor": 1}, "natural": {"natural": 2}}
    assert all(dict(counts) in shapes.values() for counts in kinds.values())


def test_centres_are_means_of_photographs_like_these(photos: pa.Table) -> None:
    chosen = [
        split == "train" and kind != "edit"
        for split, kind in zip(photos["split"].to_pylist(), photos["kind"].to_pylist(), strict=True)
    ]
    with np.load(SAMPLE / "centres.npz") as centres:
        for name in ("score", "search", "signed_sqrt_search"):
            assert centres[name].dtype == np.float32
            # They come from more photographs than the sample holds; they take much away all the same.
            vectors = matrix(photos, name.removeprefix("signed_sqrt_"))[chosen].astype(np.float64)
            vectors = np.sqrt(vectors) if name == "signed_sqrt_search" else vectors
            assert ((vectors - centres[name]) ** 2).sum() < 0.8 * (vectors**2).sum()


def test_measurements_beside_the_centres_are_of_this_sample() -> None:
    stored = read_centres(SAMPLE / "centres.npz")
    specs = EmbeddingSpec("search", "1", 1280), EmbeddingSpec("score", "1", 768)
    again = measure(file_vectors(ImageFile(SAMPLE / "photos.parquet", 1280, 768)), stored.means, *specs)
    for side, measured in again.measured.items():
        for name in ("norms", "distances", "deviations"):
            assert getattr(stored.measured[side], name) == pytest.approx(getattr(measured, name))


def test_demo_pictures_are_listed_and_unseen_by_training(photos: pa.Table) -> None:
    with (SAMPLE / "demo" / "demo.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["file"] for row in rows} == {file.name for file in (SAMPLE / "demo").glob("*.jpg")}
    assert len(rows) == 54
    split_of = dict(zip(photos["image_id"].to_pylist(), photos["split"].to_pylist(), strict=True))
    assert {split_of[row["source_id"]] for row in rows} == {"test"}
    assert all((SAMPLE / "demo" / row["file"]).read_bytes().startswith(b"\xff\xd8\xff") for row in rows)


def test_readme_counts_are_true(photos: pa.Table) -> None:
    counts = Counter(zip(photos["split"].to_pylist(), photos["kind"].to_pylist(), strict=True))
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    for split in ("train", "val", "test"):
        row = re.search(rf"^\| {split} \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", readme, re.MULTILINE)
        assert row is not None
        kinds = ("source", "edit", "distractor", "natural")
        assert [int(number) for number in row.groups()] == [counts[split, kind] for kind in kinds]


def test_all_of_it_stays_small() -> None:
    assert sum(file.stat().st_size for file in SAMPLE.rglob("*") if file.is_file()) <= 12_000_000
