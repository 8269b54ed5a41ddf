"""Damage that the images can mend is mended; all other damage stays, and nothing that is sound is touched."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import ImageId
from storage.errors import CorruptedError
from storage.memory import MemoryStore
from storage.mending import mended
from storage.moving import Changes
from storage.records import Mend
from storage.repair import MENDS_AT_ONCE, repair
from storage.testing.decisions import A, B, C, D, deletes, fill, founds, joins, put
from storage.testing.model import StoreModel, seeded_actions
from storage.verify import VerifyProgress, verify
from tests.storage.test_verify import DAMAGES, DELETED_DAMAGES, store_of_deleted, store_of_four

TELLS_NOTHING = {
    "image with another head",
    "edge to another head's member",
    "head with another head",
    "unknown head",
    "lost embeddings",
    "embeddings of another version",
    "history with a hole",
    "history cut short",
    "history says another head",
    "published too far",
    "flag without tombstone",
    "tombstone of an image",
    "flagged head is there",
    "a second that goes back",
    "a second that is ahead",
    "an ended cluster of no change",
}
"""Damages of `tests.storage.test_verify` that the images do not mend, or not wholly."""


def left(store: MemoryStore) -> VerifyProgress:
    with store.snapshot() as view:
        return list(verify(view))[-1]


def copied(store: MemoryStore) -> Any:
    assert store._content is not None
    return replace(store._content.copy(), current=replace(store._content.current, revision=0))


def repaired(store: MemoryStore) -> VerifyProgress:
    return list(repair(store, sleep=lambda wait_s: None))[-1]


@pytest.mark.parametrize(
    ("name", "make", "damage"),
    [
        *((name, store_of_four, damage) for name, (damage, _) in DAMAGES.items()),
        *((name, store_of_deleted, damage) for name, (damage, _) in DELETED_DAMAGES.items()),
    ],
)
def test_each_damage(name: str, make: Callable[[], MemoryStore], damage: Callable[[Any], object]) -> None:
    store = make()
    images = copied(store).image_of
    damage(store._content)
    found = repaired(store)
    assert found.problem_count > 0
    assert (left(store).problem_count == 0) is (name not in TELLS_NOTHING), left(store).problems
    if name not in TELLS_NOTHING and name not in ("unknown member", "lost tombstone"):
        assert copied(store).image_of == images


@pytest.mark.parametrize("name", ["head without cluster", "lost edge", "count too low", "cluster without edges"])
def test_what_was_lost_is_as_it_was(name: str) -> None:
    store = store_of_four()
    whole = copied(store)
    DAMAGES[name][0](store._content)
    repaired(store)
    found = copied(store)
    assert found.cluster_of == whole.cluster_of
    assert {head: dict(sorted(edges.items())) for head, edges in found.members_of.items()} == whole.members_of
    assert found.current == whole.current
    assert store.state().revision > 0


def test_a_sound_store_is_not_written() -> None:
    store = store_of_four()
    told: list[object] = []
    store.on_apply(told.append)
    assert repaired(store).problem_count == 0
    store.mend([Mend("cluster", A), Mend("image", B), Mend("embeddings", number=0), Mend("tombstone", A)])
    assert (told, store.state().revision) == ([], 0)


def test_what_was_mended_or_written_meanwhile_stays() -> None:
    """A mend is found on an earlier view: the stream has written since."""
    store = store_of_four()
    put(store, founds(4, C, old=A, version=2))
    store.mend([Mend("image", C), Mend("cluster", A), Mend("image", ImageId("nobody")), Mend("cluster", ImageId("x"))])
    assert left(store).problem_count == 0
    assert store.state().revision == 0


def test_two_images_with_one_edge_are_left() -> None:
    store = store_of_four()
    content: Any = store._content
    content.image_of[B] = replace(content.image_of[B], edge_sequence=3)
    repaired(store)
    assert store.members(A, 10).items == (A, C)
    assert any("'b': it is not listed" in problem for problem in left(store).problems)


def test_a_lost_cluster_of_a_deleted_head_takes_nothing_in() -> None:
    store = store_of_deleted()
    content: Any = store._content
    content.cluster_of.pop(A)
    repaired(store)
    assert left(store).problem_count == 0
    cluster = store.cluster(A)
    assert cluster is not None
    assert (cluster.count, cluster.founding_code, cluster.head_deleted) == (2, b"", True)


@given(st.integers(0, 200), st.integers(0, 1000))
def test_any_loss_of_edges_clusters_and_counts_is_mended(losses: int, seed: int) -> None:
    rng = random.Random(seed)
    store, model = MemoryStore(), StoreModel()
    fill(store, model, seeded_actions(seed, 120, ids=30), 20)
    content: Any = store._content
    whole = {head: dict(edges) for head, edges in content.members_of.items()}
    counts = {head: each.count for head, each in content.cluster_of.items()}
    for _ in range(losses):
        head = rng.choice(sorted(counts)) if counts else A
        match rng.randrange(4):
            case 0 if content.members_of.get(head):
                content.members_of[head].pop(rng.choice(sorted(content.members_of[head])))
            case 1 if not content.tombstone_of.get(head):
                content.cluster_of.pop(head, None)
            case 2 if head in content.cluster_of:
                content.cluster_of[head] = replace(content.cluster_of[head], count=rng.randrange(9))
            case _:
                stray = content.members_of.setdefault(head, {})
                stray[1_000_000 + rng.randrange(100)] = ImageId("nobody")
    repaired(store)
    assert left(store).problems == ()
    found: Any = copied(store)
    assert {head: dict(sorted(edges.items())) for head, edges in found.members_of.items() if edges} == whole
    assert {head: each.count for head, each in found.cluster_of.items()} == counts


def test_many_damages_go_in_several_writes() -> None:
    store = MemoryStore()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(2 * MENDS_AT_ONCE + 1)])
    content: Any = store._content
    content.members_of.clear()
    repaired(store)
    assert left(store).problem_count == 0
    assert store.state().revision > 2


def test_a_record_that_cannot_be_read_spoils_neither_counts_nor_clusters() -> None:
    """Of what comes behind it nothing is known."""
    store = store_of_deleted()
    content: Any = store._content
    whole = copied(store)
    content.members_of[A].pop(2)

    class Damaged(type(content)):  # type: ignore[misc]
        def images(self) -> Any:
            raise CorruptedError("the image 'b' is damaged")
            yield

        def tombstones(self) -> Any:
            raise CorruptedError("the tombstone of 'a' is damaged")
            yield

    content.__class__ = Damaged
    content.copy = lambda: content
    assert repaired(store).problem_count > 2
    content.__class__ = type(whole)
    assert content.cluster_of == whole.cluster_of
    assert content.current == whole.current


def test_what_cannot_be_mended_does_not_keep_the_rest() -> None:
    store = MemoryStore()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(20)])
    content: Any = store._content
    content.members_of.clear()
    mend, calls = store.mend, list[int]()

    def picky(mends: Collection[Mend]) -> None:
        calls.append(len(mends))
        if any(each.name == "i7" for each in mends):
            raise CorruptedError("the cluster 'i7' is damaged")
        mend(mends)

    store.mend = picky  # type: ignore[method-assign]
    repaired(store)
    assert {problem.split(":")[0] for problem in left(store).problems} == {
        "image 'i7'",
        "cluster 'i7'",
        "19 heads have members, there are 20 clusters",
    }
    assert max(calls) > 1


def test_nothing_to_look_at_changes_nothing() -> None:
    with store_of_four().snapshot() as view:
        assert mended(view, []) == Changes(view.state())


def test_a_tombstone_that_a_new_life_left_behind_goes() -> None:
    store = MemoryStore()
    put(store, founds(0, A), deletes(1, A, A), founds(2, A, version=5), joins(3, D, A))
    content: Any = store._content
    content.tombstone_of[A] = replace(store_of_deleted()._content.tombstone_of[A], version=1)  # type: ignore[union-attr]
    content.current = replace(content.current, tombstones=1)
    repaired(store)
    assert left(store).problem_count == 0
