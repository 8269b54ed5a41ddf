"""Synthetic near-duplicates: the same for one seed, in any batch; skewed sizes; copies nearer than strangers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic import SyntheticSettings, Universe, write_images
from manifests.image_files import ImageFile
from stream.demo.sample import SAMPLE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def universe() -> Universe:
    return Universe(ROOT / SAMPLE, SyntheticSettings(seed=7, basis=64))


def test_an_image_is_the_same_in_any_batch(universe: Universe) -> None:
    images, originals = np.arange(20), universe.originals(20)
    whole = universe.vectors(images, originals)
    alone = universe.vectors(images[7:8], originals[7:8])
    for together, single in zip(whole, alone, strict=True):
        assert np.allclose(together[7:8].astype(np.float32), single.astype(np.float32), atol=2e-3)


def test_originals_come_before_their_copies_and_more_images_change_nothing(universe: Universe) -> None:
    originals = universe.originals(2_000)
    assert (originals <= np.arange(2_000)).all()
    assert (originals[originals] == originals).all()


def test_sizes_are_skewed_around_their_mean(universe: Universe) -> None:
    _, sizes = np.unique(universe.originals(20_000), return_counts=True)
    assert 5 < sizes.mean() < 7
    assert np.median(sizes) <= 3
    assert sizes.max() > 20_000 / 100


def test_copies_are_nearer_than_strangers(universe: Universe) -> None:
    originals = universe.originals(300)
    search = universe.vectors(np.arange(300), originals)[0].astype(np.float32)
    search -= search.mean(axis=0)
    search /= np.linalg.norm(search, axis=1, keepdims=True)
    cosines = search @ search.T
    same = originals[:, None] == originals[None, :]
    np.fill_diagonal(same, val=False)
    assert cosines[same].min() > np.quantile(cosines[~same & ~np.eye(300, dtype=bool)], 0.99)


def test_the_file_is_one_that_can_be_published(universe: Universe, tmp_path: Path) -> None:
    names = [f"image-{number}" for number in range(1_500)]
    originals = write_images(universe, tmp_path / "images.parquet", names)
    rows = list(ImageFile(tmp_path / "images.parquet", 1280, 768))
    assert [row.image_id for row in rows] == names
    assert len(originals) == len(names)
    expected = universe.vectors(np.arange(1_234, 1_235), originals[1_234:1_235])[1][0]
    written = np.frombuffer(rows[1_234].score.data, "<f2")
    assert np.allclose(written.astype(np.float32), expected.astype(np.float32), atol=2e-3)
