"""The store takes what the assignment decides: random worlds on the store in memory, whose checks are its own."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from clustering.assignment import assign
from core.types import Decision, ImageId, Lookup
from storage.memory import MemoryStore
from storage.verify import verify
from tests.clustering.test_assignment_properties import BUSY_WORLDS, WORLDS
from tests.support.cluster_oracle import naive
from tests.support.cluster_world import World, WorldPorts
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


@settings(max_examples=200, deadline=None)
@given(world=WORLDS | BUSY_WORLDS, choices=st.randoms(use_true_random=False))
def test_the_store_takes_every_decision_and_is_sound(world: World, choices: random.Random) -> None:
    store, length = MemoryStore(), len(world.log)
    while (start := store.position().offset + 1) < length:
        batch = world.arrivals(max(0, start - choices.randrange(3)), min(length, start + choices.choice([1, 5, 64])))
        assign(batch, StorePorts(world, ReferenceStore(), memory=store), now_ms=5)

    expected = naive(world)
    with store.snapshot() as view:
        assert {image.image_id: (image.head, image.version, image.place) for image in view.images()} == {
            image: (head, expected.versions[image], expected.places[image]) for image, head in expected.heads.items()
        }
        assert {c.head: c.founding_code for c in view.clusters()} == {
            head: expected.founding[head] for head in set(expected.heads.values())
        }
        names = view.pseudonyms()
        ids = {} if names is None else {names.of(ImageId(each)): each for each in expected.deleted}
        buried = {ids.get(tombstone.image_id, tombstone.image_id): tombstone.version for tombstone in view.tombstones()}
        assert buried == expected.deleted
        assert [
            (entry.offset, entry.image_id, entry.old_head, entry.new_head, entry.cause)
            for entry in view.history_from(0)
        ] == expected.history
        *_, last = verify(view)
    assert last.problems == ()
