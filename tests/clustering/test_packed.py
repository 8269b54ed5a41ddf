"""Packed candidates read like the tuple that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustering.packed import PackedCandidates, score_codes
from core.errors import BadInputError
from core.types import Candidate, ImageId

candidate_lists = st.lists(
    st.builds(
        Candidate,
        st.text(min_size=1, max_size=4).map(ImageId),
        st.integers(0, 2**63 - 1),
        st.integers(0, 2**16 - 1),
        st.binary(min_size=3, max_size=3),
        st.integers(0, 2**16 - 1),
    ),
    max_size=6,
)


def pack(candidates: list[Candidate]) -> PackedCandidates:
    return PackedCandidates(
        [c.image_id for c in candidates],
        np.array([c.overlap for c in candidates], "<u2").tobytes(),
        np.array([c.place for c in candidates], "<i8").tobytes(),
        b"".join(c.score_code for c in candidates),
        np.array([c.distance for c in candidates if c.distance is not None], "<u2").tobytes(),
    )


@given(candidate_lists, st.slices(6))
def test_it_reads_like_the_tuple(candidates: list[Candidate], some: slice) -> None:
    packed = pack(candidates)
    assert packed == tuple(candidates)
    assert packed[some] == tuple(candidates)[some]
    assert [packed[at] for at in range(-len(candidates), len(candidates))] == candidates + candidates
    assert score_codes(packed) == score_codes(candidates) == [c.score_code for c in candidates]


def test_candidates_without_distances_have_none() -> None:
    packed = PackedCandidates(["a"], b"\x02\x00", bytes(8), b"xyz")
    assert packed == (Candidate(ImageId("a"), 0, 2, b"xyz", None),)


def test_it_differs_from_other_candidates() -> None:
    one = Candidate(ImageId("a"), 1, 2, b"xyz")
    assert pack([one]) != (Candidate(ImageId("a"), 1, 3, b"xyz"),)
    assert pack([one]) != ()


@pytest.mark.parametrize("wrong", [(b"", b"\0" * 8, b"xyz"), (b"\0\0", b"", b"xyz"), (b"\0\0\0", b"\0" * 8, b"xyz")])
def test_columns_that_do_not_fit_are_refused(wrong: tuple[bytes, bytes, bytes]) -> None:
    with pytest.raises(BadInputError):
        PackedCandidates(["a"], *wrong)
    with pytest.raises(BadInputError):
        PackedCandidates([], b"", b"", b"x")
    with pytest.raises(BadInputError):
        PackedCandidates(["a"], b"\0\0", bytes(8), b"xyz", b"\0")


def test_an_index_beyond_the_end_is_an_error() -> None:
    with pytest.raises(IndexError):
        pack([])[0]
