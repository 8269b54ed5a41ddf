"""Bulk moves step by step, while others read and write. `tests/clustering/test_every_write.py` kills between them."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from core.errors import BadInputError, ConflictError, UnavailableError
from core.overrides import JOB_KINDS, OverrideKind, OverrideMove, OverrideRequest, RollbackRequest
from core.types import Cause, ImageId
from storage.bulk.operations import OperationState
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.testing.decisions import A, B, C, deletes, forgets, founds, joins, put
from tests.clustering.test_assignment_properties import BUSY_WORLDS, WORLDS
from tests.clustering.test_bulk_moves_on_stores import any_request, decide_in_bulk, moved, seen, settle_all
from tests.support.cluster_world import World

QUICK = RocksOptions(sync=False)

FIND = (Phase.explicit, Phase.reuse, Phase.generate)
"""Worlds are not made smaller: it takes minutes, and their seeds say as much."""


class Interrupted(RocksStore):
    """A store in which something happens before each chunk of a plan is written."""

    between: Callable[[], object] = staticmethod(lambda: None)

    def _write_ahead(self, *args: Any) -> bool:
        if not self._writer._is_owned():  # else nobody could write
            self.between()
        return super()._write_ahead(*args)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """a with its members b to i; j and k alone."""
    store = Interrupted(tmp_path, options=QUICK, moves_at_once=0)
    put(store, founds(0, A), *(joins(n, ImageId("abcdefghi"[n]), A) for n in range(1, 9)), kinds=JOB_KINDS)
    put(store, founds(9, ImageId("j")), founds(10, ImageId("k")), kinds=JOB_KINDS)
    yield store
    store.close()


J, K = ImageId("j"), ImageId("k")


def merge(store: RocksStore, head: ImageId, target: ImageId, *, dry_run: bool = False) -> Any:
    """Merges one cluster into another."""
    return store.override(OverrideRequest(OverrideKind.MERGE, (head,), target), 7, dry_run=dry_run)


def heads(store: RocksStore) -> dict[str, str]:
    """The head of each image."""
    with store.snapshot() as view:
        return {image.image_id: image.head for image in view.images()}


def test_readers_see_the_whole_move_from_its_first_step(store: Interrupted) -> None:
    revision = store.state().revision
    said = merge(store, A, J)
    assert (len(said.moves), said.unlisted, said.created) == (9, 0, True)
    assert store.state().revision == revision + 1
    listed = [ImageId(each) for each in "jbcdefghia"]
    for _ in range(20):
        assert list(store.members(J, 100).items) == listed
        assert list(store.members(J, 100, newest_first=True).items) == listed[::-1]
        assert store.cluster(A) is None
        cluster = store.cluster(J)
        assert cluster is not None
        assert cluster.count == 10
        assert set(store.heads(listed).heads.values()) == {J}
        assert store.look_up([B]).clusters.keys() == {J}
        if not store.settle(2):
            break
    assert store.state().revision == revision + 2
    (operation,) = store.operations(0, 10)
    assert (operation.number, operation.state, operation.total, operation.moved) == (1, OperationState.DONE, 9, 9)


def test_tokens_go_on_through_the_move(store: Interrupted) -> None:
    merge(store, A, J)
    found: list[ImageId] = []
    token: str | None = None
    while True:
        page = store.members(J, 3, token)
        found += page.items
        token = page.next_token
        if token is None:
            break
        store.settle(2)
    assert found == [ImageId(each) for each in "jbcdefghia"]


def test_the_stream_goes_on_with_images_that_move(store: Interrupted) -> None:
    merge(store, A, J)
    put(store, deletes(11, B, J), founds(12, C, old=J, version=2), joins(13, ImageId("x"), J), kinds=JOB_KINDS)
    expected = dict.fromkeys("adefghijx", J) | {"c": "c", "k": "k"}
    assert heads(store) == expected
    settle_all(store)
    assert heads(store) == expected
    with store.snapshot() as view:
        assert [(entry.old_head, entry.new_head) for entry in view.history_of(C)] == [(None, A), (A, J), (J, C)]


def test_what_joins_a_cluster_while_its_move_is_planned_moves_with_it(store: Interrupted) -> None:
    store.between = lambda: put(
        store, joins(store.position().offset + 1, ImageId(f"x{store.position().offset}"), A), kinds=JOB_KINDS
    )
    said = merge(store, A, J)
    assert said.override.applied_after == store.position().offset
    assert {each for each, head in heads(store).items() if head == J} >= {"x10", "a", "b", "j"}
    assert store.cluster(A) is None
    settle_all(store)
    assert store.cluster(A) is None


def test_an_image_that_the_planned_pin_names_goes_to_its_target_with_its_cluster(store: Interrupted) -> None:
    x, y = ImageId("x"), ImageId("y")

    def comes() -> None:
        store.between = lambda: None
        put(store, founds(11, x), joins(12, y, x), kinds=JOB_KINDS)

    store.between = comes
    store.override(OverrideRequest(OverrideKind.PIN, (A, x), J), 7)
    assert heads(store) == dict.fromkeys("abcdefghijxy", J) | {"k": K}
    settle_all(store)
    assert heads(store) == dict.fromkeys("abcdefghijxy", J) | {"k": K}


def test_a_plan_that_is_met_is_made_again_and_at_last_with_the_stream_waiting(store: Interrupted) -> None:
    attempts: list[int] = []

    def leaves() -> None:
        offset = store.position().offset + 1
        attempts.append(offset)
        image = ImageId("bcdefghi"[len(attempts) - 1])
        put(store, founds(offset, image, old=A, version=2), kinds=JOB_KINDS)

    store.between = leaves
    said = merge(store, A, J)
    assert len(attempts) == 2
    assert (said.created, said.override.applied_after) == (True, 12)
    settle_all(store)
    assert heads(store) == dict.fromkeys("adefghij", J) | {each: each for each in "bck"}


def test_a_cancelled_plan_leaves_nothing(store: Interrupted) -> None:
    before = seen(store)
    store.between = lambda: store.cancel(1)
    with pytest.raises(BadInputError, match="was cancelled"):
        merge(store, A, J)
    assert seen(store) == before
    assert (store.overrides(0, 10), store.operations(0, 10)) == ([], [])
    with pytest.raises(BadInputError, match="no bulk move 1 is being planned"):
        store.cancel(1)
    store.between = lambda: None
    merge(store, A, J)
    assert store.cluster(A) is None


def test_a_move_rests_and_goes_on(store: Interrupted) -> None:
    merge(store, A, J)
    store.pause(1, rests=True)
    assert not store.settle(100)
    assert store.operations(0, 1)[0].state is OperationState.PAUSED
    with pytest.raises(UnavailableError, match="the bulk move 1 is under way"):
        merge(store, J, K)
    store.pause(1, rests=False)
    settle_all(store)
    assert store.operations(0, 1)[0].state is OperationState.DONE
    with pytest.raises(BadInputError, match="no bulk move 1 is under way"):
        store.pause(1, rests=True)


def test_a_dry_run_writes_nothing(store: Interrupted) -> None:
    before = seen(store)
    said = merge(store, A, J, dry_run=True)
    assert (len(said.moves), said.created) == (9, False)
    assert (seen(store), store.operations(0, 10)) == (before, [])


def test_a_forbid_refuses_a_bulk_merge(store: Interrupted) -> None:
    store.override(OverrideRequest(OverrideKind.FORBID, (B,), K), 7)
    before = seen(store)
    with pytest.raises(ConflictError, match="the override 1 "):
        merge(store, A, K)
    assert seen(store) == before


def split(store: RocksStore, images: str, *, dry_run: bool = False) -> Any:
    """Splits images off a."""
    named = tuple(map(ImageId, images))
    return store.override(OverrideRequest(OverrideKind.SPLIT, named, A), 7, dry_run=dry_run)


def test_a_split_is_seen_from_its_first_step(store: Interrupted) -> None:
    store.override(OverrideRequest(OverrideKind.PIN, (ImageId("i"),), ImageId("h")), 7)
    revision = store.state().revision
    assert len(split(store, "hfd", dry_run=True).moves) == 4
    said = split(store, "hfd")
    assert [(each.image_id, each.old_head, each.new_head) for each in said.moves] == [
        (each, A, "d")
        for each in "dfhi"  # i follows h
    ]
    expected = dict.fromkeys("abceg", A) | dict.fromkeys("dfhi", "d") | {"j": J, "k": K}
    for _ in range(20):
        assert heads(store) == expected
        assert set(store.members(ImageId("d"), 100).items) == set("dfhi")
        cluster, new = store.cluster(A), store.cluster(ImageId("d"))
        assert cluster is not None
        assert new is not None
        assert (cluster.count, new.count, new.founding_code) == (5, 4, b"\x03")
        if not store.settle(1):
            break
    assert store.state().revision == revision + 2
    moved_images = [store.image(ImageId(each)) for each in "dfhi"]
    assert [(image.cause, image.matched) for image in moved_images if image is not None] == [
        (Cause.PARTED, A),
        (Cause.PINNED, "d"),
        (Cause.PINNED, "d"),
        (Cause.PINNED, "h"),
    ]


def test_what_joins_the_head_while_a_split_is_planned_stays_with_it(store: Interrupted) -> None:
    store.between = lambda: put(
        store, joins(store.position().offset + 1, ImageId(f"x{store.position().offset}"), A), kinds=JOB_KINDS
    )
    assert len(split(store, "bcd").moves) == 3
    assert heads(store)["x10"] == A
    settle_all(store)
    cluster = store.cluster(A)
    assert cluster is not None
    assert cluster.count == len([each for each, head in heads(store).items() if head == A])


def test_a_split_is_planned_again_if_one_of_its_images_moves(store: Interrupted) -> None:
    def leaves() -> None:
        store.between = lambda: None
        put(store, founds(11, C, old=A, version=2), kinds=JOB_KINDS)

    store.between = leaves
    with pytest.raises(BadInputError, match="'c' is no member of the cluster of 'a'"):
        split(store, "bc")
    assert store.overrides(0, 10) == []
    store.between = lambda: store.cancel(1)
    with pytest.raises(BadInputError, match="was cancelled"):
        split(store, "bd")
    store.between = lambda: None
    split(store, "bd")
    assert heads(store)["d"] == B


def test_a_split_goes_on_after_a_restart(tmp_path: Path) -> None:
    opened = RocksStore(tmp_path, options=QUICK, moves_at_once=0)
    put(opened, founds(0, A), *(joins(n, ImageId("abcdefghi"[n]), A) for n in range(1, 9)), kinds=JOB_KINDS)
    split(opened, "bcdefgh")
    opened.settle(2)
    opened.close()
    opened = RocksStore(tmp_path, options=QUICK, moves_at_once=0)
    expected = dict.fromkeys("bcdefgh", B) | {"a": A, "i": A}
    assert heads(opened) == expected
    settle_all(opened)
    assert heads(opened) == expected
    assert opened.operations(0, 1)[0].state is OperationState.DONE
    opened.close()


def test_an_image_that_followed_a_forgotten_one_does_not_name_it(store: Interrupted) -> None:
    put(store, joins(11, ImageId("x"), A), kinds=JOB_KINDS)
    for image, target in (("d", "x"), ("x", "c")):
        store.override(OverrideRequest(OverrideKind.PIN, (ImageId(image),), ImageId(target)), 7)
    put(store, forgets(12, ImageId("x"), A), kinds=JOB_KINDS)
    assert len(split(store, "c").moves) == 2
    settle_all(store)
    image = store.image(ImageId("d"))
    assert image is not None
    assert (image.head, str(image.matched)[:10]) == (C, "forgotten:")


def test_a_rollback_takes_back_what_came_before_the_late_history_of_a_move(store: Interrupted) -> None:
    merge(store, A, J)
    first, x = store.state().history_number, ImageId("x")
    put(store, joins(11, x, J), kinds=JOB_KINDS)
    settle_all(store)
    back = RollbackRequest(to_change=first)
    assert store.override(OverrideRequest(OverrideKind.ROLLBACK, rollback=back), 7).moves == (OverrideMove(x, J, x),)


@settings(max_examples=60, deadline=None, phases=FIND)
@given(world=WORLDS | BUSY_WORLDS, seed=st.integers(0, 10**6))
def test_the_stream_writes_while_a_move_is_planned(world: World, seed: int) -> None:
    """What comes during the planning is decided before the move, as its position says: a rebuild agrees."""
    dice, length = random.Random(seed), len(world.log)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as again:
        rocks = Interrupted(Path(folder), options=QUICK, moves_at_once=0)
        try:
            decide_in_bulk(world, rocks, dice.randrange(length + 1), dice)

            def stream() -> None:
                decide_in_bulk(world, rocks, min(length, rocks.position().offset + 1 + dice.randrange(4)), dice)

            rocks.between = stream
            for _ in range(dice.randrange(1, 4)):
                settle_all(rocks)
                # The stream may forget a head meanwhile: then its bulk move is under way.
                with suppress(BadInputError, ConflictError, UnavailableError):
                    rocks.override(any_request(dice, rocks), 7)
                seen(rocks)
                stream()
            rocks.between = lambda: None
            decide_in_bulk(world, rocks, length, dice)
            told = seen(rocks)
            settle_all(rocks)
            assert seen(rocks) == told
            history = moved(rocks)
            rocks.close()
            with suppress(FileNotFoundError):
                shutil.copy(Path(folder) / "overrides.log", again)
            rocks = Interrupted(Path(again), options=QUICK, moves_at_once=0)
            decide_in_bulk(world, rocks, length, dice)
            settle_all(rocks)
            assert seen(rocks) == told
            assert moved(rocks) == history
        finally:
            rocks.close()
