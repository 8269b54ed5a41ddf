"""What is refused before a training starts, and how versions get their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError
from scoring.model_folder import ModelFolder
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from tests.support.fake_model import write_version
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, write_made_up
from training.preparation import check_in_use, prepare
from training.training_settings import LARGE, TrainSettings


@pytest.fixture
def wanted(tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        photos=write_made_up(tmp_path / "photos.parquet"),
        model=tmp_path / "model",
        terms=TermSettings(SEARCH_DIMENSION, 1, 64, 24, 4),
        code=CodeSettings(SCORE_DIMENSION, 64, 2),
        embedding_name="net",
        embedding_version="7",
    )


def labels(path: Path, other: str) -> Path:
    table = pa.table({"image_a": ["g-train-0-0"], "image_b": [other], "label": pa.array([1], pa.int8())})
    pq.write_table(table, path)
    return path


def splits(path: Path, split: str) -> Path:
    pq.write_table(pa.table({"group_id": ["g-train-0"], "split": [split]}), path)
    return path


def test_different_labels_splits_and_pairs_give_different_names(wanted: TrainSettings, tmp_path: Path) -> None:
    pair, other = ("g-train-0-0", "g-train-1-0"), ("g-train-0-0", "g-train-2-0")
    changed: list[dict[str, Any]] = [
        {},
        {"labels": labels(tmp_path / "one.parquet", "g-train-1-0")},
        {"labels": labels(tmp_path / "two.parquet", "g-train-2-0")},
        {"splits_of": splits(tmp_path / "three.parquet", "val")},
        {"splits_of": splits(tmp_path / "four.parquet", "test")},
        {"never_train": (pair,)},
        {"never_train": (other,)},
        {"seed": 3},
        {"fit_projection": tmp_path / "p.npz"},
    ]
    names = [prepare(replace(wanted, **values)) for values in changed]
    assert len(set(names)) == len(names)
    # The same content under another name, and the same pairs in another order, are the same.
    assert prepare(replace(wanted, labels=labels(tmp_path / "copy.parquet", "g-train-1-0"))) == names[1]
    turned = replace(wanted, never_train=((other[1], other[0]), pair))
    assert prepare(turned) == prepare(replace(wanted, never_train=(pair, other)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"photos": Path("gone")}, "there is no file or folder gone"),
        ({"photos": Path("empty")}, "the folder empty has no index.parquet"),
        ({"labels": Path("gone.parquet")}, "gone.parquet cannot be read as labels"),
        ({"labels": Path("photos.parquet")}, "photos.parquet cannot be read as labels: it lacks the column 'image_a'"),
        ({"splits_of": Path("gone.parquet")}, "gone.parquet cannot be read as Parquet"),
        ({"fit_projection": Path("gone/p.npz")}, "cannot be written to gone/p.npz: there is no folder gone"),
        ({"fit_projection": Path("empty")}, "cannot be written to empty: it is a folder"),
        ({"version": "a/b"}, "'a/b' cannot name a model version"),
        ({"version": "x" * 60, "large": LARGE}, "x-large' cannot name a model version"),
    ],
)
def test_what_cannot_end_well_is_refused(
    wanted: TrainSettings, changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=message):
        prepare(replace(wanted, **changes))


def test_a_long_name_will_do_for_a_compact_network_alone(wanted: TrainSettings) -> None:
    assert prepare(replace(wanted, version="x" * 60)) == "x" * 60


@pytest.mark.parametrize("taken", ["mine", "mine-large"])
def test_a_name_that_is_taken_is_refused(wanted: TrainSettings, taken: str) -> None:
    (wanted.model / taken).mkdir(parents=True)
    with pytest.raises(BadInputError, match=f"the version {taken} exists already: .*{taken}. A version never changes"):
        prepare(replace(wanted, version="mine", large=LARGE))


@pytest.fixture
def serving(wanted: TrainSettings) -> TrainSettings:
    """The settings of a training whose folder serves a version."""
    wanted.model.mkdir()
    write_version(wanted.model, "v1")
    ModelFolder(wanted.model).use("v1")
    return wanted


def test_a_new_projection_neither_serves_in_a_folder_in_use_nor_replaces_its_own(
    serving: TrainSettings, tmp_path: Path
) -> None:
    own, file = serving.model, tmp_path / "own.npz"
    anew = replace(serving, fit_projection=tmp_path / "new.npz")
    with pytest.raises(
        BadInputError, match=r"serves v1, and a newly learnt projection.*--no-serve or into another folder"
    ):
        check_in_use(anew, own, file)
    check_in_use(replace(anew, serve=False), own, file)
    check_in_use(replace(anew, model=tmp_path / "other"), own, file)
    for elsewhere in (replace(anew, serve=False), replace(anew, model=tmp_path / "other")):
        with pytest.raises(BadInputError, match=r"own\.npz is the projection of v1, .*write it to another file"):
            check_in_use(replace(elsewhere, fit_projection=file), own, file)
    # Without a projection to learn codes stay what they are.
    check_in_use(serving, own, file)


def test_where_nothing_is_served_yet_a_first_projection_may_be_learnt(wanted: TrainSettings, tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    check_in_use(replace(wanted, fit_projection=file), wanted.model, file)
