"""Random worlds: one order gives one answer, for any batches, redeliveries, restarts, competing jobs; law 2 holds.

The order holds images, new versions, deletes, forgotten images, replays and rows of a manifest.
"""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from clustering.assignment import assign
from core.types import Outcome, Thresholds
from tests.support.cluster_oracle import NaiveState, naive
from tests.support.cluster_world import Record, World, WorldPorts, random_distance, random_overlap, random_score
from tests.support.reference_store import ReferenceStore

IDS = [f"image-{n}" for n in range(14)]
LEVELS = [0.0, 0.2, 0.4, 0.55, 0.7, 0.9]

CODES = st.sampled_from([bytes([n]) for n in range(1, 25)])
FATES = st.sampled_from(["scored"] * 9 + ["skipped", "faulted", "nameless"])

IMAGES = st.builds(
    Record, image_id=st.sampled_from(IDS), version=st.integers(0, 2), code=CODES, fate=FATES, kind=st.just("image")
)
DELETES = st.builds(
    Record,
    image_id=st.sampled_from(IDS),
    fate=FATES,
    kind=st.just("delete"),
    upto=st.none() | st.integers(0, 2),
    forget=st.booleans(),
)
REPLAYS = st.builds(
    Record,
    image_id=st.sampled_from(IDS),
    version=st.integers(0, 2),
    code=CODES,
    fate=FATES,
    kind=st.just("replay"),
    force=st.booleans(),
    dry_run=st.sampled_from([False, False, True]),
    carries=st.booleans(),
    request=st.none() | st.integers(0, 30),
)
MEMBERS = st.builds(
    Record,
    image_id=st.sampled_from(IDS),
    version=st.integers(0, 2),
    code=CODES,
    fate=FATES,
    kind=st.just("member"),
    head=st.sampled_from(IDS),
    row=st.integers(0, 20),
)
ORDERS = st.lists(st.one_of(IMAGES, IMAGES, IMAGES, DELETES, REPLAYS, MEMBERS), min_size=1, max_size=40)

DISTANCES = st.sampled_from([None, random_distance])
GATES = st.none() | st.integers(0, 9)


def _one_code_per_version(log: list[Record]) -> list[Record]:
    """The records of one image version carry one code, as redelivered records do."""
    codes: dict[tuple[str, int], bytes] = {}
    return [replace(r, code=codes.setdefault((r.image_id, r.version), r.code)) for r in log]


WORLDS = st.builds(
    World,
    log=ORDERS.map(_one_code_per_version),
    score_of=st.integers(0, 999).map(random_score),
    thresholds=st.builds(Thresholds, *[st.sampled_from(LEVELS)] * 3),
    k=st.integers(1, 5),
    overlap_of=st.integers(1, 4).map(lambda highest: lambda one, other: random_overlap(one, other, highest)),
    hide_delay=st.integers(0, 3),
    newer_from=st.integers(0, 60),
    distance_of=DISTANCES,
    gate=GATES,
    narrowed=st.booleans(),
)


def busy_order(seed: int, length: int = 70, deletes: int = 1) -> list[Record]:
    """An order in which a few images are placed, deleted, forgotten and replayed again and again.

    Some are rows of a manifest, of which a few are repeated.
    """
    dice, rows = random.Random(seed), random.Random(-1 - seed)
    records: list[Record] = []
    for at in range(length):
        image_id, version = f"image-{dice.randrange(7)}", dice.choice([0, 0, 1, 1, 2, at])
        fate = dice.choice(["scored"] * 14 + ["skipped", "faulted"])
        kind = dice.choice(["image"] * 6 + ["delete"] * deletes + ["replay"] * 3)
        records.append(
            Record(
                image_id,
                version,
                bytes([1 + dice.randrange(5)]),
                fate,
                kind,
                upto=dice.choice([None, None, version]),
                forget=dice.random() < 0.5,
                force=dice.random() < 0.3,
                dry_run=dice.random() < 0.1,
                carries=dice.random() < 0.7,
                request=dice.choice([None, at // 2, at // 2, at]),
            )
        )
    for at, record in enumerate(records):
        if record.kind == "image" and rows.random() < 0.4:
            head = rows.choice([record.image_id, *(f"image-{rows.randrange(7)}" for _ in range(3))])
            records[at] = replace(record, kind="member", head=head, row=max(0, at - rows.choice([0, 0, 0, 9])))
    return _one_code_per_version(records)


BUSY_WORLDS = st.builds(
    World,
    log=st.integers(0, 10**6).map(busy_order),
    score_of=st.integers(0, 999).map(random_score),
    thresholds=st.builds(Thresholds, *[st.sampled_from(LEVELS[:4])] * 3),
    k=st.integers(1, 5),
    hide_delay=st.integers(0, 3),
    newer_from=st.integers(0, 90),
    distance_of=DISTANCES,
    gate=GATES,
    narrowed=st.booleans(),
)


FORGETTING_WORLDS = st.builds(
    World,
    log=st.integers(0, 10**6).map(lambda seed: busy_order(seed, deletes=4)),
    score_of=st.integers(0, 999).map(random_score),
    thresholds=st.builds(Thresholds, *[st.sampled_from(LEVELS[:3])] * 3),
    k=st.integers(1, 5),
)
"""Large clusters, of which many heads are forgotten."""


def _same(store: ReferenceStore, expected: NaiveState) -> None:
    assert store.heads == expected.heads
    assert store.versions == expected.versions
    assert store.places == expected.places
    assert {image: tombstone.version for image, tombstone in store.tombstones.items()} == expected.deleted
    assert store.founding == {head: expected.founding[head] for head in store.members}
    assert store.history == expected.history


@settings(max_examples=300, deadline=None)
@given(world=WORLDS | BUSY_WORLDS, cuts=st.randoms(use_true_random=False), rounds=st.integers(0, 5))
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
@given(world=WORLDS | BUSY_WORLDS, moves=st.randoms(use_true_random=False))
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
@given(world=WORLDS | BUSY_WORLDS)
def test_every_record_has_one_decision_and_only_named_images_have_heads(world: World) -> None:
    store = ReferenceStore()
    ports = WorldPorts(world, store)
    while store.position.offset + 1 < len(world.log):
        ports = WorldPorts(world, store)
        assign(world.arrivals(store.position.offset + 1), ports, now_ms=5)

    assert [decision.offset for decision in store.decisions] == list(range(len(world.log)))
    named = {record.image_id for record in world.log if record.fate != "nameless"}
    assert set(store.heads) <= named
    assert not set(store.heads) & set(store.tombstones)
    decided = {decision.image_id for decision in store.decisions if decision.outcome is Outcome.DECIDED}
    assert decided <= {*store.heads, *store.tombstones}
    for decision in store.decisions:
        if decision.outcome in (Outcome.DUPLICATE, Outcome.SUPERSEDED, Outcome.UNREADABLE):
            assert not decision.moves
        elif decision.outcome is Outcome.DECIDED:
            assert decision.moves


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
