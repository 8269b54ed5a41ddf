"""Neighbourhoods: copies are copies, look-alikes are not, and a file of any length is read in little memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError
from search.hashing.terms import TermSettings
from search.ranking import Ranking
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, with_natural_copies, write_made_up
from training.candidates import rank_candidates
from training.labelled import LabelledPhotos, read_photos
from training.neighbourhoods import COPIES, Neighbourhoods, read_neighbourhoods, write_neighbourhoods

LOOK_ALIKES = 5
TERMS = TermSettings(SEARCH_DIMENSION, 1, 64, 24, 4)


@pytest.fixture
def photos(tmp_path: Path) -> LabelledPhotos:
    path = write_made_up(tmp_path / "photos.parquet")
    return read_photos(path, SEARCH_DIMENSION, SCORE_DIMENSION).of("train")


@pytest.fixture
def make(photos: LabelledPhotos) -> Callable[..., Neighbourhoods]:
    def made(of: LabelledPhotos = photos, never: tuple[tuple[str, str], ...] = ()) -> Neighbourhoods:
        ranked = rank_candidates(TERMS.build().terms(of.search), None, Ranking(30))
        return Neighbourhoods(of, ranked, LOOK_ALIKES, never)

    return made


def test_copies_share_the_seeds_group_and_look_alikes_do_not(
    photos: LabelledPhotos, make: Callable[..., Neighbourhoods]
) -> None:
    drawn = make().draw(400, np.random.default_rng(0))
    groups = photos.group_id[drawn]
    assert drawn.shape == (400, 1 + COPIES + LOOK_ALIKES)
    assert (groups[:, 1 : 1 + COPIES] == groups[:, :1]).all()
    assert (groups[:, 1 + COPIES :] != groups[:, :1]).all()


def test_a_lone_seed_stands_in_for_its_copies(photos: LabelledPhotos, make: Callable[..., Neighbourhoods]) -> None:
    drawn = make().draw(400, np.random.default_rng(0))
    lone = photos.kind[drawn[:, 0]] == "distractor"
    assert lone.any()
    assert (drawn[lone, 1 : 1 + COPIES] == drawn[lone, :1]).all()


def test_half_of_the_seeds_are_photographs(photos: LabelledPhotos, make: Callable[..., Neighbourhoods]) -> None:
    seeds = make().draw(2000, np.random.default_rng(1))[:, 0]
    assert 0.45 < photos.is_photo[seeds].mean() < 0.55


def test_pairs_that_are_weighed_heavily_come_often(make: Callable[..., Neighbourhoods]) -> None:
    made = make()
    images, others = made.look_alike_pairs()
    logits = np.where(others == np.bincount(others).argmax(), 5.0, -5.0)
    favoured = int(np.bincount(others).argmax())
    before = (made.draw(500, np.random.default_rng(2)) == favoured).sum()
    made.weigh(logits, hardness=1.0)
    drawn = made.draw(500, np.random.default_rng(2))
    assert (drawn == favoured).sum() > 2 * before
    allowed = set(zip(images.tolist(), others.tolist(), strict=True))
    pairs = {(int(row[0]), int(one)) for row in drawn for one in row[1 + COPIES :]}
    assert pairs <= allowed


def forbidden_by_name(photos: LabelledPhotos, drawn: np.ndarray) -> np.ndarray:
    """For all pairs of drawn rows, in words: the natural copies of one group, and the scene of two others."""
    names = np.array([name.rsplit("-", 1)[0] for name in photos.image_id.tolist()])[drawn]
    one, other = np.triu_indices(drawn.shape[1], 1)
    pairs = np.sort(np.stack([names[:, one], names[:, other]]), axis=0)
    natural = (pairs[0] == "g-train-0") & (pairs[1] == "g-train-1")
    scene = (pairs[0] == "g-train-2") & (pairs[1] == "g-train-3")
    assert natural.any() or scene.any()
    both: np.ndarray = natural | scene
    return both


NEVER = (("g-train-0-0", "g-train-1-0"), ("g-train-3-0", "g-train-2-0"))


def test_pairs_that_are_never_trained_on_are_told_wherever_they_meet(
    tmp_path: Path, make: Callable[..., Neighbourhoods]
) -> None:
    pq.write_table(with_natural_copies(), tmp_path / "natural.parquet")
    photos = read_photos(tmp_path / "natural.parquet", SEARCH_DIMENSION, SCORE_DIMENSION).of("train")
    made = make(photos, NEVER)
    drawn = made.draw(3000, np.random.default_rng(0)).astype(np.int64)
    forbidden = made.forbidden(drawn)
    np.testing.assert_array_equal(forbidden, forbidden_by_name(photos, drawn))
    # A seed meets none of them unless it was given images at random; look-alikes meet one another.
    with_seed = np.triu_indices(drawn.shape[1], 1)[0] == 0
    lone = np.isin(drawn[:, 0], made.look_alike_pairs()[0], invert=True)
    assert not forbidden[~lone][:, with_seed].any()
    assert forbidden[:, ~with_seed].any()
    # Whatever may come together, all pairs are told.
    mixed = np.random.default_rng(1).integers(0, len(photos), (2000, drawn.shape[1]))
    np.testing.assert_array_equal(made.forbidden(mixed), forbidden_by_name(photos, mixed))
    assert not make(photos).forbidden(drawn).any()


def test_without_copies_there_is_nothing_to_learn(photos: LabelledPhotos, make: Callable[..., Neighbourhoods]) -> None:
    with pytest.raises(BadInputError, match="0 pairs of copies"):
        make(photos.where(photos.kind == "distractor"))


def test_a_file_gives_back_what_was_drawn(make: Callable[..., Neighbourhoods], tmp_path: Path) -> None:
    path = tmp_path / "neighbourhoods.parquet"
    write_neighbourhoods(make(), 103, np.random.default_rng(4), path)
    batches = list(read_neighbourhoods(path, 10))
    assert [batch.shape for batch in batches] == [(10, 1 + COPIES + LOOK_ALIKES)] * 10
    np.testing.assert_array_equal(np.concatenate(batches), make().draw(103, np.random.default_rng(4))[:100])


_MANY = """
import resource, sys
from pathlib import Path
import numpy as np
from training.candidates import RankedCandidates
from training.labelled import read_photos
from training.neighbourhoods import Neighbourhoods, read_neighbourhoods, write_neighbourhoods

photos = read_photos(Path(sys.argv[1]), 24, 16)
others = np.tile(np.arange(len(photos))[::-1], len(photos))
ranked = RankedCandidates(np.arange(len(photos) + 1) * len(photos), others, np.ones(len(others), np.int64))
made = Neighbourhoods(photos, ranked, 8)
path = Path(sys.argv[2])

def run(count):
    write_neighbourhoods(made, count, np.random.default_rng(0), path)
    pairs = sum(rows.shape[0] * rows.shape[1] * (rows.shape[1] - 1) // 2 for rows in read_neighbourhoods(path, 80))
    return pairs, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

_, before = run(20_000)
pairs, after = run(1_500_000)
print(pairs, (after - before) * 1024)
"""


def test_writing_and_reading_many_takes_no_more_memory_than_few(tmp_path: Path) -> None:
    """Peak memory in a process of its own: 82 million pairs, 66 MB of image numbers, in a few more megabytes."""
    photos = write_made_up(tmp_path / "photos.parquet")
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", _MANY, photos, tmp_path / "many.parquet"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    pairs, grown = map(int, ran.stdout.split())
    assert pairs == 1_500_000 * 55
    assert grown < 30_000_000 < 1_500_000 * 11 * 4


def test_reading_takes_memory_for_a_few_batches_alone(tmp_path: Path) -> None:
    """Two million neighbourhoods, 100 million pairs: the file alone is far larger than what may be held."""
    path = tmp_path / "neighbourhoods.parquet"
    width, rows, parts = 11, 100_000, 20
    schema = pa.schema([("images", pa.list_(pa.int32(), width))])
    values = np.random.RandomState(0).randint(0, 2**31 - 1, rows * width).astype(np.int32)
    table = pa.table({"images": pa.FixedSizeListArray.from_arrays(pa.array(values), width)}, schema=schema)
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for _ in range(parts):
            writer.write_table(table, row_group_size=4096)
    del table, values
    most, seen, held = 0, 0, pa.total_allocated_bytes()
    for batch in read_neighbourhoods(path, 80):
        seen += len(batch)
        most = max(most, pa.total_allocated_bytes() - held)
    assert seen == rows * parts
    assert most < 8_000_000 < path.stat().st_size / 8
