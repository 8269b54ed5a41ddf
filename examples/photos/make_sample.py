"""Makes the sample (the files beside this one) from a folder of labelled photographs with their embeddings.

    python examples/photos/make_sample.py SOURCE_FOLDER [TARGET_FOLDER]

SOURCE_FOLDER has `index.parquet` (one row per image), `search_f16.npy` and `score_f16.npy` (row n belongs to row n of
the index), and `demo/` (small JPEGs, `demo.csv`, and the same two arrays for its rows). Only the CC0 data set
`clothing` is used, in whole groups. Everything random is seeded: the same source gives the same bytes.
"""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.notifications import EmbeddingSpec
from manifests.image_files import ImageFile
from search.hashing.signed_sqrt import signed_sqrt
from stream.centres import SIGNED_SQRT_SEARCH, file_vectors, measure, write_centres
from training.labelled import keep_splits, read_photos

SEARCH_DIMENSION, SCORE_DIMENSION = 1280, 768

EMBEDDINGS = (("mobilenet_v2_1.0_224", SEARCH_DIMENSION), ("mobilenet_v1_0.75_192", SCORE_DIMENSION))

DATASET = "clothing"
"""The only data set of the source whose photographs are in the public domain (CC0 1.0)."""

EDITED_GROUPS = 115
"""Photographs that are in the sample with their twelve edits."""

LONE_PHOTOS = 603
"""Photographs without any copy."""

SPLITS = (("train", 0.40), ("val", 0.25), ("test", 0.35))
"""Shares of the groups; a group is never in two splits."""

SEED = 20_240_611

LABELS = ("image_id", "group_id", "kind", "family", "ignore_group", "klass")


def main(source: Path, target: Path) -> None:
    """Writes photos.parquet, centres.npz and demo/ into `target`."""
    index = pq.read_table(source / "index.parquet", columns=[*LABELS, "dataset"])
    row_numbers = pa.array(np.arange(index.num_rows))
    index = index.append_column("row", row_numbers).filter(pc.equal(index["dataset"], DATASET))
    demo = _demo_rows(source / "demo" / "demo.csv")
    splits = _choose_groups(index, {row["source_id"] for row in demo})
    rows = index.filter(pc.is_in(index["group_id"], pa.array(list(splits), type=index["group_id"].type)))
    # In random order, as in service: edits before and after their photograph, groups interleaved.
    rows = rows.take(np.random.default_rng(SEED).permutation(rows.num_rows))
    numbers = rows["row"].to_numpy()
    search = np.load(source / "search_f16.npy", mmap_mode="r")[numbers]
    score = np.load(source / "score_f16.npy", mmap_mode="r")[numbers]
    columns = {name: pc.cast(rows[name], pa.string()) for name in LABELS}
    columns["split"] = pa.array([splits[group] for group in rows["group_id"].to_pylist()])
    target.mkdir(parents=True, exist_ok=True)
    _write(columns, search, score, target / "photos.parquet")
    _write_centres(target / "centres.npz", _means(source, target / "photos.parquet"), target / "photos.parquet")
    _copy_demo(source / "demo", target / "demo", demo)
    _write_pictures(source / "demo", target / "demo" / "pictures.parquet", demo)


def _write(
    labels: dict[str, pa.Array], search: npt.NDArray[np.float16], score: npt.NDArray[np.float16], file: Path
) -> None:
    table = pa.table({**labels, "search": _fixed_lists(search), "score": _fixed_lists(score)})
    # Both arrays have under 5,000 distinct values (means of quantised activations): a dictionary saves a quarter.
    pq.write_table(
        table,
        file,
        compression="zstd",
        compression_level=19,
        dictionary_pagesize_limit=1 << 20,
        row_group_size=table.num_rows,
    )


def _choose_groups(index: pa.Table, demo_groups: set[str]) -> dict[str, str]:
    """The groups of the sample, each with its split.

    The photographs of the demo pictures and the natural copies are in the test split: neither training nor the choice
    of thresholds saw the pictures that a user looks at.
    """
    groups_of = {
        kind: sorted(set(index.filter(pc.equal(index["kind"], kind))["group_id"].to_pylist()))
        for kind in ("source", "distractor", "natural")
    }
    shown = {f"g-{source}" for source in demo_groups} & set(groups_of["source"])
    random = np.random.default_rng(SEED)
    edited = [group for group in groups_of["source"] if group not in shown]
    edited = [str(group) for group in random.choice(edited, EDITED_GROUPS - len(shown), replace=False)]
    lone = [str(group) for group in random.choice(groups_of["distractor"], LONE_PHOTOS, replace=False)]
    splits = dict.fromkeys([*sorted(shown), *groups_of["natural"]], "test")
    for groups, already_in_test in ((edited, len(shown)), (lone, 0)):
        total = len(groups) + already_in_test
        start = 0
        for split, share in SPLITS:
            end = len(groups) if split == "test" else start + round(total * share)
            splits.update(dict.fromkeys(groups[start:end], split))
            start = end
    return splits


def _fixed_lists(vectors: npt.NDArray[np.float16]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).reshape(-1)), vectors.shape[1])


def _write_centres(file: Path, means: dict[str, npt.NDArray[np.float32]], sample: Path) -> None:
    """Measures norms and distances on the sample, edits included: `neardup centres --keep-means` does the same."""
    specs = [EmbeddingSpec(name, "1", dimension) for name, dimension in EMBEDDINGS]
    images = ImageFile(sample, SEARCH_DIMENSION, SCORE_DIMENSION)
    write_centres(file, measure(file_vectors(images), means, *specs))


def _means(source: Path, sample: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Means over all photographs of the source in the training split, not only those of the sample."""
    photos = keep_splits(read_photos(source, SEARCH_DIMENSION, SCORE_DIMENSION), sample)
    photos = photos.where(photos.is_photo & (photos.split == "train"))
    vectors = {"search": photos.search, "score": photos.score, SIGNED_SQRT_SEARCH: signed_sqrt(photos.search)}
    return {name: rows.mean(axis=0, dtype=np.float64).astype(np.float32) for name, rows in vectors.items()}


def _demo_rows(file: Path) -> list[dict[str, str]]:
    """The pictures of the data set, each with its row in the table, which is its row in the arrays beside it."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [{**row, "row": str(number)} for number, row in enumerate(csv.DictReader(lines))]
    return [row for row in rows if row["dataset"] == DATASET]


def _write_pictures(source: Path, file: Path, rows: list[dict[str, str]]) -> None:
    """Embeddings and labels of the edited pictures; the photographs themselves are in the sample already."""
    edits = [row for row in rows if row["family"]]
    labels = {
        "image_id": [Path(row["file"]).stem for row in edits],
        "group_id": [f"g-{row['source_id']}" for row in edits],
        "kind": ["edit"] * len(edits),
        "family": [row["family"] for row in edits],
        "ignore_group": [""] * len(edits),
        "klass": [row["klass"] for row in edits],
        "split": ["test"] * len(edits),
    }
    numbers = [int(row["row"]) for row in edits]
    search, score = (np.load(source / f"{name}_f16.npy")[numbers] for name in ("search", "score"))
    _write({name: pa.array(values, pa.string()) for name, values in labels.items()}, search, score, file)


def _copy_demo(source: Path, target: Path, rows: list[dict[str, str]]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for row in rows:
        shutil.copyfile(source / row["file"], target / row["file"])
    with (target / "demo.csv").open("w", encoding="utf-8", newline="") as lines:
        names = [name for name in rows[0] if name != "row"]
        writer = csv.DictWriter(lines, fieldnames=names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent)
