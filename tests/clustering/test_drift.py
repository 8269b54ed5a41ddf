"""A morph in a thousand steps from one vector to another: each step is a near-duplicate of the last, the ends are not.

Codes and terms are the real ones; the score falls with the hamming distance of the codes.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from clustering.assignment import assign
from core.types import Thresholds
from search.hashing.projection import Hyperplanes
from search.hashing.terms import TermSettings
from tests.support.cluster_world import Record, World, WorldPorts
from tests.support.reference_store import ReferenceStore

STEPS = 1_000
DIMENSION = 64
LIMITS = Thresholds(accept=0.9, head_accept=0.9, adopt=0.93)


def morph(seed: int) -> NDArray[np.float32]:
    """From one random direction to another that stands at a right angle to it, in equal steps: (STEPS, DIMENSION)."""
    start, end = np.linalg.qr(np.random.default_rng(seed).standard_normal((DIMENSION, 2)))[0].T
    angles = np.linspace(0, np.pi / 2, STEPS)[:, None]
    return (np.cos(angles) * start + np.sin(angles) * end).astype(np.float32)


def morphed_world(order: NDArray[np.intp], k: int) -> World:
    """The steps of the morph as images, in this order."""
    vectors = morph(seed=11)[order]
    codes = Hyperplanes(DIMENSION, 1024, seed=5).codes(vectors)
    terms = TermSettings(DIMENSION, seed=6, bits=256, groups=32, bits_per_group=8).build().terms(vectors)
    overlaps = np.array([(terms == row).sum(axis=1) for row in terms])
    bits = np.unpackbits(codes, axis=1).astype(np.float32)
    equal = (bits @ bits.T + (1 - bits) @ (1 - bits).T) / bits.shape[1]
    row = {code.tobytes(): n for n, code in enumerate(codes)}
    return World(
        [Record(f"step-{step:04d}", 1, codes[n].tobytes()) for n, step in enumerate(order)],
        lambda one, other: float(np.float32(equal[row[one], row[other]])),
        LIMITS,
        k,
        overlap_of=lambda one, other: int(overlaps[row[one], row[other]]),
    )


@pytest.mark.parametrize("shuffled", [False, True], ids=["step by step", "in any order"])
def test_a_morph_does_not_chain(shuffled: bool) -> None:
    order = np.random.default_rng(3).permutation(STEPS) if shuffled else np.arange(STEPS)
    world = morphed_world(order, k=20)
    neighbours = [world.score_of(a.code, b.code) for a, b in zip(world.log, world.log[1:], strict=False)]
    assert shuffled or min(neighbours) >= LIMITS.accept, "each step matches the one before"
    store = ReferenceStore()
    arrivals = world.arrivals()
    while (start := store.position.offset + 1) < STEPS:
        assign(arrivals[start : start + 64], WorldPorts(world, store), now_ms=5)

    code = {record.image_id: record.code for record in world.log}
    for image_id, head in store.heads.items():
        assert world.score_of(code[image_id], store.founding[head]) >= LIMITS.head_accept or image_id == head
        assert store.founding[head] == code[head]
    first, last = "step-0000", f"step-{STEPS - 1:04d}"
    assert store.heads[first] != store.heads[last]
    assert 3 <= len(store.members) < STEPS / 10, "clusters, not crumbs"
