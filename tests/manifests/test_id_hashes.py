"""Hashes of ids, and the numbers that equal ones share."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manifests.id_hashes import id_hashes, numbered


def test_the_same_id_has_the_same_hash_and_no_other_has() -> None:
    ids = [f"image-{number}" for number in range(1000)]
    known: dict[str | None, bytes] = {}
    found = np.concatenate([id_hashes(ids, known), id_hashes(ids[::-1], known), id_hashes(ids)])
    assert found.shape == (3000, 2)
    assert len(np.unique(found, axis=0)) == 1000
    assert (found[:1000] == found[1000:2000][::-1]).all()
    assert (found[:1000] == found[2000:]).all()


def test_no_id_is_zeros_and_any_text_has_a_hash() -> None:
    found = id_hashes([None, "", "\ud800"])
    assert not found[0].any()
    assert found[1:].any(axis=1).all()
    assert id_hashes([]).shape == (0, 2)


HALF = st.integers(0, 3) | st.just(2**64 - 1)


@given(st.lists(st.tuples(HALF, HALF), max_size=30))
def test_numbers_are_the_ranks_of_hashes_also_where_they_share_a_half(halves: list[tuple[int, int]]) -> None:
    hashes = np.array(halves, ">u8").reshape(-1, 2)
    numbers, count = numbered(hashes)
    ranks = {each: rank for rank, each in enumerate(sorted(set(halves)))}
    assert numbers.tolist() == [ranks[each] for each in halves]
    assert count == len(ranks)
