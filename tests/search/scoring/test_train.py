"""Training end to end on made-up photographs: a small one, that must learn, be repeatable, and refuse bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from search.errors import BadInputError, SettingsError
from search.score_codes import CodeSettings
from search.scoring.card import read_card
from search.scoring.labelled import file_sha256
from search.scoring.model_folder import ModelFolder
from search.scoring.pairs import MiningSettings
from search.scoring.tf_model import load_tf
from search.scoring.train import Effort, TrainSettings, train
from search.terms import TermSettings
from tests.support.fake_model import random_codes
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, made_up_table, write_made_up


def settings(folder: Path, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "photos": folder / "photos.parquet",
        "model": folder / "model",
        "terms": TermSettings(SEARCH_DIMENSION, 1, 64, 24, 4),
        "code": CodeSettings(SCORE_DIMENSION, 64, 2),
        "embedding_name": "net",
        "embedding_version": "7",
        "effort": Effort(rounds=2, steps_per_round=60, transferred_per_photo=3, patience=2),
        "hidden": (16, 8),
        "mining": MiningSettings(8, 4, 4),
        "batch": 128,
        "bit_flips": 0.05,
        "orders": 2,
    }
    return TrainSettings(**{**values, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainSettings, Any, list[tuple[float, str]]]:
    folder = tmp_path_factory.mktemp("training")
    write_made_up(folder / "photos.parquet")
    told: list[tuple[float, str]] = []
    chosen = settings(folder)
    return chosen, train(chosen, lambda share, text: told.append((share, text))), told


def test_the_version_is_served_and_its_card_is_whole(trained: Any) -> None:
    chosen, card, _ = trained
    folder = ModelFolder(chosen.model)
    assert folder.served() == card.version
    assert read_card(folder.path(card.version)) == card
    assert (card.bits, card.hidden, card.embedding_name, card.embedding_version) == (64, (16, 8), "net", "7")
    assert card.code_fingerprint == chosen.code.build().fingerprint
    assert card.training_sha256 == file_sha256(chosen.photos)
    assert card.training_settings == chosen.describe()
    assert set(card.software) == {"keras", "numpy", "python", "tensorflow"}


def test_it_has_learnt(trained: Any) -> None:
    _, card, _ = trained
    assert card.metrics["val_average_precision"] > 0.8
    assert card.metrics["test_average_precision"] > 0.8
    assert card.metrics["test_bcubed_f1"] > 0.5


def test_thresholds_keep_the_bound_on_drift(trained: Any) -> None:
    limits = trained[1].thresholds
    assert limits.head_accept <= limits.accept
    assert limits.head_accept <= limits.adopt


def test_progress_is_told_and_ends(trained: Any) -> None:
    shares = [share for share, _ in trained[2]]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert sum("average precision" in text for _, text in trained[2]) == 2


def test_training_again_gives_the_same_model(trained: Any, tmp_path: Path) -> None:
    chosen, card, _ = trained
    again = train(replace(chosen, model=tmp_path / "model"))
    assert (again.version, again.thresholds, again.metrics) == (card.version, card.thresholds, card.metrics)
    pairs = random_codes(500)
    one, other = (ModelFolder(folder).load(card.version, load_tf) for folder in (chosen.model, tmp_path / "model"))
    np.testing.assert_array_equal(one.score(*pairs), other.score(*pairs))


def test_a_version_may_be_named_and_not_served(trained: Any, tmp_path: Path) -> None:
    chosen, _, _ = trained
    quick = Effort(rounds=1, steps_per_round=60, transferred_per_photo=0, patience=1)
    card = train(replace(chosen, model=tmp_path, version="by-hand", serve=False, effort=quick))
    assert card.version == "by-hand"
    assert ModelFolder(tmp_path).versions() == ["by-hand"]
    with pytest.raises(BadInputError, match="served is missing"):
        ModelFolder(tmp_path).served()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_is_named(tmp_path: Path, split: str) -> None:
    table = made_up_table()
    pq.write_table(table.filter(pc.not_equal(table["split"], split)), tmp_path / "photos.parquet")
    with pytest.raises(BadInputError, match=f"no image of the split '{split}'"):
        train(settings(tmp_path))


def test_training_without_copies_is_refused(tmp_path: Path) -> None:
    table = made_up_table()
    lone = pc.or_(pc.not_equal(table["split"], "train"), pc.equal(table["kind"], "distractor"))
    pq.write_table(table.filter(lone), tmp_path / "photos.parquet")
    with pytest.raises(BadInputError, match="0 pairs of copies"):
        train(settings(tmp_path))


@pytest.mark.parametrize(
    "changes", [{"dropout": 1.0}, {"precision": -0.1}, {"hidden": ()}, {"batch": 4}, {"corpus_growth": 0.5}]
)
def test_settings_that_would_spoil_a_model_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        settings(tmp_path, **changes)
