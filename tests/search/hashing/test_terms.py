"""Terms: exact per row, drawn without replacement, and as likely to be shared as the error curve says."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.errors import BadInputError, SettingsError
from search.hashing.terms import (
    TermSettings,
    expected_overlap,
    found_probability,
    jaccard,
    missed_probability,
    same_term_probability,
)

DIMENSION = 24
SETTINGS = TermSettings(DIMENSION, seed=5, bits=60, groups=9, bits_per_group=7, centre=np.full(DIMENSION, 0.25))
EXTRACTOR = SETTINGS.build()


def changed(**values: object) -> TermSettings:
    fields: dict[str, object] = {"dimension": 24, "seed": 5, "bits": 60, "groups": 9, "bits_per_group": 7}
    return TermSettings(**{**fields, **values})  # type: ignore[arg-type]


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(0, 8), st.just(DIMENSION)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
@hypothesis_settings(deadline=None)
def test_any_batch_equals_its_rows_alone(batch: np.ndarray) -> None:
    together = EXTRACTOR.terms(batch)
    assert together.shape == (len(batch), SETTINGS.groups)
    assert together.dtype == np.uint32
    for row, terms in zip(batch, together, strict=True):
        assert np.array_equal(EXTRACTOR.terms(row[None]), terms[None])


def test_a_term_is_the_bits_at_the_groups_positions_first_highest() -> None:
    batch = np.random.RandomState(0).standard_normal((20, DIMENSION)).astype(np.float32)
    bits = EXTRACTOR.hyperplanes.bits(batch)
    expected = [
        [int("".join(str(int(row[position])) for position in group), 2) for group in EXTRACTOR.positions]
        for row in bits
    ]
    assert EXTRACTOR.terms(batch).tolist() == expected


def test_a_group_draws_each_position_once() -> None:
    for group in EXTRACTOR.positions:
        assert len(set(group.tolist())) == SETTINGS.bits_per_group
        assert 0 <= group.min() <= group.max() < SETTINGS.bits
    assert len({tuple(group) for group in EXTRACTOR.positions.tolist()}) == SETTINGS.groups


def test_long_groups_keep_all_their_bits() -> None:
    extractor = changed(bits=30, bits_per_group=24).build()
    terms = extractor.terms(np.random.RandomState(3).standard_normal((200, DIMENSION)))
    assert 2**23 < terms.max() < 2**24


@pytest.mark.parametrize(("min_overlap", "distance"), [(1, 4), (1, 12), (2, 8), (4, 3), (9, 1)])
def test_the_error_curve_agrees_with_a_simulation(min_overlap: int, distance: int) -> None:
    # Fresh groups for every trial: the curve is over all draws. 4,000 trials, four sigmas are 0.032 at most.
    chosen = changed()
    random = np.random.RandomState(17)
    draws = random.random_sample((4_000, chosen.groups, chosen.bits)).argsort(axis=2)[:, :, : chosen.bits_per_group]
    shared = (draws >= distance).all(axis=2).sum(axis=1)  # which positions differ does not matter: the first ones
    assert abs((shared >= min_overlap).mean() - found_probability(chosen, distance, min_overlap)) < 0.032


def test_the_error_curve_agrees_with_real_groups_on_random_bits() -> None:
    extractor = changed(groups=60).build()
    random = np.random.RandomState(23)
    hits = []
    for _ in range(3_000):
        differs = np.zeros(60, bool)
        differs[random.permutation(60)[:15]] = True
        hits.append((~differs[extractor.positions].any(axis=1)).sum() >= 2)
    assert abs(np.mean(hits) - found_probability(extractor.settings, 15, 2)) < 0.05


def test_the_curves_have_the_right_ends() -> None:
    assert found_probability(SETTINGS, 0) == 1.0
    assert found_probability(SETTINGS, SETTINGS.bits) == 0.0
    curve = [found_probability(SETTINGS, distance) for distance in range(SETTINGS.bits + 1)]
    assert curve == sorted(curve, reverse=True)
    assert all(
        found_probability(SETTINGS, distance) + missed_probability(SETTINGS, distance) == 1.0 for distance in (0, 5, 9)
    )
    assert same_term_probability(4, 2, 1) == 0.5
    with pytest.raises(SettingsError, match="distance"):
        found_probability(SETTINGS, SETTINGS.bits + 1)


def test_the_fingerprint_covers_every_setting() -> None:
    variants = [
        changed(),
        changed(seed=6),
        changed(bits=61),
        changed(groups=10),
        changed(bits_per_group=8),
        changed(dimension=25),
        changed(centre=np.zeros(24)),
        changed(normalise=True),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)
    assert changed().fingerprint == changed().build().fingerprint


@given(scale=st.floats(2.0**-60, 2.0**60))
def test_normalised_terms_do_not_depend_on_the_scale(scale: float) -> None:
    extractor = changed(normalise=True, signed_sqrt=True, centre=np.full(24, 0.2)).build()
    vectors = np.random.RandomState(3).standard_normal((5, 24)).astype(np.float32)
    # A power of two changes no digit, so the equality is exact.
    exact = np.float32(2.0 ** np.round(np.log2(scale)))
    np.testing.assert_array_equal(extractor.terms(vectors * exact), extractor.terms(vectors))
    np.testing.assert_array_equal(extractor.terms(vectors[3:4]), extractor.terms(vectors)[3:4])


def test_the_drawing_of_groups_is_frozen() -> None:
    # Indexes on disk rest on it: a change of these values makes all of them useless. Release 0.1 wrote the first.
    expected = "44c16af840176231622c33126159f905d409f17b0b4829cea92f78d4ba7471e4"
    extractor = changed(dimension=1280, seed=20_240_501, bits=1024, groups=128, bits_per_group=12).build()
    assert extractor.former_fingerprint(min_overlap=1, candidates=100) == expected
    assert extractor.fingerprint == "a1e23b5f2bfa03ffa641f25399b7ebfd617a132cfc20d81dcefec002318ec80f"


def test_settings_survive_pickling() -> None:
    again = pickle.loads(pickle.dumps(SETTINGS))
    assert again.describe() == SETTINGS.describe()
    assert again.fingerprint == SETTINGS.fingerprint


@pytest.mark.parametrize(
    "values",
    [
        {"bits_per_group": 0},
        {"bits_per_group": 25},
        {"bits": 6},
        {"groups": 0},
        {"groups": 1025},
        {"centre": np.zeros(23)},
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        changed(**values)


def test_vectors_of_another_dimension_are_refused() -> None:
    with pytest.raises(BadInputError):
        EXTRACTOR.terms(np.ones((1, DIMENSION + 1), np.float32))


def test_jaccard_is_that_of_the_term_sets() -> None:
    first = {(group, 1) for group in range(9)}
    second = {(group, 1 if group < 4 else 2) for group in range(9)}
    assert jaccard(4, 9) == len(first & second) / len(first | second)


@pytest.mark.parametrize("cosine", [1.0, 0.95, 0.7])
def test_shared_terms_follow_the_cosine(cosine: float) -> None:
    # Over ten draws of hyperplanes and groups: 600 groups, which share hyperplanes within a draw.
    random = np.random.RandomState(29)
    first, other = np.linalg.qr(random.standard_normal((64, 2)))[0].T.astype(np.float32)
    turned = np.float32(cosine) * first + np.float32(np.sqrt(1 - cosine**2)) * other
    shared = []
    for seed in range(10):
        left, right = TermSettings(64, seed, bits=256, groups=60, bits_per_group=5).build().terms([first, turned])
        shared.append((left == right).sum())
    assert np.mean(shared) == pytest.approx(expected_overlap(cosine, 60, 5), abs=4.0)
