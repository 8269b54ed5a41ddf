"""Short ways to make decisions, to apply them, and to compare a store with the model: for the tests of stores."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from core.types import (
    NO_HEAD,
    Cause,
    Decision,
    ImageId,
    LogPosition,
    Move,
    Outcome,
    RequestPosition,
    Tombstone,
    Versions,
)
from storage.interfaces import ClusterStore
from storage.records import (
    StoreEpoch,
)
from storage.testing.model import LOG, REPLAYS, Action, StoreModel
from storage.verify import verify

A, B, C, D = (ImageId(text) for text in "abcd")

EPOCH = StoreEpoch(1_700_000_000_000, "5d1c0de5d1c0de00")


def decided(offset: int, image: ImageId, *moves: Move, version: int = 1, **fields: Any) -> Decision:
    """A decision whose code is its offset."""
    base = Decision(
        offset=offset,
        checksum=1000 + offset,
        outcome=Outcome.DECIDED,
        image_id=image,
        version=version,
        place=offset,
        moves=moves,
        score_code=bytes([offset % 256]),
        search_vector=b"search",
        score_vector=b"score",
        versions=Versions("m1", "i1"),
        created_at_ms=10 + offset,
        arrived_at_ms=20 + offset,
        decided_at_ms=30 + offset,
    )
    return replace(base, **fields)


def founds(offset: int, image: ImageId, old: ImageId | None = None, **fields: Any) -> Decision:
    """The image becomes its own head."""
    return decided(offset, image, Move(image, old, image, Cause.FOUNDED), **fields)


def joins(offset: int, image: ImageId, head: ImageId, old: ImageId | None = None, **fields: Any) -> Decision:
    """The image joins a head that it matched."""
    return decided(offset, image, Move(image, old, head, Cause.MATCHED, 0.9, head), **fields)


def is_unscored(store: ClusterStore, image_id: ImageId) -> bool:
    """Whether the store says that an image could not be searched or scored."""
    image = store.image(image_id)
    assert image is not None
    return image.unscored


def deletes(offset: int, image: ImageId, head: ImageId | None = None, version: int = 1, **fields: Any) -> Decision:
    """The image is deleted, up to a version; it has the head, or it is unknown."""
    moves = () if head is None else (Move(image, head, NO_HEAD, Cause.DELETED),)
    tombstone = Tombstone(image, version, offset, 40 + offset, "me", "takedown")
    base = Decision(offset, 1000 + offset, Outcome.DELETED, image, version, offset, moves, tombstone=tombstone)
    return replace(base, **fields)


def forgets(offset: int, image: ImageId, head: ImageId | None = None, version: int = 1, **fields: Any) -> Decision:
    """The image is forgotten, whatever else `deletes` says."""
    return replace(deletes(offset, image, head, version), forget=True, decided_at_ms=30 + offset, **fields)


def replays(offset: int, image: ImageId, *moves: Move, request: int | None = None, **fields: Any) -> Decision:
    """A replay of the image, by default at offset 0; the request is the one of this offset."""
    base = Decision(offset, 1000 + offset, Outcome.REPLAYED, image, 1, 0, moves, decided_at_ms=30 + offset)
    source = RequestPosition(REPLAYS, offset if request is None else request)
    return replace(base, request=source, **fields)


def ignored(offset: int, image: ImageId, outcome: Outcome, version: int = 1) -> Decision:
    """Only the position advances."""
    return Decision(offset, 1000 + offset, outcome, image, version, 0)


def put(store: ClusterStore, *decisions: Decision, kinds: Collection[str] = ()) -> LogPosition:
    """Applies decisions to where the store is, for a job that knows these kinds."""
    state = store.state()
    return store.apply(LOG, decisions, state.position.offset, state.revision, kinds)


def fill(store: ClusterStore, model: StoreModel, steps: Sequence[Action], batch: int) -> None:
    """Lets the model decide and the store apply, in batches."""
    for start in range(0, len(steps), batch):
        put(store, *[model.decide(action) for action in steps[start : start + batch]])


def assert_holds(store: ClusterStore, model: StoreModel) -> None:
    """The store holds what the model says: the whole of it, and it is sound."""
    with store.snapshot() as view:
        state = view.state()
        assert state.position.offset == model.offset
        assert {image.image_id: image.head for image in view.images()} == model.head
        assert {image.image_id: (image.version, image.place) for image in view.images()} == {
            image: (model.version[image], model.place[image]) for image in model.head
        }
        assert {cluster.head: cluster.founding_code for cluster in view.clusters()} == model.code
        assert {cluster.head: (cluster.count, cluster.head_deleted) for cluster in view.clusters()} == {
            head: (len(members), head not in model.head) for head, members in model.members.items()
        }
        assert {tombstone.image_id: tombstone.version for tombstone in view.tombstones()} == model.graves
        listed: dict[ImageId, list[ImageId]] = {}
        for edge in view.edges():
            listed.setdefault(edge.head, []).append(edge.member)
        assert listed == model.members
        moves = [(e.image_id, e.old_head, e.new_head, e.cause) for e in view.history_from(0)]
        assert moves == model.history[state.history_first - 1 :]
        assert (state.images, state.clusters) == (len(model.head), len(model.members))
        assert (state.duplicates, state.superseded) == (model.duplicates, model.superseded)
        assert (state.deleted, state.replayed, state.tombstones) == (model.deleted, model.replayed, len(model.graves))
        assert state.requests == ({REPLAYS: model.requests} if model.requests else {})
        assert state.history_number == len(model.history)
        assert {each.place: each.image_id for each in view.embeddings()} == {
            place: image for image, place in model.place.items()
        }
        assert [progress.problems for progress in verify(view)][-1] == ()
