"""The check finds every kind of damage to law 2, counts, embeddings and history, and tells it in bounded words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from core.types import ImageId
from storage.errors import CorruptedError
from storage.memory import MemoryStore
from storage.records import EndedCluster
from storage.testing.decisions import A, B, C, D, deletes, fill, founds, joins, put
from storage.testing.model import StoreModel, seeded_actions
from storage.verify import VerifyProgress, verify


def store_of_four() -> MemoryStore:
    """A has the members A, B and C; D is alone."""
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A), founds(3, D))
    return store


def store_of_deleted() -> MemoryStore:
    """A is deleted and names the cluster of B and C; D is deleted."""
    store = store_of_four()
    put(store, deletes(4, A, A), deletes(5, D, D))
    return store


def last(store: MemoryStore) -> VerifyProgress:
    with store.snapshot() as view:
        return list(verify(view))[-1]


def test_a_sound_store() -> None:
    progress = last(store_of_four())
    assert progress == VerifyProgress(True, 18, 18, 4, 2, (), 0)


def test_a_store_with_deleted_images() -> None:
    assert last(store_of_deleted()) == VerifyProgress(True, 15, 15, 2, 1, (), 0)


DELETED_DAMAGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "flagged head is there": (
        lambda c: c.image_of.update({A: replace(c.image_of[B], image_id=A)}),
        "cluster 'a': it says that its head was deleted, which was not",
    ),
    "flag without tombstone": (
        lambda c: c.tombstone_of.pop(A),
        "cluster 'a': it says that its head was deleted, which was not",
    ),
    "flag lost": (
        lambda c: cluster(c, A, head_deleted=False),
        "tombstone of 'a': its cluster does not say that its head was deleted",
    ),
    "tombstone of an image": (
        lambda c: c.tombstone_of.update({B: replace(c.tombstone_of[A], image_id=B)}),
        "tombstone of 'b': the image is there",
    ),
    "lost tombstone": (lambda c: c.tombstone_of.pop(D), "1 tombstones, the store counts 2"),
}


@pytest.mark.parametrize("name", DELETED_DAMAGES)
def test_every_damage_to_what_is_deleted_is_told(name: str) -> None:
    store = store_of_deleted()
    damage, problem = DELETED_DAMAGES[name]
    damage(store._content)
    assert problem in last(store).problems


def test_an_empty_store() -> None:
    assert last(MemoryStore()) == VerifyProgress(True, 0, 0, 0, 0, (), 0)


def image(content: Any, image_id: ImageId, **fields: Any) -> None:
    content.image_of[image_id] = replace(content.image_of[image_id], **fields)


def cluster(content: Any, head: ImageId, **fields: Any) -> None:
    content.cluster_of[head] = replace(content.cluster_of[head], **fields)


DAMAGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "head without cluster": (lambda c: c.cluster_of.pop(A), "image 'b': its head 'a' has no cluster"),
    "image with another head": (lambda c: image(c, B, head=D), "image 'b': it is not listed under its head 'd'"),
    "edge to another head's member": (
        lambda c: image(c, B, head=D),
        "cluster 'a': it lists 'b' at 2, whose head is 'd'",
    ),
    "head with another head": (lambda c: image(c, A, head=D), "cluster 'a': its head has another head, 'd'"),
    "unknown head": (lambda c: c.image_of.pop(A), "cluster 'a': its head is unknown"),
    "unknown member": (lambda c: c.image_of.pop(B), "cluster 'a': it lists 'b', which is unknown"),
    "lost edge": (lambda c: c.members_of[A].pop(3), "image 'c': it is not listed under its head 'a'"),
    "count too low": (lambda c: cluster(c, A, count=2), "cluster 'a': it counts 2 members, 3 are listed"),
    "count of nothing": (lambda c: cluster(c, D, count=0), "cluster 'd': it counts 0 members"),
    "edges without cluster": (lambda c: c.cluster_of.pop(D), "cluster 'd': it counts 0 members, 1 are listed"),
    "cluster without edges": (lambda c: c.members_of.pop(D), "1 heads have members, there are 2 clusters"),
    "lost embeddings": (
        lambda c: c.embedding_at.pop(1),
        "image 'b': the embeddings of version 1 are not at place 1",
    ),
    "embeddings of another version": (
        lambda c: c.embedding_at.update({1: replace(c.embedding_at[1], version=9)}),
        "embeddings at place 1: 'b' has no such place or version",
    ),
    "stray embeddings": (
        lambda c: c.embedding_at.update({9: replace(c.embedding_at[1], place=9)}),
        "embeddings at place 9: 'b' has no such place or version",
    ),
    "history with a hole": (lambda c: c.entries.pop(1), "history: no entry between 1 and 3"),
    "history cut short": (lambda c: c.entries.pop(), "history: it ends at 3, the store counts 4"),
    "history says another head": (
        lambda c: c.entries.__setitem__(1, replace(c.entries[1], new_head=D)),
        "image 'b': its last history entry does not bring it to 'a'",
    ),
    "a second that goes back": (
        lambda c: c.moments.update({max(c.moments) + 1: 1}),
        "it ends with change 1, the one before with 4, and the last change is 4",
    ),
    "a second that is ahead": (
        lambda c: c.moments.update({max(c.moments): 9}),
        "it ends with change 9",
    ),
    "an ended cluster of no change": (
        lambda c: c.ended_of.update({A: [EndedCluster(7, c.cluster_of[A])]}),
        "ended cluster 'a': change 7 is not one of 1 to 4",
    ),
    "images miscounted": (
        lambda c: setattr(c, "current", replace(c.current, images=5)),
        "4 images, the store counts 5",
    ),
    "clusters miscounted": (
        lambda c: setattr(c, "current", replace(c.current, clusters=1)),
        "2 clusters, the store counts 1",
    ),
    "published too far": (
        lambda c: setattr(c, "out", 5),
        "history is published up to 5, its last entry is 4",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_told(name: str) -> None:
    store = store_of_four()
    damage, problem = DAMAGES[name]
    damage(store._content)
    progress = last(store)
    assert any(problem in each for each in progress.problems)
    assert progress.problem_count == len(progress.problems)


def store_of_swept() -> MemoryStore:
    """Of five entries the last two are kept; `e` was deleted."""
    store = store_of_four()
    put(store, founds(4, ImageId("e")), deletes(5, ImageId("e"), ImageId("e")))
    store.set_published(6)
    store.sweep_history(5, 10)
    return store


def first_kept(content: Any, number: int) -> None:
    content.current = replace(content.current, history_first=number)


SWEPT_DAMAGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "an entry is left": (
        lambda c: c.entries.insert(0, replace(c.entries[0], number=2, image_id=B)),
        "history: entry 2 is there, and it begins at 5",
    ),
    "an image knows a swept entry": (
        lambda c: c.entries.insert(0, replace(c.entries[0], number=2, image_id=B)),
        "image 'b': history entry 2 is known as one of it, and was swept",
    ),
    "a tombstone knows a swept entry": (
        lambda c: c.entries.insert(0, replace(c.entries[0], number=2)),
        "image 'e': history entry 2 is known as one of it, and was swept",
    ),
    "the first entry is gone": (lambda c: c.entries.pop(0), "history: no entry between 4 and 6"),
    "it begins too early": (lambda c: first_kept(c, 4), "history: no entry between 3 and 5"),
    "a second is left": (lambda c: c.moments.update({0: 3}), "history: second 0 ends with entry 3, and it begins at 5"),
    "it is not published": (lambda c: setattr(c, "out", 3), "history is published up to 3, and begins at 5"),
}


@pytest.mark.parametrize("name", SWEPT_DAMAGES)
def test_every_damage_to_what_is_kept_of_the_history_is_told(name: str) -> None:
    store = store_of_swept()
    assert last(store).problems == ()
    damage, problem = SWEPT_DAMAGES[name]
    damage(store._content)
    assert store._content is not None
    store._content.moments = dict(sorted(store._content.moments.items()))
    assert problem in last(store).problems


def test_progress_counts_what_is_kept() -> None:
    store = store_of_swept()
    with store.snapshot() as view:
        report = list(verify(view))[-1]
    # Four images with edges and embeddings, two clusters, a tombstone, two entries.
    assert report.checked == report.total == 3 * 4 + 2 + 1 + 2


def test_progress_is_reported_on_the_way_without_problems() -> None:
    store, model = MemoryStore(), StoreModel()
    fill(store, model, seeded_actions(1, 300), batch=50)
    with store.snapshot() as view:
        reports = list(verify(view, report_every=100))
    assert len(reports) > 5
    assert [report.done for report in reports] == [False] * (len(reports) - 1) + [True]
    assert [report.checked for report in reports] == sorted(report.checked for report in reports)
    assert reports[-1].checked == reports[-1].total


def test_problems_are_told_up_to_a_hundred_and_all_counted() -> None:
    store = MemoryStore()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(150)])
    assert store._content is not None
    store._content.embedding_at.clear()
    progress = last(store)
    assert len(progress.problems) == 100
    assert progress.problem_count == 150


def test_a_record_that_cannot_be_read_ends_its_own_pass() -> None:
    store = store_of_four()

    class Damaged(type(store._content)):  # type: ignore[misc]
        def clusters(self) -> Any:
            raise CorruptedError("the cluster 'a' is damaged")
            yield

    with store.snapshot() as view:
        view.__class__ = Damaged
        progress = list(verify(view))[-1]
    assert progress.images == 4
    assert any("is damaged" in problem for problem in progress.problems)
