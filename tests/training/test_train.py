"""Training end to end on made-up photographs: a small one, that must learn, be repeatable, and refuse bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError, SettingsError
from scoring.card import read_card
from scoring.model_folder import ModelFolder
from scoring.tf_model import TfPairModel
from search.hashing.fitted_projection import FittedProjection, read_projection
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from search.ranking import Ranking
from tests.support.fake_model import random_codes
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, made_up_table, write_made_up
from training import train as training
from training.judging import judge_pairs, score_pairs
from training.labelled import file_sha256, read_photos
from training.train import train
from training.training_settings import Effort, NetworkSettings, TrainSettings
from training.validation import Streams


def constant(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The same score for every pair."""
    return np.zeros(len(left), np.float32)


def settings(folder: Path, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "photos": folder / "photos.parquet",
        "model": folder / "model",
        "terms": TermSettings(SEARCH_DIMENSION, 1, 64, 24, 4),
        "code": CodeSettings(SCORE_DIMENSION, 64, 2, search_dimension=SEARCH_DIMENSION),
        "embedding_name": "net",
        "embedding_version": "7",
        "ranking": Ranking(100),
        "effort": Effort(rounds=2, steps_per_round=80, patience=2),
        "compact": NetworkSettings(hidden=(16, 8), seeds=24, look_alikes=6, dropout=0.05, learning_rate=1e-2),
        "orders": 2,
    }
    return TrainSettings(**{**values, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainSettings, Any, list[tuple[float, str]]]:
    folder = tmp_path_factory.mktemp("training")
    write_made_up(folder / "photos.parquet")
    told: list[tuple[float, str]] = []
    chosen = settings(folder)
    return chosen, train(chosen, lambda share, text: told.append((share, text)))[0], told


def test_the_version_is_served_and_its_card_is_whole(trained: Any) -> None:
    chosen, card, _ = trained
    folder = ModelFolder(chosen.model)
    assert folder.served() == card.version
    assert read_card(folder.path(card.version)) == card
    assert (card.bits, card.hidden, card.embedding_name, card.embedding_version) == (64, (16, 8), "net", "7")
    assert card.code_fingerprint == chosen.code.build().fingerprint
    assert card.training_sha256 == file_sha256(chosen.photos)
    assert card.training_settings == chosen.describe()
    assert (folder.path(card.version) / "card.md").read_text(encoding="utf-8").startswith(f"# {card.version}")
    assert len(list(folder.path(card.version).glob("*.png"))) == 4
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


def test_a_learnt_projection_gives_values_and_helps(trained: Any, tmp_path: Path) -> None:
    chosen, plain, _ = trained
    file = tmp_path / "projection.npz"
    (card,) = train(replace(chosen, model=tmp_path / "model", fit_projection=file, values=12))
    projection = read_projection(file)
    assert (card.values, card.xor, projection.size) == (24, False, 24)  # 12 of each embedding
    assert card.code_fingerprint == replace(chosen.code, projection=projection).build().fingerprint
    assert card.version != plain.version
    assert card.metrics["test_average_precision"] > plain.metrics["test_average_precision"] - 0.05
    # A later training on the same codes leaves the projection as it is.
    code = replace(chosen.code, projection=projection)
    (later,) = train(replace(chosen, model=tmp_path / "later", code=code))
    assert (later.values, later.code_fingerprint) == (24, card.code_fingerprint)


def test_candidates_of_the_last_model_come_by_the_signs_that_were_learnt(trained: Any, tmp_path: Path) -> None:
    chosen, _, _ = trained
    file, code = tmp_path / "projection.npz", replace(chosen.code, bits=24, signs=True)
    few = replace(chosen, model=tmp_path / "model", code=code, fit_projection=file, values=12, ranking=Ranking(1))
    told: list[str] = []
    (card,) = train(few, lambda _share, text: told.append(text))
    assert sum("average precision" in text for text in told) == 2 * few.effort.rounds  # fitted twice
    learnt = replace(code, projection=read_projection(file))
    assert (card.bits, card.values, card.code_fingerprint) == (24, 24, learnt.build().fingerprint)
    # What the candidates hold is what `Streams` of the learnt code say, not those that training began with.
    photos = read_photos(chosen.photos, SEARCH_DIMENSION, SCORE_DIMENSION)
    for chosen_by, holds in ((learnt, True), (code, False)):
        streams = Streams(photos, chosen.terms, few.ranking, chosen_by, few.seed)
        judged = score_pairs(
            photos.split == "test", streams, learnt.build().codes(photos.score, photos.search), constant
        )
        found = judge_pairs(photos, photos.split == "test", judged, 0.5).found_by_search
        assert (card.metrics["test_found_by_search"] == round(found, 5)) == holds
    with pytest.raises(SettingsError, match=r"a projection of 24 values is to be learnt.*bits must be 24, not 64"):
        replace(few, code=replace(code, bits=64))


def test_large_and_compact_come_from_one_run(trained: Any, tmp_path: Path) -> None:
    chosen, _, _ = trained
    large = NetworkSettings(hidden=(64, 16), xor=True, seeds=6, look_alikes=6, learning_rate=2e-4)
    wanted = replace(chosen, model=tmp_path, fit_projection=tmp_path / "p.npz", values=12, large=large, version="both")
    cards = train(wanted)
    assert [card.version for card in cards] == ["both", "both-large"]
    assert [card.hidden for card in cards] == [(16, 8), (64, 16)]
    assert [card.xor for card in cards] == [False, True]
    assert cards[0].code_fingerprint == cards[1].code_fingerprint
    assert ModelFolder(tmp_path).served() == "both"
    for card in cards:
        assert card.metrics["test_average_precision"] > 0.8


def test_the_last_model_may_be_trained_on_the_test_split(trained: Any, tmp_path: Path) -> None:
    chosen, plain, _ = trained
    quick = Effort(rounds=1, steps_per_round=40, patience=1)
    (card,) = train(replace(chosen, model=tmp_path, train_on_test=True, effort=quick))
    assert not any(name.startswith("test_") for name in card.metrics)
    assert card.version != plain.version


def test_accept_may_come_from_data_sets_that_were_left_out(trained: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(training, "_FEWEST_COPIES", 10)
    (card,) = train(replace(trained[0], model=tmp_path, leave_one_out=True, orders=1))
    found = {name for name in card.metrics if name.startswith("left_out")}
    assert found >= {"left_out_recall_at_precision_0.99_set0", "left_out_precision_at_accept"}
    assert card.version != trained[1].version


def test_training_again_gives_the_same_model(trained: Any, tmp_path: Path) -> None:
    chosen, card, _ = trained
    (again,) = train(replace(chosen, model=tmp_path / "model"))
    assert (again.version, again.thresholds, again.metrics) == (card.version, card.thresholds, card.metrics)
    pairs = random_codes(500)
    one, other = (ModelFolder(folder).load(card.version, TfPairModel) for folder in (chosen.model, tmp_path / "model"))
    np.testing.assert_array_equal(one.score(*pairs), other.score(*pairs))


def test_a_version_may_be_named_and_not_served(trained: Any, tmp_path: Path) -> None:
    chosen, _, _ = trained
    quick = Effort(rounds=1, steps_per_round=40, patience=1)
    (card,) = train(replace(chosen, model=tmp_path, version="by-hand", serve=False, effort=quick))
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


@pytest.mark.parametrize("changes", [{"precision": -0.1}, {"orders": 0}, {"corpus_growth": 0.5}, {"values": 0}])
def test_settings_that_would_spoil_a_model_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        settings(tmp_path, **changes)


def test_leaving_out_asks_for_a_projection_that_did_not_see_what_is_left_out(tmp_path: Path) -> None:
    projection = FittedProjection.fitted(np.zeros(SCORE_DIMENSION, np.float32), np.eye(SCORE_DIMENSION), 1.0, 1.0)
    learnt = CodeSettings(SCORE_DIMENSION, 64, 2, projection=projection)
    with pytest.raises(SettingsError, match="leave-one-out needs a newly learnt projection"):
        settings(tmp_path, code=learnt, leave_one_out=True)
    assert settings(tmp_path, code=learnt, leave_one_out=True, fit_projection=tmp_path / "p.npz").leave_one_out


@pytest.mark.parametrize(
    "changes", [{"dropout": 1.0}, {"edited": -0.1}, {"hidden": ()}, {"seeds": 0}, {"learning_rate": 0.0}]
)
def test_networks_that_cannot_learn_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        NetworkSettings(**{"hidden": (4,), **changes})
