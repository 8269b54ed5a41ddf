"""A rollback of a random order brings back what every moment was, and its undo what was before it."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from core.overrides import NewImages, OverrideKind, OverrideRequest, RollbackRequest
from core.types import ImageId
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.verify import verify
from tests.clustering.test_assignment_properties import BUSY_WORLDS, WORLDS
from tests.clustering.test_overrides_on_stores import decide
from tests.support.cluster_world import World

Held = tuple[dict[ImageId, ImageId], dict[ImageId, tuple[bytes, bool]]]
"""The head of each image, and of each cluster the founding code and whether its head was deleted."""


def held(store: ClusterStore) -> Held:
    """What a store holds; it must be sound."""
    with store.snapshot() as view:
        assert [progress.problems for progress in verify(view)][-1] == ()
        heads = {image.image_id: image.head for image in view.images()}
        return heads, {cluster.head: (cluster.founding_code, cluster.head_deleted) for cluster in view.clusters()}


def is_forgotten(store: ClusterStore, image_id: ImageId, number: int) -> bool:
    """Whether an image was forgotten after a change; it may have returned since."""
    with store.snapshot() as view:
        names = view.pseudonyms()
        erasure = None if names is None else view.erasure(names.of(image_id))
    return erasure is not None and erasure.through > number


def lived(world: World) -> tuple[MemoryStore, dict[int, Held]]:
    """A store after a world, and what it held after each of its writes, by the number of the last change."""
    store = MemoryStore()
    moments = {0: held(store)}
    for until in range(1, len(world.log) + 1):
        decide(world, store, until, lambda: 1)
        moments[store.state().history_number] = held(store)
    return store, moments


@settings(max_examples=300, deadline=None)
@given(world=WORLDS | BUSY_WORLDS, dice=st.integers(0, 10**6).map(random.Random))
def test_every_moment_comes_back_and_is_undone(world: World, dice: random.Random) -> None:
    store, moments = lived(world)
    before = held(store)
    number, (heads, clusters) = dice.choice(sorted(moments.items(), key=lambda item: item[0]))
    new = dice.choice(list(NewImages))
    asked = RollbackRequest(to_change=number, new=new)
    store.override(OverrideRequest(OverrideKind.ROLLBACK, rollback=asked), 7)
    heads_now, clusters_now = held(store)
    assert heads_now.keys() == before[0].keys()
    names: dict[ImageId, ImageId] = {}
    for image_id, head in heads_now.items():
        then = None if is_forgotten(store, image_id, number) else heads.get(image_id)
        if then is not None and is_forgotten(store, then, number):
            assert names.setdefault(then, head) == head  # the oldest that wants it
        elif then is not None and then not in heads and then in heads_now:
            assert head == heads_now[then]  # a deleted head that named a cluster has come back since
        elif then is not None:
            assert head == then
            deleted = clusters_now[head][1]
            assert deleted is (head not in heads_now)
            assert clusters_now[head][0] == clusters[head][0]
        elif new is NewImages.DECIDE:
            assert head == image_id
    store.override(OverrideRequest(OverrideKind.UNDO, undoes=1), 8)
    assert held(store) == before
