"""What people say in the middle of a random order, on both stores: obeyed, sound, and the same after a rebuild."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from clustering.assignment import assign
from core.errors import BadInputError, ConflictError
from core.manifest_rows import RowResult
from core.overrides import JOB_KINDS, ChangeFilter, NewImages, OverrideKind, OverrideRequest, RollbackRequest
from core.pseudonyms import KEY_BYTES, Pseudonyms
from core.types import Cause, Decision, ImageId, Lookup, Thresholds, Trigger
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.overrides import rules
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.verify import verify
from tests.clustering.test_assignment_properties import BUSY_WORLDS, IDS, WORLDS, busy_order
from tests.support.cluster_world import World, WorldPorts, random_score
from tests.support.reference_store import ReferenceStore

KINDS = [OverrideKind.PIN, OverrideKind.FORBID, OverrideKind.FORBID, OverrideKind.SPLIT, OverrideKind.MERGE]


@dataclass
class StorePorts(WorldPorts):
    """The servers of a world, with a store behind the look-ups and writes."""

    real: ClusterStore | None = None

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId]) -> Lookup:
        """The store."""
        assert self.real is not None
        return self.real.look_up(ids, verdicts_of)

    def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
        """The store."""
        assert self.real is not None
        self.real.apply("log", decisions, offset, revision, JOB_KINDS)


def decide(world: World, store: ClusterStore, until: int, batch: Callable[[], int]) -> None:
    """Decides the world up to a position, with restarts that repeat up to two records."""
    while (start := store.position().offset + 1) < until:
        end = min(until, start + batch())
        assign(world.arrivals(max(0, start - 2), end), StorePorts(world, ReferenceStore(), real=store), now_ms=5)


def random_rollback(dice: random.Random, changes: int) -> RollbackRequest:
    """To any of the changes, of all images or of some."""
    where = ChangeFilter()
    if dice.random() < 0.3:
        where = dice.choice(
            [ChangeFilter(head=ImageId(dice.choice(IDS))), ChangeFilter(cause=dice.choice(list(Cause)))]
        )
    return RollbackRequest(to_change=dice.randint(0, changes), where=where, new=dice.choice(list(NewImages)))


def random_request(dice: random.Random, said: int, changes: int) -> OverrideRequest:
    """Any override; many of them are refused."""
    if said and dice.random() < 0.15:
        return OverrideRequest(OverrideKind.UNDO, undoes=dice.randint(1, said))
    if changes and dice.random() < 0.3:
        return OverrideRequest(OverrideKind.ROLLBACK, rollback=random_rollback(dice, changes))
    images = tuple(ImageId(each) for each in dice.sample(IDS, dice.choice([1, 1, 1, 2, 3])))
    return OverrideRequest(dice.choice(KINDS), images, ImageId(dice.choice(IDS)))


def content(store: ClusterStore, *, obeys: bool = True) -> dict[str, object]:
    """All that a store tells, once it is sound and obeys."""
    with store.snapshot() as view:
        assert [progress.problems for progress in verify(view)][-1] == ()
        heads = {image.image_id: image.head for image in view.images()}
        for image_id, said in store.look_up([ImageId(each) for each in IDS]).rules.items():
            for other in said.forbidden if obeys else ():
                assert image_id not in heads or heads[image_id] != heads.get(other), (image_id, other)
        return {
            "images": list(view.images()),
            "clusters": list(view.clusters()),
            "edges": list(view.edges()),
            "embeddings": list(view.embeddings()),
            "tombstones": store.look_up([ImageId(each) for each in IDS]).tombstones,
            "tombstones in all": len(list(view.tombstones())),
            "history": list(view.history_from(0)),
            "overrides": store.overrides(0, 1000),
            "manifests": view.deltas(),
        }


@settings(max_examples=60, deadline=None)
@given(world=WORLDS | BUSY_WORLDS, dice=st.integers(0, 10**6).map(random.Random))
@patch.object(Pseudonyms, "fresh", lambda: Pseudonyms(bytes(KEY_BYTES)))  # else each store has a key of its own
def test_overrides_are_obeyed_and_survive_a_rebuild(world: World, dice: random.Random) -> None:
    _compare(world, dice)


@settings(max_examples=30, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(world=WORLDS | BUSY_WORLDS, dice=st.integers(0, 10**6).map(random.Random))
@patch.object(Pseudonyms, "fresh", lambda: Pseudonyms(bytes(KEY_BYTES)))
@patch.object(rules, "MAX_FORBIDDEN", 1)
def test_batches_do_not_matter_where_look_ups_leave_relations_out(world: World, dice: random.Random) -> None:
    """As after large splits: the stream may break what it is not told, in the same way on both stores."""
    _compare(world, dice, obeys=False)


def _compare(world: World, dice: random.Random, *, obeys: bool = True) -> None:
    length = len(world.log)
    stops = sorted(dice.randrange(length + 1) for _ in range(dice.randrange(1, 7)))
    plain = MemoryStore()
    with tempfile.TemporaryDirectory() as folder:
        rocks = RocksStore(Path(folder), options=RocksOptions(sync=False))
        try:
            for stop in stops:
                decide(world, plain, stop, lambda: 1)
                decide(world, rocks, stop, lambda: dice.choice([1, 5, 64]))
                request = random_request(dice, plain.state().overrides, plain.state().history_number)
                with suppress(BadInputError, ConflictError):
                    said = plain.override(request, 7)
                    assert rocks.override(request, 7) == said
                assert content(rocks, obeys=obeys) == content(plain, obeys=obeys)
                if dice.random() < 0.3:
                    rocks.close()
                    rocks = RocksStore(Path(folder), options=RocksOptions(sync=False))
            decide(world, plain, length, lambda: 1)
            decide(world, rocks, length, lambda: 64)
            told = content(plain, obeys=obeys)
            assert content(rocks, obeys=obeys) == told
            rocks.close()
            (Path(folder) / "store.json").unlink()
            shutil.rmtree(Path(folder) / "db")
            rocks = RocksStore(Path(folder), options=RocksOptions(sync=False))
            decide(world, rocks, length, lambda: dice.choice([1, 5, 64]))
            assert content(rocks, obeys=obeys) == told
        finally:
            rocks.close()


def test_the_worlds_hold_what_the_test_is_about() -> None:
    """Else a change of the generators could empty the test above."""
    dice, causes, rows, kept = random.Random(5), set[tuple[Cause, Trigger]](), set[RowResult](), 0
    for _ in range(40):
        seed = dice.randrange(10**6)
        world = World(busy_order(seed), random_score(seed), Thresholds(0.2, 0.2, 0.2), k=3)
        store = MemoryStore()
        for stop in sorted(dice.randrange(len(world.log) + 1) for _ in range(6)):
            decide(world, store, stop, lambda: 5)
            with suppress(BadInputError, ConflictError):
                state = store.state()
                kept += store.override(random_request(dice, state.overrides, state.history_number), 7).created
        decide(world, store, len(world.log), lambda: 5)
        causes |= {(entry.cause, entry.trigger) for entry in store.history(0, 10_000)}
        rows.update(*(each.counts for each in store.deltas()))
    assert {cause for cause, _ in causes} == set(Cause) - {Cause.FORGOTTEN}  # nothing is erased here
    assert (Cause.PINNED, Trigger.STREAM) in causes
    assert (Cause.PINNED, Trigger.OVERRIDE) in causes
    ways = {Cause.BOOTSTRAPPED, Cause.FOUNDED, Cause.KEPT, Cause.PINNED, Cause.UNSCORED}
    assert {cause for cause, trigger in causes if trigger is Trigger.MANIFEST} == ways
    assert rows == set(RowResult)
    assert {cause for cause, trigger in causes if trigger is Trigger.ROLLBACK} >= {Cause.PARTED, Cause.MATCHED}
    assert kept > 40
