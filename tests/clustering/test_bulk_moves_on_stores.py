"""Bulk moves in the middle of a random order: from the first step everybody sees what one write would have done."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from core.errors import BadInputError, ConflictError, UnavailableError
from core.overrides import OverrideKind, OverrideRequest, RollbackRequest
from core.types import ImageId, Trigger
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.records import HistoryEntry
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.verify import verify
from tests.clustering.test_assignment_properties import BUSY_WORLDS, WORLDS
from tests.clustering.test_overrides_on_stores import decide, random_request
from tests.support.cluster_world import World

QUICK = RocksOptions(sync=False)

FIND = (Phase.explicit, Phase.reuse, Phase.generate)
"""Worlds are not made smaller: it takes minutes, and their seeds say as much."""


def seen(store: ClusterStore) -> dict[str, object]:
    """All that readers see of a store, which must be sound."""
    with store.snapshot() as view:
        assert [progress.problems for progress in verify(view)][-1] == ()
        members = defaultdict(list)
        for edge in view.edges():
            members[edge.head].append(edge.member)
        for head, listed in members.items():
            assert list(reversed(listed)) == [edge.member for edge in view.edges_back(head, 2**64 - 1)]
        return {
            "images": {each.image_id: (each.head, each.version, each.place, each.cause) for each in view.images()},
            "clusters": {each.head: (each.count, each.founding_code, each.head_deleted) for each in view.clusters()},
            "members": {head: set(listed) for head, listed in members.items()},
            "embeddings": list(view.embeddings()),
            "tombstones": sorted((each.position, each.version) for each in view.tombstones()),  # pseudonyms differ
            "counts": (view.state().images, view.state().clusters, view.state().tombstones),
            "rows": [(each.request, each.applied, each.counts, len(each.examples)) for each in view.deltas()],
        }


def moved(store: ClusterStore) -> dict[str, list[object]]:
    """The history of each image."""
    found = defaultdict(list)
    for entry in store.history(0, 100_000):
        found[entry.image_id].append((entry.old_head, entry.new_head, entry.cause, entry.trigger, entry.reference))
    return found


def say(store: RocksStore, request: OverrideRequest) -> None:
    """Says it, once the move before it is over."""
    while True:
        try:
            store.override(request, 7)
        except UnavailableError:
            assert store.settle(3) or not store.settle(3)
        else:
            return


def any_request(dice: random.Random, store: ClusterStore) -> OverrideRequest:
    """Any override, half of them on images that are there."""
    state = store.state()
    with store.snapshot() as view:
        known = [image.image_id for image in view.images()]
    if len(known) < 2 or dice.random() < 0.5:
        return random_request(dice, state.overrides, state.history_number)
    if dice.random() < 0.5:
        clusters = members_of(store)
        if clusters:
            head, members = dice.choice(sorted(clusters.items()))
            return OverrideRequest(OverrideKind.SPLIT, tuple(dice.sample(members, dice.randint(1, len(members)))), head)
    target, *images = dice.sample(known, dice.randint(2, min(len(known), 4)))
    kind = dice.choice([OverrideKind.PIN, OverrideKind.MERGE, OverrideKind.FORBID])
    return OverrideRequest(kind, tuple(images), target)


def members_of(store: ClusterStore) -> dict[ImageId, list[ImageId]]:
    """The members of each cluster that may be split off, by its head."""
    found: defaultdict[ImageId, list[ImageId]] = defaultdict(list)
    with store.snapshot() as view:
        for image in view.images():
            if image.head != image.image_id:
                found[image.head].append(image.image_id)
    return found


def elsewhere(asked: RollbackRequest, one: ClusterStore, other: ClusterStore) -> RollbackRequest:
    """The same moment in another store, where a bulk move has written its history later."""
    if asked.to_change == 0:
        return asked
    (entry,) = one.history((asked.to_change or 0) - 1, 1)

    def is_same(each: HistoryEntry) -> bool:
        stream = each.trigger is Trigger.STREAM
        return (
            (each.image_id, each.trigger, each.reference) == (entry.image_id, entry.trigger, entry.reference)
            and (each.offset == entry.offset or not stream)
        )  # fmt: skip

    return replace(asked, to_change=next(each.number for each in other.history(0, 100_000) if is_same(each)))


def settle_all(store: RocksStore) -> None:
    """Until the move is over."""
    while store.settle(2):
        pass


def opened(folder: str) -> RocksStore:
    """A store where every override that moves images is a bulk move."""
    return RocksStore(Path(folder), options=QUICK, moves_at_once=0)


def decide_in_bulk(world: World, store: RocksStore, until: int, dice: random.Random) -> None:
    """Decides the world up to a position; a rebuilt store waits for its moves."""
    while store.position().offset + 1 < until:
        try:
            decide(world, store, until, lambda: dice.choice([1, 5, 64]))
        except UnavailableError:
            settle_all(store)


@settings(max_examples=100, deadline=None, phases=FIND)
@given(world=WORLDS | BUSY_WORLDS, dice=st.integers(0, 10**6).map(random.Random))
def test_everybody_sees_what_one_write_would_have_done(world: World, dice: random.Random) -> None:
    length = len(world.log)
    stops = sorted(dice.randrange(length + 1) for _ in range(dice.randrange(1, 7)))
    plain = MemoryStore()
    with tempfile.TemporaryDirectory() as folder:
        rocks = opened(folder)
        try:
            for stop in stops:
                decide(world, plain, stop, lambda: 1)
                decide_in_bulk(world, rocks, stop, dice)
                settled = dice.random() < 0.3
                if settled:
                    settle_all(rocks)
                request = any_request(dice, plain)
                with suppress(BadInputError, ConflictError):
                    plain.override(request, 7)
                    if request.rollback is not None:
                        settle_all(rocks)
                        request = replace(request, rollback=elsewhere(request.rollback, plain, rocks))
                    say(rocks, request)
                assert seen(rocks) == seen(plain)
                for _ in range(dice.randrange(4)):
                    rocks.settle(dice.choice([1, 2, 5]))
                    assert seen(rocks) == seen(plain)
                if dice.random() < 0.3:
                    rocks.close()
                    rocks = opened(folder)
            decide(world, plain, length, lambda: 1)
            decide_in_bulk(world, rocks, length, dice)
            told = seen(plain)
            assert seen(rocks) == told
            settle_all(rocks)
            assert seen(rocks) == told
            assert moved(rocks) == moved(plain)
            rocks.close()
            (Path(folder) / "store.json").unlink()
            shutil.rmtree(Path(folder) / "db")
            rocks = opened(folder)
            decide_in_bulk(world, rocks, length, dice)
            assert seen(rocks) == told
            settle_all(rocks)
            assert moved(rocks) == moved(plain)
        finally:
            rocks.close()
