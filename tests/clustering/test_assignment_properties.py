"""Random worlds: one order gives one answer, for any batches, redeliveries, restarts, competing jobs; law 2 holds."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from clustering.assignment import assign
from core.types import Outcome, Thresholds
from tests.support.cluster_world import (
    NaiveState,
    Record,
    ReferenceStore,
    World,
    WorldPorts,
    naive,
    random_overlap,
    random_score,
)

IDS = [f"image-{n}" for n in range(14)]
LEVELS = [0.0, 0.2, 0.4, 0.55, 0.7, 0.9]

RECORDS = st.builds(
    Record,
    image_id=st.sampled_from(IDS),
    version=st.integers(0, 2),
    code=st.sampled_from([bytes([n]) for n in range(1, 25)]),
    fate=st.sampled_from(["scored"] * 9 + ["skipped", "faulted", "nameless"]),
)


def _one_code_per_version(log: list[Record]) -> list[Record]:
    """The records of one image version carry one code, as redelivered records do."""
    codes: dict[tuple[str, int], bytes] = {}
    return [Record(r.image_id, r.version, codes.setdefault((r.image_id, r.version), r.code), r.fate) for r in log]


WORLDS = st.builds(
    World,
    log=st.lists(RECORDS, min_size=1, max_size=40).map(_one_code_per_version),
    score_of=st.integers(0, 999).map(random_score),
    thresholds=st.builds(Thresholds, *[st.sampled_from(LEVELS)] * 3),
    k=st.integers(1, 5),
    overlap_of=st.integers(1, 4).map(lambda highest: lambda one, other: random_overlap(one, other, highest)),
    hide_delay=st.integers(0, 3),
)


def _same(store: ReferenceStore, expected: NaiveState) -> None:
    assert store.heads == expected.heads
    assert store.versions == expected.versions
    assert store.founding == {head: expected.founding[head] for head in store.members}
    assert [
        (d.offset, m.image_id, m.old_head, m.new_head, m.cause) for d in store.decisions for m in d.moves
    ] == expected.history


@settings(max_examples=300, deadline=None)
@given(world=WORLDS, cuts=st.randoms(use_true_random=False), rounds=st.integers(0, 5))
def test_any_batches_redeliveries_and_restarts_give_the_answer_of_one_by_one(
    world: World, cuts: random.Random, rounds: int
) -> None:
    store = ReferenceStore()
    start = 0
    while start < len(world.log):
        back = cuts.choice([0, 0, 1, 5])
        first = max(0, start - back)
        batch = world.arrivals(first, min(len(world.log), start + cuts.choice([1, 2, 7, 64])))
        before = store.position.offset

        settled = assign(batch, WorldPorts(world, store), now_ms=5, rounds=rounds)

        assert settled >= 1
        assert store.position.offset == first + settled - 1 >= before
        start = store.position.offset + 1
    _same(store, naive(world))


@settings(max_examples=150, deadline=None)
@given(world=WORLDS, moves=st.randoms(use_true_random=False))
def test_a_second_job_alive_at_the_same_time_changes_nothing(world: World, moves: random.Random) -> None:
    store = ReferenceStore()

    def other_job() -> None:
        if moves.random() < 0.5:
            start = max(0, store.position.offset + 1 - moves.randrange(3))
            batch = world.arrivals(start, min(len(world.log), start + moves.randrange(1, 6)))
            assign(batch, WorldPorts(world, store), now_ms=6)

    while store.position.offset + 1 < len(world.log):
        start = store.position.offset + 1
        batch = world.arrivals(start, min(len(world.log), start + moves.randrange(1, 10)))
        ports = WorldPorts(world, store, before_look_up=other_job, before_apply=other_job)
        settled = assign(batch, ports, now_ms=5)
        assert store.position.offset >= start + settled - 1
    _same(store, naive(world))


@settings(max_examples=100, deadline=None)
@given(world=WORLDS)
def test_every_record_has_one_decision_and_only_named_images_have_heads(world: World) -> None:
    store = ReferenceStore()
    ports = WorldPorts(world, store)
    while store.position.offset + 1 < len(world.log):
        ports = WorldPorts(world, store)
        assign(world.arrivals(store.position.offset + 1), ports, now_ms=5)

    assert [decision.offset for decision in store.decisions] == list(range(len(world.log)))
    assert set(store.heads) == {record.image_id for record in world.log if record.fate != "nameless"}
    for decision in store.decisions:
        assert bool(decision.moves) == (decision.outcome is Outcome.DECIDED)


@settings(max_examples=100, deadline=None)
@given(world=WORLDS, seed=st.integers(0, 9))
def test_members_are_close_to_their_head(world: World, seed: int) -> None:
    """With adopt >= head_accept and no new versions, every scored member scores >= head_accept against its head."""
    world = World(
        [Record(f"{seed}-{n}", 1, record.code) for n, record in enumerate(world.log)],
        world.score_of,
        Thresholds(world.thresholds.accept, 0.5, 0.6),
        world.k,
        world.overlap_of,
    )
    store = ReferenceStore()
    while store.position.offset + 1 < len(world.log):
        assign(world.arrivals(store.position.offset + 1), WorldPorts(world, store), now_ms=5)

    for image_id, head in store.heads.items():
        code = world.log[store.places[image_id]].code
        assert image_id == head or world.score_of(code, store.founding[head]) >= 0.5
