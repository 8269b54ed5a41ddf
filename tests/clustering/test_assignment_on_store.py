"""The store takes what the assignment decides: random worlds on the store in memory, whose checks are its own."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from clustering.assignment import assign
from core.types import Decision, ImageId, Lookup, Thresholds
from storage.memory import MemoryStore
from storage.verify import verify
from tests.support.cluster_oracle import naive
from tests.support.cluster_world import Record, World, WorldPorts, random_overlap, random_score
from tests.support.reference_store import ReferenceStore


@dataclass
class StorePorts(WorldPorts):
    """The servers of a world, with the store in memory behind the look-ups and writes."""

    memory: MemoryStore | None = None

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId]) -> Lookup:
        """The store."""
        assert self.memory is not None
        return self.memory.look_up(ids, verdicts_of)

    def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
        """The store."""
        assert self.memory is not None
        self.memory.apply("log", decisions, offset, revision)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), choices=st.randoms(use_true_random=False))
def test_the_store_takes_every_decision_and_is_sound(seed: int, choices: random.Random) -> None:
    codes: dict[tuple[str, int], bytes] = {}
    log = []
    for _ in range(choices.randrange(1, 60)):
        key = f"image-{choices.randrange(14)}", choices.randrange(3)
        code = codes.setdefault(key, bytes([choices.randrange(1, 25)]))
        log.append(Record(*key, code, choices.choice(["scored"] * 8 + ["skipped", "faulted", "nameless"])))
    limits = Thresholds(*(choices.choice([0.0, 0.2, 0.4, 0.55, 0.7]) for _ in range(3)))
    world = World(log, random_score(seed), limits, k=4, overlap_of=lambda one, other: random_overlap(one, other, 3))
    store = MemoryStore()

    while (start := store.position().offset + 1) < len(log):
        batch = world.arrivals(max(0, start - choices.randrange(3)), min(len(log), start + choices.choice([1, 5, 64])))
        assign(batch, StorePorts(world, ReferenceStore(), memory=store), now_ms=5)

    expected = naive(world)
    with store.snapshot() as view:
        assert {record.image_id: record.head for record in view.images()} == expected.heads
        assert {c.head: c.founding_code for c in view.clusters()} == {
            head: expected.founding[head] for head in set(expected.heads.values())
        }
        *_, last = verify(view)
    assert last.problems == ()
