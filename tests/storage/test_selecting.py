"""Selections of a store against a plain filter over everything it holds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInputError
from core.overrides import JOB_KINDS, OverrideKind
from core.types import Cause, Decision, ImageId, Move, Outcome, Trigger
from storage import selecting
from storage.memory import MemoryStore
from storage.selecting import ImageSelection, named_images, selected_pages
from storage.testing.decisions import A, B, C, decided, fill, founds, joins, put
from storage.testing.model import StoreModel, name, seeded_actions
from storage.testing.overrides import say

STORE = MemoryStore()
fill(STORE, StoreModel(), seeded_actions(5, 600, ids=80), 50)
with STORE.snapshot() as _view:
    TIMES = sorted({image.decided_at_ms for image in _view.images()})
    HEADS = sorted({image.head for image in _view.images()})

SELECTIONS = st.builds(
    ImageSelection,
    head=st.none() | st.sampled_from([*HEADS, ImageId("nobody")]),
    since_ms=st.none() | st.sampled_from(TIMES[: len(TIMES) // 2]),
    until_ms=st.none() | st.sampled_from(TIMES[len(TIMES) // 2 :]),
    causes=st.frozensets(st.sampled_from(Cause), max_size=3),
)


@settings(deadline=None)
@given(selection=SELECTIONS, page_images=st.integers(1, 50), looked_at=st.integers(1, 100))
def test_a_selection_is_what_a_filter_finds(selection: ImageSelection, page_images: int, looked_at: int) -> None:
    with pytest.MonkeyPatch.context() as patch, STORE.snapshot() as view:
        patch.setattr(selecting, "LOOKED_AT", looked_at)
        pages = list(selected_pages(view, selection, page_images))
        wanted = [image for image in view.images() if selection.holds(image)]
        if selection.head is not None:
            wanted.sort(key=lambda image: image.edge_sequence)
    assert [each.image for page in pages for each in page.images] == wanted
    assert all(len(page.images) <= page_images for page in pages)
    assert pages[-1].looked_at == pages[-1].total
    assert [page.looked_at for page in pages] == sorted(page.looked_at for page in pages)


def test_members_come_in_the_order_in_which_they_joined() -> None:
    with STORE.snapshot() as view:
        cluster = max(view.clusters(), key=lambda each: each.count)
        pages = list(selected_pages(view, ImageSelection(head=cluster.head), 3))
        members = view.members(cluster.head, 1_000).items
    assert tuple(each.image.image_id for page in pages for each in page.images) == members
    assert cluster.count > 3


def test_named_images_come_once_and_unknown_ones_are_left_out() -> None:
    with STORE.snapshot() as view:
        known = [image.image_id for image in view.images()][:3]
        found = list(named_images(view, [known[2], ImageId("nobody"), known[0], known[2]]))
        assert [each.image.image_id for each in found] == [known[2], known[0]]
        assert [each.embedding for each in found] == [None, None]
        whole = list(named_images(view, [known[2], known[0]], vectors=True))
        assert [each.embedding for each in whole] == [view.embedding(each.image.place) for each in found]


def test_what_gave_an_image_its_head_is_told_as_far_as_history_says() -> None:
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A), kinds=JOB_KINDS)
    say(store, OverrideKind.SPLIT, B, target=A)
    put(store, decided(3, C, Move(C, A, A, Cause.MATCHED), version=2), kinds=JOB_KINDS)
    with store.snapshot() as view:
        found = {each.image.image_id: each.trigger for each in named_images(view, [A, B, C], triggers=True)}
        assert found == {A: Trigger.STREAM, B: Trigger.OVERRIDE, C: Trigger.STREAM}
        assert {each.trigger for each in named_images(view, [A, B, C])} == {None}
    store.set_published(store.state().history_number)
    assert store.sweep_history(10**15, 3) == 3
    with store.snapshot() as view:
        found = {each.image.image_id: each.trigger for each in named_images(view, [A, B, C], triggers=True)}
    # The last entry of C is kept, and does not say how it came to its head.
    assert found == {A: None, B: Trigger.OVERRIDE, C: None}


def test_an_image_without_one_of_its_vectors_cannot_be_replayed() -> None:
    with STORE.snapshot() as view:
        whole = next(
            each for each in named_images(view, (image.image_id for image in view.images())) if each.replayable
        )
    for vectors in ({"score_vector": b""}, {"search_vector": b""}):
        store = MemoryStore()
        image = whole.image
        moves = (Move(image.image_id, None, image.image_id, Cause.FOUNDED),)
        both = {"search_vector": b"12", "score_vector": b"34"} | vectors
        decision = Decision(0, 1, Outcome.DECIDED, image.image_id, 1, 0, moves, b"c", **both)
        store.apply("log", [decision], -1, 0)
        with store.snapshot() as view:
            assert [each.replayable for each in named_images(view, [image.image_id])] == [False]


def test_a_time_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(BadInputError, match="ends \\(4\\) before it begins \\(5\\)"):
        ImageSelection(since_ms=5, until_ms=4)


def test_the_store_has_what_the_tests_rest_on() -> None:
    assert len(TIMES) > 10
    assert name(0) in HEADS or len(HEADS) > 5
