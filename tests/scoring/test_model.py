"""The interface of a scorer: which class is taken for a name, and what every model checks before it scores."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from core.errors import BadInputError, SettingsError
from scoring.model import _OURS, MODELS_GROUP, PairModel, model_class
from tests.support.fake_model import FakeModel, card, random_codes


class Unfinished(PairModel):
    """Loads nothing."""


def test_a_dotted_name_gives_its_class() -> None:
    assert model_class(f"{FakeModel.__module__}:FakeModel") is FakeModel


def test_our_own_class_needs_no_installation_and_is_declared_for_one() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"][MODELS_GROUP] == _OURS
    assert model_class().__name__ == "TfPairModel"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch", "no installed package declares 'torch' in the group neardup.models"),
        (f"{__name__}:card", r"card is no subclass of scoring\.model\.PairModel"),
        ("pathlib:Path", r"pathlib:Path is no subclass of scoring\.model\.PairModel"),
        (f"{__name__}:Unfinished", "Unfinished does not implement _score, load"),
    ],
)
def test_what_is_no_model_class_is_refused(name: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        model_class(name)


def test_shapes_are_checked_and_no_pairs_need_no_model() -> None:
    model = FakeModel(card())
    left, right = random_codes(3)
    with pytest.raises(BadInputError, match="3 codes cannot be paired with 2"):
        model.score(left, right[:2])
    with pytest.raises(BadInputError, match=r"\(n, 8\) uint8 were expected"):
        model.score(left[:, :4], right[:, :4])
    assert model.score(left[:0], right[:0]).shape == (0,)
    assert model.batches == []
    np.testing.assert_array_equal(model.score(left, left), np.ones(3, np.float32))
