"""The fast hashing gives bit for bit what its definition says, for any numbers, batches, settings and types."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.hashing.fitted_projection import FittedProjection
from search.hashing.projection import Hyperplanes
from search.hashing.quantising import _ROWS, quantised
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from tests.search.hashing.plain import plain_codes, plain_quantised, plain_terms, plain_values

SEARCH, SCORE = 20, 12

ANY = st.floats(width=32, allow_nan=False, allow_infinity=False)
HALF = st.floats(width=16, allow_nan=False, allow_infinity=False)


def fitted(dimension: int, values: int = 6, seed: int = 0, split: int = 0) -> FittedProjection:
    random = np.random.RandomState(seed)
    weights = random.standard_normal((dimension, values)).astype(np.float32)
    weights[:split, values // 2 :] = weights[split:, : values // 2] = 0 if split else 1
    return FittedProjection.fitted(random.random_sample(dimension).astype(np.float32), weights, dimension**0.5)


@given(arrays(np.float32, st.tuples(st.integers(0, 2 * _ROWS + 1), st.just(5)), elements=ANY), st.booleans())
@settings(deadline=None)
def test_quantised(rows: np.ndarray, centred: bool) -> None:
    centre = np.linspace(-2, 2, 5, dtype=np.float32) if centred else None
    found = quantised(rows, None if centre is None else centre.astype(np.float64))
    np.testing.assert_array_equal(found, plain_quantised(rows, centre))


@pytest.mark.parametrize("dimension", [2048, 2049, 16_384])
def test_long_vectors_are_exact_too(dimension: int) -> None:
    """Their squares do not fit into one sum of float64."""
    rows = np.full((3, dimension), 3e38, np.float32)
    rows[1] = np.random.RandomState(1).standard_normal(dimension)
    rows[2, 1:] = 1e-45
    np.testing.assert_array_equal(quantised(rows, None), plain_quantised(rows, None))


@given(
    st.integers(1, 24),
    st.booleans(),
    st.booleans(),
    st.data(),
)
@settings(deadline=None, max_examples=60)
def test_terms(bits_per_group: int, roots: bool, unit: bool, data: st.DataObject) -> None:
    rows = data.draw(arrays(np.float32, st.tuples(st.integers(0, 70), st.just(SEARCH)), elements=ANY))
    centre = data.draw(st.sampled_from([None, np.linspace(-0.5, 1, SEARCH, dtype=np.float32)]))
    extractor = TermSettings(
        SEARCH, 3, bits=30, groups=7, bits_per_group=bits_per_group, centre=centre, signed_sqrt=roots, normalise=unit
    ).build()
    np.testing.assert_array_equal(extractor.terms(rows), plain_terms(extractor, rows))


@given(st.booleans(), st.booleans(), st.booleans(), st.data())
@settings(deadline=None, max_examples=60)
def test_codes(both: bool, unit: bool, unit_search: bool, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 70))
    score = data.draw(arrays(np.float32, (count, SCORE), elements=ANY))
    search = data.draw(arrays(np.float32, (count, SEARCH), elements=ANY))
    dimension = SCORE + (SEARCH if both else 0)
    projection = data.draw(
        st.sampled_from([None, fitted(dimension, 8), fitted(dimension, 8, split=SCORE if both else 5)])
    )
    signs = projection is not None and data.draw(st.booleans())
    chosen = CodeSettings(
        SCORE,
        projection.size if signs and projection is not None else 40,
        seed=9,
        centre=data.draw(st.sampled_from([None, np.full(SCORE, 0.25, np.float32)])),
        projection=projection,
        search_dimension=SEARCH if both and projection is not None else 0,
        normalise=unit,
        normalise_search=unit_search,
        signs=signs,
    )
    np.testing.assert_array_equal(chosen.build().codes(score, search), plain_codes(chosen, score, search))


@given(arrays(np.float16, st.tuples(st.integers(1, 9), st.just(SEARCH)), elements=HALF))
@settings(deadline=None)
def test_half_precision(rows: np.ndarray) -> None:
    extractor = TermSettings(SEARCH, 3, bits=30, groups=7, bits_per_group=9, signed_sqrt=True).build()
    np.testing.assert_array_equal(extractor.terms(rows), plain_terms(extractor, rows.astype(np.float32)))


def test_images_of_real_size() -> None:
    random = np.random.RandomState(4)
    search, score = (np.abs(random.standard_normal((150, size))).astype(np.float16) for size in (1280, 768))
    extractor = TermSettings(
        1280, 5, bits=1024, groups=128, bits_per_group=12, centre=np.full(1280, 0.8, np.float32), signed_sqrt=True
    ).build()
    np.testing.assert_array_equal(extractor.terms(search), plain_terms(extractor, search.astype(np.float32)))
    projection = fitted(2048, values=512, split=768)
    chosen = CodeSettings(
        768, 1024, seed=6, centre=np.full(768, 0.7, np.float32), projection=projection, search_dimension=1280
    )
    expected = plain_codes(chosen, score.astype(np.float32), search.astype(np.float32))
    np.testing.assert_array_equal(chosen.build().codes(score, search), expected)


def test_values_of_parts_are_those_of_the_whole() -> None:
    projection, rows = fitted(9), np.random.RandomState(2).standard_normal((40, 9)).astype(np.float32)
    np.testing.assert_array_equal(projection.values(rows[:, :4], rows[:, 4:]), plain_values(projection, rows))


def test_some_hyperplanes_are_columns_of_all() -> None:
    planes = Hyperplanes(SEARCH, 16, seed=2)
    np.testing.assert_array_equal(planes.columns(np.array([3, 1])), planes.planes[[3, 1]].T)
