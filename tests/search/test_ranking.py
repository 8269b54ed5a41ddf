"""The settings of the two stages, and their reference: distances, order, pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import SettingsError
from search.ranking import FURTHER, MAX_DEPTH, Order, Ranking, hamming, nearest_first, page_of


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"candidates": 0}, "candidates must lie in 1 to 10000, not 0"),
        ({"depth": MAX_DEPTH + 1}, "depth must lie in 1 to 10000, not 10001"),
        ({"depth": 19}, "depth must be at least candidates, 20, .* not 19"),
        ({"min_overlap": 0}, "min_overlap must be at least 1, not 0"),
        ({"distance_bits": 12}, "distance_bits must be a multiple of 8 and not below 0, not 12"),
        ({"distance_bits": -8}, "distance_bits must be a multiple of 8"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Ranking(**values)


def test_without_distances_depth_does_not_matter() -> None:
    assert Ranking(500, depth=10, order=Order.OVERLAP).candidates == 500


def test_the_bits_that_are_compared_are_those_of_the_code_unless_fewer_are_named() -> None:
    assert Ranking().for_codes(1024).distance_bits == 1024
    assert Ranking(distance_bits=256).for_codes(1024).distance_bits == 256
    with pytest.raises(SettingsError, match="distance_bits is 256, but the codes have 128 bits"):
        Ranking(distance_bits=256).for_codes(128)


def test_the_description_names_every_setting() -> None:
    changes: list[dict[str, Any]] = [
        {"candidates": 21},
        {"depth": 999},
        {"order": Order.OVERLAP},
        {"min_overlap": 2},
        {"distance_bits": 8},
    ]
    described = {tuple(replace(Ranking(), **change).describe().items()) for change in [{}, *changes]}
    assert len(described) == 1 + len(changes)


def test_the_first_page_has_k_and_the_others_a_hundred() -> None:
    pages = [page_of(Ranking(20), after) for after in (0, 1, 20, 120)]
    assert pages == [20, FURTHER, FURTHER, FURTHER]


@given(codes=st.lists(st.binary(min_size=5, max_size=5), max_size=6), code=st.binary(min_size=5, max_size=5))
def test_the_distance_is_the_number_of_leading_bits_that_differ(codes: list[bytes], code: bytes) -> None:
    rows = np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), 5)
    for bits in (8, 24, 40):
        expected = [
            sum((one ^ other).bit_count() for one, other in zip(row[: bits // 8], code[: bits // 8], strict=True))
            for row in codes
        ]
        assert hamming(rows, code, bits).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=12))
def test_nearest_first_then_overlap_then_age(images: list[tuple[int, int]]) -> None:
    # In the order of stage one: the most shared terms first, then the oldest. Their number is their age.
    staged = sorted(((distance, overlap, age) for age, (distance, overlap) in enumerate(images)), key=_by_overlap)
    distances = np.array([one[0] for one in staged], np.uint16)
    overlaps = np.array([one[1] for one in staged], np.uint16)
    ordered = [staged[row] for row in nearest_first(distances, overlaps).tolist()]
    assert ordered == sorted(staged, key=lambda one: (one[0], -one[1], one[2]))


def _by_overlap(image: tuple[int, int, int]) -> tuple[int, int]:
    _, overlap, age = image
    return -overlap, age
