"""What a training gives to each fit and takes from it: rows, teacher, never pairs, left-out sets, names, cards."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError, MismatchError, SettingsError
from scoring.card import read_card
from scoring.model_folder import ModelFolder
from scoring.tf_model import TfPairModel
from search.ranking import Ranking
from tests.support.fake_model import random_codes
from tests.support.known_network import KnownFits, known_fits
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, made_up_table, write_made_up
from tests.training.test_train import settings
from training import train as training
from training.labelled import LabelledPhotos, read_photos
from training.left_out import LeftOut, choose_on_left_out
from training.training_settings import NetworkSettings, TrainSettings
from training.validation import Streams

EVERYTHING = Ranking(400)
"""Every image that shares a term is a candidate, whoever else is there."""


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> KnownFits:
    return known_fits(monkeypatch)


def photos_of(wanted: TrainSettings) -> LabelledPhotos:
    return read_photos(wanted.photos, SEARCH_DIMENSION, SCORE_DIMENSION)


def run(wanted: TrainSettings) -> Any:
    return training._Run(wanted, photos_of(wanted), "v", lambda _share, _text: None)


def test_networks_see_the_training_split_and_their_teacher(tmp_path: Path, fits: KnownFits) -> None:
    write_made_up(tmp_path / "photos.parquet")
    never = (("g-train-0-0", "g-train-1-0"),)
    large = NetworkSettings(hidden=(64, 16), xor=True, seeds=6, look_alikes=6)
    run(settings(tmp_path, large=large, never_train=never)).fit()
    compact, wide, taught = fits.fits
    for fit in fits.fits:
        assert set(fit.photos.split) == {"train"}
        assert len(fit.photos) == 84
        one, other = (np.flatnonzero(fit.photos.group_id == f"g-train-{number}") for number in (0, 1))
        assert fit.neighbourhoods.forbidden(np.array([[one[0], one[1], other[2]]])).tolist() == [[False, True, True]]
    first, second, third = compact.settings, wide.settings, taught.settings
    assert (first.network.hidden, second.network.hidden, third.network.hidden) == ((16, 8), (64, 16), (16, 8))
    assert (first.teacher, second.teacher, third.teacher) == (None, None, wide.found)
    assert (first.start, third.start) == (None, compact.found)
    assert second.start is not None
    assert second.start.exact().hidden == (64, 16)


def test_left_out_networks_see_neither_the_data_set_nor_the_test_split(
    tmp_path: Path, fits: KnownFits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_FEWEST_COPIES", 10)
    wanted = settings(tmp_path, leave_one_out=True, ranking=EVERYTHING)
    write_made_up(wanted.photos)
    sets = run(wanted)._left_out()
    assert [one.name for one in sets] == ["set0", "set1"]
    for one, fit in zip(sets, fits.fits, strict=True):
        assert set(fit.photos.split) == {"train"}
        assert one.name not in set(fit.photos.dataset)
    # With the test images gone from the world the same is chosen from.
    table = made_up_table()
    pq.write_table(table.filter(pc.not_equal(table["split"], "test")), wanted.photos)
    for one, without in zip(sets, run(wanted)._left_out(), strict=True):
        np.testing.assert_array_equal(np.sort(one.scores), np.sort(without.scores))
        assert one.is_copy.sum() == without.is_copy.sum() > 0


def test_accept_is_what_the_left_out_sets_choose(
    tmp_path: Path, fits: KnownFits, monkeypatch: pytest.MonkeyPatch
) -> None:
    del fits
    scores = np.linspace(0.2, 0.9, 3000, dtype=np.float32)
    sets = [LeftOut(name, scores, scores > limit) for name, limit in (("a", 0.55), ("b", 0.6))]
    monkeypatch.setattr(training._Run, "_left_out", lambda _run: sets)
    write_made_up(tmp_path / "photos.parquet")
    (card,) = training.train(settings(tmp_path, leave_one_out=True, corpus_growth=2.0))
    assert card.thresholds.accept == choose_on_left_out(sets, 0.99, 2.0)[0]
    assert card.thresholds.accept != choose_on_left_out(sets, 0.99)[0]
    assert card.metrics["val_precision_at_accept_lower_bound"] == round(choose_on_left_out(sets, 0.99, 2.0)[1], 5)


def test_a_version_that_is_there_is_refused_before_anything_is_fitted(tmp_path: Path, fits: KnownFits) -> None:
    wanted = settings(tmp_path)
    write_made_up(wanted.photos)
    (card,) = training.train(wanted)
    before = (ModelFolder(wanted.model).path(card.version) / "metadata.json").read_bytes()
    done = len(fits.fits)
    with pytest.raises(BadInputError, match=rf"{card.version} exists already.*data and settings, which are the same"):
        training.train(wanted)
    with pytest.raises(BadInputError, match=rf"{card.version} exists already.*give the new one another name"):
        training.train(replace(wanted, version=card.version, seed=7))
    assert len(fits.fits) == done
    assert (ModelFolder(wanted.model).path(card.version) / "metadata.json").read_bytes() == before


def test_a_network_gets_thresholds_and_a_gate_for_other_candidates(tmp_path: Path, fits: KnownFits) -> None:
    wanted = settings(tmp_path)
    write_made_up(wanted.photos)
    (card,) = training.train(wanted)
    other = replace(wanted, thresholds_of=card.version, precision=0.5, ranking=Ranking(5))
    (again,) = training.train(other)
    assert len(fits.fits) == 1
    folder = ModelFolder(wanted.model)
    assert folder.served() == again.version != card.version
    assert folder.check(again.version) == again
    assert (again.files_sha256, again.hidden) == (card.files_sha256, card.hidden)
    assert again.training_settings["network"]["version"] == card.version
    assert again.training_settings["network"]["training_settings"] == card.training_settings
    assert again.training_settings["ranking"]["candidates"] == 5
    assert again.thresholds.accept < card.thresholds.accept
    assert again.gate is not None
    assert (folder.path(again.version) / "card.md").read_text(encoding="utf-8").startswith(f"# {again.version}")
    pairs = random_codes(50)
    one, two = (folder.load(version, TfPairModel) for version in (card.version, again.version))
    np.testing.assert_array_equal(one.score(*pairs), two.score(*pairs))
    with pytest.raises(BadInputError, match=f"{again.version} exists already"):
        training.train(other)
    with pytest.raises(MismatchError, match=f"{card.version} compares the codes"):
        training.train(replace(other, code=replace(wanted.code, seed=77)))
    with pytest.raises(SettingsError, match="nothing is learnt"):
        replace(other, leave_one_out=True)


def test_without_test_images_page_and_plots_show_those_of_val(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "fit_network", KnownFits())
    titles: list[str] = []
    inner = training.draw_all
    monkeypatch.setattr(training, "draw_all", lambda *values: titles.append(values[-1]) or inner(*values))
    table = made_up_table()
    wanted = settings(tmp_path)
    pq.write_table(table.filter(pc.not_equal(table["split"], "test")), wanted.photos)
    (card,) = training.train(wanted)
    assert card.judged["split"] == "val"
    assert not any(name.startswith("test_") for name in card.metrics)
    place = ModelFolder(wanted.model).path(card.version)
    assert len(list(place.glob("*.png"))) == 4
    assert titles == ["pairs of the split val"]
    assert "| kind of edit (val) |" in (place / "card.md").read_text(encoding="utf-8")


def test_the_card_has_results_for_each_part(tmp_path: Path, fits: KnownFits) -> None:
    del fits
    wanted = settings(tmp_path)
    write_made_up(wanted.photos)
    (card,) = training.train(wanted)
    assert read_card(ModelFolder(wanted.model).path(card.version)) == card
    assert card.judged["split"] == "test"
    assert set(card.judged["families"]) == {"push0", "push1", "push2", "push3"}
    assert set(card.judged["families"]["push0"]) == {"copies", "recall_at_accept", "recall_at_precision_0.99"}
    assert set(card.judged["datasets"]) == {"set0", "set1"}
    assert 0 < card.metrics["test_calibration_error"] < 0.5
    assert card.metrics["test_found_at_precision_0.99"] <= card.metrics["test_found_by_search"] <= 1


def test_the_gate_of_the_card_keeps_every_accepted_pair_of_the_streams(tmp_path: Path, fits: KnownFits) -> None:
    del fits
    wanted = settings(tmp_path)
    write_made_up(wanted.photos)
    (card,) = training.train(wanted)
    photos = photos_of(wanted)
    streams = Streams(photos, wanted.terms, wanted.ranking, wanted.code, wanted.seed)
    model = ModelFolder(wanted.model).load(card.version, TfPairModel)
    codes = wanted.code.build().codes(photos.score, photos.search)
    largest = 0
    for order in streams.orders(["train", "val"], wanted.orders):
        pairs = order[streams.stream(order, codes, model.score).pairs]
        accepted = model.score(codes[pairs[:, 0]], codes[pairs[:, 1]]) >= np.float32(card.thresholds.accept)
        largest = max(largest, int(streams.distances(*pairs[accepted].T).max()))
    assert largest > 0
    assert card.gate == min(card.bits, ceil(1.05 * largest))
    assert card.metrics["test_accepted_beyond_gate"] == 0
    assert 0 <= card.metrics["test_beyond_gate"] < 1


def test_models_come_before_the_projection_and_the_projection_before_it_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings(tmp_path, fit_projection=tmp_path / "p.npz", values=4)
    write_made_up(wanted.photos)
    (tmp_path / "p.npz").write_bytes(b"in use")
    monkeypatch.setattr(training, "export", fail)
    quick = replace(wanted, effort=replace(wanted.effort, rounds=1, steps_per_round=20))
    with pytest.raises(OSError, match="disk full"):
        training.train(quick)
    assert (tmp_path / "p.npz").read_bytes() == b"in use"
    monkeypatch.undo()
    monkeypatch.setattr(training, "write_projection", fail)
    with pytest.raises(OSError, match="disk full"):
        training.train(quick)
    assert ModelFolder(wanted.model).pointer_stamp() is None


def fail(*_: Any) -> None:
    raise OSError("disk full")
