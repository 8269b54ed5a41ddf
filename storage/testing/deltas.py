"""What a store must keep of manifests whose rows go through the order: a part of `storage.testing.contract`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.errors import BadInputError, RefusedError, StaleError
from core.first_loads import LoadRequest, LoadState
from core.manifest_rows import MemberRow, RowResult
from core.types import Cause, Decision, ImageId, Move, Outcome, Trigger
from storage.delta_progress import MOST_EXAMPLES
from storage.errors import ContradictionError
from storage.interfaces import ClusterStore
from storage.records import DeltaProgress, RowExample
from storage.testing.decisions import A, B, C, D, decided, forgets, founds, ignored, put
from storage.testing.forgetting import assert_erased, erase_all

__all__ = ["DeltaContract", "member"]

MANIFEST, OTHER = "0f" * 16, "1e" * 16


def member(
    offset: int,
    image: ImageId,
    head: ImageId | None = None,
    *,
    row: int | None = None,
    result: RowResult | None = None,
    manifest_id: str = MANIFEST,
    **fields: Any,
) -> Decision:
    """The image of a row joins a head, or founds its cluster; by default the row of its offset."""
    goal = head or image
    result = result or (RowResult.JOINED if head else RowResult.FOUNDED)
    one = decided(offset, image, Move(image, None, goal, Cause.BOOTSTRAPPED, 0.75, head), **fields)
    return replace(one, member=MemberRow(manifest_id, offset if row is None else row, result))


def again(offset: int, image: ImageId, row: int, outcome: Outcome = Outcome.DUPLICATE) -> Decision:
    """A row whose version was placed before, or is below such a one."""
    result = RowResult.KEPT if outcome is Outcome.DUPLICATE else RowResult.SUPERSEDED
    version = 1 if outcome is Outcome.DUPLICATE else 0
    return replace(ignored(offset, image, outcome, version), member=MemberRow(MANIFEST, row, result))


def asked(rows: int = 0, manifest_id: str = MANIFEST, **fields: Any) -> DeltaProgress:
    """What the writer of the rows says as it begins."""
    request = LoadRequest("s3://old", "b.json", manifest_id, "topic")
    return DeltaProgress(request, LoadState.LOADING, rows=rows, started_ms=5, **fields)


class DeltaContract:
    """The store counts each row once, in the write that applies it. A subclass makes the store."""

    def test_a_row_is_counted_in_the_write_that_applies_it(self, store: ClusterStore) -> None:
        assert store.deltas() == ()
        store.put_delta(asked(rows=3))
        put(store, member(0, A), member(1, B, A))
        told = store.delta(MANIFEST)
        assert told == asked(rows=3, applied=1, counts={RowResult.FOUNDED: 1, RowResult.JOINED: 1})
        assert store.deltas() == (told,)
        with store.snapshot() as view:
            put(store, member(2, C, A))
            assert (view.delta(MANIFEST), view.deltas()) == (told, (told,))
        live = store.delta(MANIFEST)
        assert live is not None
        assert (live.state, live.applied, live.ended_ms) == (LoadState.LIVE, 2, 32)

    def test_its_moves_are_those_of_a_manifest(self, store: ClusterStore) -> None:
        follows = Move(D, D, A, Cause.PINNED, None, B)
        put(store, founds(0, D), member(1, A), replace(member(2, B, A), moves=(*member(2, B, A).moves, follows)))
        entries = store.history(0, 9)
        assert [(each.image_id, each.trigger) for each in entries] == [
            (D, Trigger.STREAM),
            *((each, Trigger.MANIFEST) for each in (A, B, D)),
        ]
        image = store.image(B)
        assert image is not None
        assert (image.head, image.cause, image.score, image.matched) == (A, Cause.BOOTSTRAPPED, 0.75, A)

    def test_a_row_that_is_written_again_counts_once(self, store: ClusterStore) -> None:
        put(store, member(0, A, row=0), member(1, B, A, row=1))
        before = store.delta(MANIFEST)
        put(store, again(2, A, 0), again(3, B, 1), again(4, A, 0, Outcome.SUPERSEDED))
        assert store.delta(MANIFEST) == before
        put(store, again(5, A, 2))
        told = store.delta(MANIFEST)
        assert told is not None
        assert (told.applied, told.counts[RowResult.KEPT]) == (2, 1)
        assert told.examples == (RowExample(2, A, RowResult.KEPT),)

    def test_what_is_not_applied_is_not_counted(self, store: ClusterStore) -> None:
        put(store, member(0, A))
        before = store.delta(MANIFEST)
        with pytest.raises(ContradictionError):
            put(store, member(1, B, A), founds(2, A))
        with pytest.raises(StaleError):
            store.apply("topic-one", [member(0, B)], -1, 0)
        assert store.delta(MANIFEST) == before

    def test_a_manifest_that_nobody_asked_for_is_known_by_its_rows(self, store: ClusterStore) -> None:
        """As in a store that is built again from the order; then its writer says what it is."""
        put(store, member(0, A), member(1, B, A))
        told = store.delta(MANIFEST)
        assert told is not None
        assert (told.request, told.state) == (LoadRequest("", "", MANIFEST, ""), LoadState.LOADING)
        assert (told.rows, told.applied, told.started_ms) == (0, 1, 30)
        store.put_delta(asked(rows=3))
        assert store.delta(MANIFEST) == asked(rows=3, applied=1, counts=told.counts)
        store.put_delta(asked(rows=2))
        live = store.delta(MANIFEST)
        assert live is not None
        assert live.state is LoadState.LIVE
        assert live.ended_ms > 0

    def test_what_became_of_rows_is_the_stores_own(self, store: ClusterStore) -> None:
        store.put_delta(asked(rows=2))
        put(store, member(0, A))
        waits = replace(asked(rows=2), state=LoadState.WAITING, detail="the folder does not answer", counts={})
        store.put_delta(waits)
        told = store.delta(MANIFEST)
        assert told == replace(waits, applied=0, counts={RowResult.FOUNDED: 1})
        put(store, member(1, B, A))
        live = store.delta(MANIFEST)
        store.put_delta(waits)  # said before the last row was applied
        assert live is not None
        assert (live.state, live.detail) == (LoadState.LIVE, "")
        assert store.delta(MANIFEST) == live

    def test_manifests_are_listed_by_their_start(self, store: ClusterStore) -> None:
        store.put_delta(replace(asked(manifest_id=OTHER), started_ms=4))
        put(store, member(0, A), member(1, B, A, manifest_id=OTHER, row=0))
        assert [(each.request.manifest_id, each.applied) for each in store.deltas()] == [(OTHER, 0), (MANIFEST, 0)]

    def test_examples_are_bounded_and_of_what_was_not_expected(self, store: ClusterStore) -> None:
        rows = MOST_EXAMPLES + 5
        ids = [ImageId(f"i{row}") for row in range(rows)]
        gone = RowResult.ELSEWHERE_HEAD_GONE
        elsewhere = [replace(founds(row, each), member=MemberRow(MANIFEST, row, gone)) for row, each in enumerate(ids)]
        put(store, *elsewhere, member(rows, A))
        told = store.delta(MANIFEST)
        assert told is not None
        assert told.counts == {gone: rows, RowResult.FOUNDED: 1}
        assert told.examples == tuple(RowExample(row, ids[row], gone) for row in range(MOST_EXAMPLES))

    def test_a_forgotten_image_is_no_example_and_no_match(self, store: ClusterStore) -> None:
        put(store, founds(0, A), replace(founds(1, B), member=MemberRow(MANIFEST, 0, RowResult.ELSEWHERE_HEAD_GONE)))
        put(store, forgets(2, B, B))
        put(store, again(3, B, 1, Outcome.SUPERSEDED))
        joins = Move(C, None, A, Cause.BOOTSTRAPPED, 0.75, B)
        put(store, replace(member(4, C, A), moves=(joins,)))
        erase_all(store)
        assert_erased(store, B)
        told, image = store.delta(MANIFEST), store.image(C)
        assert told is not None
        assert image is not None
        assert [(each.row, each.result) for each in told.examples] == [(1, RowResult.SUPERSEDED)]
        assert told.examples[0].image_id == image.matched != B
        assert told.counts[RowResult.ELSEWHERE_HEAD_GONE] == 1

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(member(1, C, A, row=-1), id="row"),
            pytest.param(member(1, C, A, manifest_id="b.json"), id="manifest id"),
        ],
    )
    def test_malformed_rows_are_refused(self, store: ClusterStore, bad: Decision) -> None:
        put(store, founds(0, A))
        with pytest.raises(RefusedError):
            put(store, bad)

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(replace(member(2, C, A), member=None), id="no row"),
            pytest.param(member(2, C, B), id="joins a member"),
            pytest.param(member(2, A, version=2, moves=(Move(A, A, A, Cause.BOOTSTRAPPED),)), id="head founds"),
            pytest.param(
                member(2, C, A, moves=(Move(C, None, C, Cause.BOOTSTRAPPED), Move(B, A, C, Cause.BOOTSTRAPPED))),
                id="of another image",
            ),
            pytest.param(member(2, C, result=RowResult.KEPT), id="kept and decided"),
            pytest.param(replace(again(2, A, 2), member=MemberRow(MANIFEST, 2, RowResult.JOINED)), id="joined nothing"),
        ],
    )
    def test_rows_that_do_not_fit_write_nothing(self, store: ClusterStore, bad: Decision) -> None:
        put(store, member(0, A), member(1, B, A))
        before = store.delta(MANIFEST)
        with pytest.raises(ContradictionError, match="offset 2"):
            put(store, bad)
        assert (store.position().offset, store.delta(MANIFEST)) == (1, before)

    @pytest.mark.parametrize("wrong", [{"manifest_id": ""}, {"folder": "x" * 1025}, {"manifest": "x" * 1025}])
    def test_what_cannot_be_kept_of_a_manifest_is_refused(self, store: ClusterStore, wrong: dict[str, Any]) -> None:
        with pytest.raises(BadInputError):
            store.put_delta(replace(asked(), request=replace(asked().request, **wrong)))
        assert store.deltas() == ()
