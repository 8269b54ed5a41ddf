"""Score codes: packed bits, then the values of a fitted projection."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from core.errors import BadInputError, SettingsError
from search.hashing.fitted_projection import FittedProjection
from search.hashing.projection import Hyperplanes
from search.hashing.score_codes import CodeSettings

DIMENSION = 24


def projection(values: int = 5, dimension: int = DIMENSION) -> FittedProjection:
    weights = np.random.RandomState(0).standard_normal((dimension, values))
    return FittedProjection.fitted(np.zeros(dimension, np.float32), weights, dimension**0.5)


def vectors() -> np.ndarray:
    return np.random.RandomState(2).standard_normal((9, DIMENSION)).astype(np.float32)


def test_without_a_projection_codes_are_the_packed_bits() -> None:
    centre = np.arange(DIMENSION, dtype=np.float32)
    chosen = CodeSettings(DIMENSION, 64, seed=9, centre=centre)
    hyperplanes, made = Hyperplanes(DIMENSION, 64, 9, centre), chosen.build()
    assert (made.fingerprint, made.code_bytes, made.dimension) == (hyperplanes.fingerprint, 8, DIMENSION)
    np.testing.assert_array_equal(made.codes(vectors(), []), hyperplanes.codes(vectors()))
    assert set(chosen.describe()) == {"dimension", "bits", "seed", "centre"}


def test_with_a_projection_the_values_follow_the_bits() -> None:
    chosen = CodeSettings(DIMENSION, 64, seed=9, projection=projection())
    codes = chosen.build().codes(vectors(), [])
    assert codes.shape == (9, chosen.code_bytes) == (9, 13)
    np.testing.assert_array_equal(codes[:, :8], Hyperplanes(DIMENSION, 64, 9).codes(vectors()))
    np.testing.assert_array_equal(codes[:, 8:].view(np.int8), projection().values(vectors()))
    assert chosen.describe()["values"] == 5


def test_a_projection_may_take_the_search_embedding_too() -> None:
    fitted, search = projection(dimension=DIMENSION + 6), np.random.RandomState(3).standard_normal((9, 6))
    chosen = CodeSettings(DIMENSION, 64, seed=9, projection=fitted, search_dimension=6)
    codes = chosen.build().codes(vectors(), search)
    both = np.hstack([vectors(), search.astype(np.float32)])
    np.testing.assert_array_equal(codes[:, :8], Hyperplanes(DIMENSION, 64, 9).codes(vectors()))
    np.testing.assert_array_equal(codes[:, 8:].view(np.int8), fitted.values(both))
    np.testing.assert_array_equal(chosen.build().codes(vectors()[4:5], search[4:5]), codes[4:5])
    assert chosen.describe()["search_dimension"] == 6
    with pytest.raises(BadInputError, match=r"\(n, 6\), not \(9, 5\)"):
        chosen.build().codes(vectors(), search[:, :5])
    with pytest.raises(BadInputError, match="9 score embeddings and 8 search embeddings"):
        chosen.build().codes(vectors(), search[:8])


def test_the_bits_may_be_the_signs_of_the_values() -> None:
    fitted, search = projection(16, DIMENSION + 6), np.random.RandomState(3).standard_normal((9, 6))
    chosen = CodeSettings(DIMENSION, 16, seed=9, projection=fitted, search_dimension=6, signs=True)
    made = chosen.build()
    codes = made.codes(vectors(), search)
    values = codes[:, 2:].view(np.int8)
    np.testing.assert_array_equal(values, fitted.values(vectors(), search))
    np.testing.assert_array_equal(np.unpackbits(codes[:, :2], axis=1), values > 0)
    np.testing.assert_array_equal(made.bits(vectors(), search), codes[:, :2])
    assert set(chosen.describe()) == {"dimension", "bits", "signs", "values", "projection", "search_dimension"}
    # What hyperplanes are drawn from is not used.
    assert replace(chosen, seed=1, centre=np.ones(DIMENSION, np.float32)).build().fingerprint == made.fingerprint
    assert replace(chosen, signs=False).build().fingerprint != made.fingerprint


@pytest.mark.parametrize("fitted", [None, projection()])
def test_bits_of_hyperplanes_need_no_search_embedding(fitted: FittedProjection | None) -> None:
    made = CodeSettings(DIMENSION, 64, seed=9, projection=fitted).build()
    np.testing.assert_array_equal(made.bits(vectors(), []), Hyperplanes(DIMENSION, 64, 9).codes(vectors()))


def test_the_fingerprint_names_all_that_a_code_depends_on() -> None:
    made = [
        CodeSettings(DIMENSION, 64, seed, projection=fitted).build().fingerprint
        for seed in (1, 2)
        for fitted in (None, projection(), projection(6))
    ]
    assert len(set(made)) == len(made)


def test_normalised_codes_do_not_depend_on_the_scale_of_either_embedding() -> None:
    fitted, search = projection(dimension=DIMENSION + 6), np.random.RandomState(3).standard_normal((9, 6))
    centre = np.full(DIMENSION, 0.2, np.float32)
    made = {
        units: CodeSettings(DIMENSION, 64, 9, centre, fitted, 6, normalise=units[0], normalise_search=units[1]).build()
        for units in ((False, False), (True, False), (False, True), (True, True))
    }
    assert len({codes.fingerprint for codes in made.values()}) == 4
    for (score_free, search_free), codes in made.items():
        plain = codes.codes(vectors(), search)
        assert (codes.codes(vectors() * 8, search) == plain).all() == score_free
        assert (codes.codes(vectors(), search * 8) == plain).all() == search_free


def test_settings_survive_pickling() -> None:
    chosen = CodeSettings(DIMENSION, 64, seed=9, centre=np.ones(DIMENSION, np.float32), projection=projection())
    assert pickle.loads(pickle.dumps(chosen)).build().fingerprint == chosen.build().fingerprint


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingsError, match="multiple of 8 bits, not 12"):
        CodeSettings(DIMENSION, 12, seed=9)
    with pytest.raises(SettingsError, match="one bit: bits must be 5, not 16"):
        CodeSettings(DIMENSION, 16, seed=9, projection=projection(), signs=True)
    with pytest.raises(SettingsError, match="those of a fitted projection: name one"):
        CodeSettings(DIMENSION, 16, seed=9, signs=True).build()
    with pytest.raises(SettingsError, match="takes 23 elements, score embeddings have 24"):
        CodeSettings(DIMENSION, 16, seed=9, projection=projection(dimension=23))
    with pytest.raises(SettingsError, match="takes 24 elements, score embeddings have 24 and search embeddings 3"):
        CodeSettings(DIMENSION, 16, seed=9, projection=projection(), search_dimension=3)
