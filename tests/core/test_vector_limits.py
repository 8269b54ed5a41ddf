"""Real vectors pass, degenerate and rescaled ones do not.

The photographs are those of the sample. `tests/fixtures/one_colour.npz` holds the vectors that the sample's networks
give for pictures of one colour (float16).
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.dead_letters import Reason
from core.notifications import EmbeddingSpec
from core.vector_limits import MeasuredVectors, NormBand, VectorLimits
from manifests.image_files import ImageFile
from stream.centres import file_vectors, fit_means, measure
from stream.hashing import vector_limits
from stream.settings import load_settings

ROOT = Path(__file__).parents[2]

Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def photos() -> tuple[list[Vectors], list[Vectors]]:
    images = ImageFile(ROOT / "examples/photos/photos.parquet", 1280, 768)
    search, score = zip(*file_vectors(images), strict=True)
    return list(search), list(score)


@pytest.fixture(scope="module")
def limits() -> tuple[VectorLimits, VectorLimits]:
    settings = load_settings(ROOT / "neardup.toml")
    return vector_limits(settings, settings.signal()[1])


def reasons(limits: VectorLimits, vectors: list[Vectors], scale: float = 1.0) -> set[Reason | None]:
    found = [limits.problem(vector * np.float32(scale)) for vector in vectors]
    return {None if problem is None else problem.reason for problem in found}


def test_every_photograph_and_every_edit_is_accepted(
    limits: tuple[VectorLimits, VectorLimits], photos: tuple[list[Vectors], list[Vectors]]
) -> None:
    for side, vectors in zip(limits, photos, strict=True):
        assert reasons(side, vectors) == {None}


@pytest.mark.parametrize(
    ("scale", "reason"),
    [
        (10.0, Reason.UNUSUAL_NORM),
        (255.0, Reason.UNUSUAL_NORM),
        (0.1, Reason.UNUSUAL_NORM),
        (1e-3, Reason.DEGENERATE),
        (1e-30, Reason.DEGENERATE),
        (1e-40, Reason.DEGENERATE),  # subnormal in float32
        (1e36, Reason.UNUSUAL_NORM),
    ],
)
def test_photographs_of_another_scale_are_refused(
    limits: tuple[VectorLimits, VectorLimits],
    photos: tuple[list[Vectors], list[Vectors]],
    scale: float,
    reason: Reason,
) -> None:
    for side, vectors in zip(limits, photos, strict=True):
        assert reasons(side, vectors[::10], scale) == {reason}


def test_a_sender_that_begins_to_normalise_is_refused_at_once(
    limits: tuple[VectorLimits, VectorLimits], photos: tuple[list[Vectors], list[Vectors]]
) -> None:
    for side, vectors in zip(limits, photos, strict=True):
        unit = [vector / np.float32(np.linalg.norm(vector)) for vector in vectors[::10]]
        assert reasons(side, unit) == {Reason.UNUSUAL_NORM}


def test_a_small_change_of_scale_is_seen_in_the_bands(
    limits: tuple[VectorLimits, VectorLimits], photos: tuple[list[Vectors], list[Vectors]]
) -> None:
    for side, vectors in zip(limits, photos, strict=True):
        usual = [side.band(vector) for vector in vectors].count(NormBand.USUAL) / len(vectors)
        assert usual == pytest.approx(0.98, abs=0.005)
        for scale, band in ((1.5, NormBand.HIGH), (0.67, NormBand.LOW)):
            bands = [side.band(vector * np.float32(scale)) for vector in vectors[::10]]
            assert bands.count(band) > 0.8 * len(bands)


def test_pictures_of_one_colour_are_accepted(limits: tuple[VectorLimits, VectorLimits]) -> None:
    flat = np.load(ROOT / "tests/fixtures/one_colour.npz")
    for side, name in zip(limits, ("search", "score"), strict=True):
        assert reasons(side, list(flat[name].astype(np.float32))) == {None}


def test_a_dead_network_is_refused(limits: tuple[VectorLimits, VectorLimits]) -> None:
    """Constants with the rounding errors of float16, and the centre with small noise."""
    random = np.random.default_rng(3)
    for side in limits:
        assert side.measured is not None
        size = side.spec.dimension
        noise = 1 + 2.0**-11 * random.uniform(-1, 1, (20, size))
        assert reasons(side, list((0.7 * noise).astype(np.float16).astype(np.float32))) == {Reason.DEGENERATE}
        near = side.measured.centre + 0.01 * random.standard_normal((20, size))
        assert reasons(side, list(near.astype(np.float32))) == {Reason.DEGENERATE}


def test_without_measurements_only_the_floors_hold() -> None:
    limits = VectorLimits(EmbeddingSpec("net", "1", 64))
    random = np.random.default_rng(4)
    vectors = list(random.standard_normal((20, 64)).astype(np.float32))
    for scale in (0.01, 0.1, 1.0, 10.0, 255.0):
        assert reasons(limits, vectors, scale) == {None}
    assert reasons(limits, vectors, 1e-30) == {Reason.DEGENERATE}
    subnormal = [(vector * 6e-8).astype(np.float16).astype(np.float32) for vector in vectors]
    assert reasons(limits, subnormal) == {Reason.DEGENERATE}
    assert reasons(limits, [np.full(64, 3.0, np.float32)]) == {Reason.DEGENERATE}
    assert {limits.band(vector) for vector in vectors} == {NormBand.USUAL}


def unit_vectors(count: int, dimension: int = 64) -> Vectors:
    vectors = np.random.default_rng(5).standard_normal((count, dimension))
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def measured(vectors: Vectors, spec: EmbeddingSpec) -> MeasuredVectors:
    pairs = [(vector, vector) for vector in vectors]
    return measure(pairs, fit_means(pairs, spec, spec), spec, spec).measured["search"]


def test_embeddings_of_norm_one_have_no_spread_of_norms_and_work() -> None:
    spec = EmbeddingSpec("net", "1", 64)
    vectors = unit_vectors(300)
    limits = VectorLimits(spec, measured(vectors, spec))
    halves = vectors.astype(np.float16).astype(np.float32)
    assert reasons(limits, list(halves)) == {None}
    assert reasons(limits, list(vectors), 10.0) == {Reason.UNUSUAL_NORM}
    assert reasons(limits, list(vectors), 0.005) == {Reason.DEGENERATE}


@given(scale=st.floats(2.0**-6, 2.0**12), row=st.integers(0, 49))
def test_a_signal_that_normalises_takes_every_scale(scale: float, row: int) -> None:
    spec = EmbeddingSpec("net", "1", 64, normalise=True)
    vectors = unit_vectors(50)
    limits = VectorLimits(spec, measured(vectors * np.float32(7.0), spec))
    vector = vectors[row] * np.float32(scale)
    assert limits.problem(vector) is None
    assert limits.band(vector) is NormBand.USUAL


def test_checks_can_be_switched_off(photos: tuple[list[Vectors], list[Vectors]]) -> None:
    spec = EmbeddingSpec("net", "1", 1280, norm_factor=0.0, degenerate_share=0.0)
    sample = np.stack(photos[0][:200])
    limits = VectorLimits(spec, measured(sample, spec))
    assert reasons(limits, list(sample), 255.0) == {None}
    assert reasons(limits, [sample.mean(axis=0)]) == {None}
    assert reasons(limits, list(sample), 1e-30) == {Reason.DEGENERATE}


def test_the_detail_has_both_values(
    limits: tuple[VectorLimits, VectorLimits], photos: tuple[list[Vectors], list[Vectors]]
) -> None:
    vector = photos[0][0]
    problem = limits[0].problem(vector * np.float32(10))
    assert problem is not None
    assert f"{10 * np.linalg.norm(vector):.3g}" in problem.detail
    assert "7.52 to 99.7" in problem.detail


def test_limits_survive_a_pickle_round_trip(
    limits: tuple[VectorLimits, VectorLimits], photos: tuple[list[Vectors], list[Vectors]]
) -> None:
    again = pickle.loads(pickle.dumps(limits[1]))
    for scale in (1.0, 10.0):
        vector = photos[1][0] * np.float32(scale)
        assert again.problem(vector) == limits[1].problem(vector)


@given(seed=st.integers(0, 2**32 - 1), normalise=st.booleans(), measured=st.booleans())
def test_many_vectors_have_the_problems_that_each_has(
    limits: tuple[VectorLimits, VectorLimits],
    photos: tuple[list[Vectors], list[Vectors]],
    seed: int,
    normalise: bool,
    measured: bool,
) -> None:
    """Photographs, constants and vectors near the centre, of many scales: around each limit, and far beyond."""
    drawn = np.random.default_rng(seed)
    for side, vectors in zip(limits, photos, strict=True):
        assert side.measured is not None
        spec = replace(side.spec, normalise=normalise)
        some = VectorLimits(spec, side.measured if measured else None)
        photo = np.stack([vectors[row] for row in drawn.integers(0, len(vectors), 30)])
        noise = photo * 10.0 ** drawn.uniform(-4, 0, (30, 1))
        near = np.concatenate([photo, 0.7 + noise, side.measured.centre + noise, 0 * photo + 3])
        scales = np.where(drawn.random((len(near), 1)) < 0.5, 1.0, 10.0 ** drawn.uniform(-7, 7, (len(near), 1)))
        rows = (near * scales).astype(np.float32)
        rows[0] = 3e38
        assert some.problems(rows) == {
            row: problem for row, vector in enumerate(rows) if (problem := some.problem(vector)) is not None
        }


def test_hardly_any_photograph_is_looked_at_by_itself(
    limits: tuple[VectorLimits, VectorLimits],
    photos: tuple[list[Vectors], list[Vectors]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[Vectors] = []
    monkeypatch.setattr(VectorLimits, "problem", lambda self, vector: looked.append(vector))
    for side, vectors in zip(limits, photos, strict=True):
        assert side.problems(np.stack(vectors)) == {}
    assert len(looked) < len(photos[0]) / 20
