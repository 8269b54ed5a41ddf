"""The operator `admit`: every request is in the order once and in its order, whatever storage does meanwhile."""

from __future__ import annotations

import pickle
import random
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pyflink.common import Row
from pyflink.datastream import RuntimeContext

from core.dead_letters import Reason, parse_dead_letter
from core.errors import FaultError, MismatchError
from core.notifications import EmbeddingSpec, decode_joined
from core.protos.joined_pb2 import JoinedReplay
from core.replay_credits import LIMITS
from core.replay_requests import Lane, ReplayRequest, encode_request
from core.types import Cause, Decision, ImageId, Move, Outcome
from neardup.events_pb2 import FLOAT16, FLOAT32
from operators.admit import ASK_AGAIN_MS, AdmitFunction, AdmitStep, ReplayLane
from operators.batcher import BatchPolicy
from operators.outputs import DEAD_LETTERS
from operators.step import ServerAddress, Step
from storage.memory import MemoryStore
from storage.selecting import SelectedImage, named_images
from storage.serving import storage_pb2
from tests.support.clock import FakeClock
from tests.support.fake_flink import Harness
from tests.support.fake_servers import FakeServer

LIMIT = LIMITS[Lane.NAMED]
LANE = ReplayLane(Lane.NAMED, "replay", "topic-1", EmbeddingSpec("a", "1", 4), EmbeddingSpec("b", "1", 2))
POLICY = BatchPolicy(max_items=LIMIT, max_delay_ms=5, backoff_first_ms=50, backoff_max_ms=200, max_faults=3)
SEARCH, SCORE = b"12345678", b"abcdefgh"
"""Four float16 numbers, two float32 numbers."""


@dataclass
class FakeReplayStorage(FakeServer):
    """A store with some images, and how far it has applied the requests of the lane."""

    store: MemoryStore = field(default_factory=MemoryStore)
    applied: int = -1
    required: list[set[str]] = field(default_factory=list)
    poison: set[ImageId] = field(default_factory=set)

    def put(self, image_id: str, search: bytes = SEARCH, score: bytes = SCORE) -> None:
        offset = self.store.position().offset + 1
        image = ImageId(image_id)
        moves = (Move(image, None, image, Cause.FOUNDED),)
        decision = Decision(
            offset, 1, Outcome.DECIDED, image, 3, offset, moves, b"c", search, score, created_at_ms=7, arrived_at_ms=8
        )
        self.store.apply("log", [decision], offset - 1, 0)

    def describe(self) -> storage_pb2.DescribeResponse:
        self.enter("describe")
        others = [("topic-0", 0, 10**6), ("topic-1", 1, 10**6)]
        ours = [] if self.applied < 0 else [("topic-1", 0, self.applied)]
        requests = [
            storage_pb2.AppliedRequest(topic_id=topic_id, partition=partition, offset=offset)
            for topic_id, partition, offset in [*others, *ours]
        ]
        return storage_pb2.DescribeResponse(requests=requests)

    def named(self, ids: Collection[ImageId], *, vectors: bool = False) -> list[SelectedImage]:
        self.enter("named")
        if self.poison & set(ids):
            raise FaultError("broken")
        with self.store.snapshot() as view:
            return list(named_images(view, ids, vectors=vectors))

    def require_kinds(self, kinds: Collection[str]) -> None:
        self.enter("require_kinds")
        self.required.append(set(kinds))


class Admitting(AdmitFunction):
    """The function with the test's storage."""

    def __init__(self, storage: FakeReplayStorage, clock: FakeClock) -> None:
        super().__init__(POLICY, ServerAddress("nowhere:1", 1.0, 1 << 20), LANE, clock.sleep_s)
        self.storage = storage

    def open_step(self, context: RuntimeContext) -> Step:
        return AdmitStep(self.storage, LANE, lambda: 5.0)


class Bench:
    """A harness with its storage and clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.storage = FakeReplayStorage()
        self.harness = Harness(Admitting(self.storage, self.clock), self.clock)
        self.offset = 0

    def send(self, *ids: str, **fields: Any) -> None:
        for each in ids:
            self.send_raw(encode_request(ReplayRequest("r", ImageId(each), **fields)))

    def send_raw(self, payload: bytes | None) -> None:
        self.harness.send(Row(payload, self.offset, None))
        self.offset += 1

    def restart(self) -> None:
        out, side = self.harness.main, self.harness.side
        self.harness = self.harness.restart(Admitting(self.storage, self.clock))
        self.harness.main, self.harness.side = out, side

    @property
    def replays(self) -> list[JoinedReplay]:
        found = [decode_joined(bytes(row[1])) for row in self.harness.main]
        assert all(isinstance(each, JoinedReplay) for each in found)
        return [each for each in found if isinstance(each, JoinedReplay)]

    @property
    def offsets(self) -> list[int]:
        return [each.origin.offset for each in self.replays]

    @property
    def dead(self) -> list[Row]:
        return self.harness.side.get(DEAD_LETTERS.tag_id, [])


def test_a_request_goes_into_the_order_with_its_image() -> None:
    bench = Bench()
    bench.storage.put("a")
    bench.send("a", force=True, dry_run=True, model_version="m", watch=True, requested_at_ms=4, author="ann")
    bench.harness.advance(5)
    [replay] = bench.replays
    assert (replay.origin.topic_id, replay.origin.partition, replay.origin.offset) == ("topic-1", 0, 0)
    assert (replay.origin.request_id, replay.image_id, replay.model_version) == ("r", "a", "m")
    assert (replay.force, replay.dry_run, replay.watch, replay.requested_at_ms) == (True, True, True, 4)
    image = replay.image
    assert (image.image_id, image.image_version, image.created_at_ms, image.arrived_at_ms) == ("a", 3, 7, 8)
    assert (image.search_type, image.search_vector) == (FLOAT16, SEARCH)
    assert (image.score_type, image.score_vector) == (FLOAT32, SCORE)
    assert bench.harness.main[0][0] == b"a"
    assert bench.storage.required == [{"replay"}]


@pytest.mark.parametrize(("search", "score"), [(b"", SCORE), (SEARCH, b""), (b"123", SCORE), (SEARCH, b"1" * 16)])
def test_an_image_without_usable_embeddings_goes_without_them(search: bytes, score: bytes) -> None:
    bench = Bench()
    bench.storage.put("a", search, score)
    bench.send("a", "nobody")
    bench.harness.advance(5)
    assert [(replay.image_id, replay.HasField("image")) for replay in bench.replays] == [
        ("a", False),
        ("nobody", False),
    ]


def test_no_more_go_than_there_are_credits_and_the_rest_follows() -> None:
    bench = Bench()
    bench.send(*map(str, range(2 * LIMIT + 3)))
    bench.harness.advance(1_000)
    assert bench.offsets == list(range(LIMIT))
    bench.storage.applied = 4
    bench.harness.advance(ASK_AGAIN_MS[Lane.NAMED])
    assert bench.offsets == list(range(LIMIT + 5))
    bench.storage.applied = LIMIT + 4
    bench.harness.advance(ASK_AGAIN_MS[Lane.NAMED])
    assert bench.offsets == list(range(2 * LIMIT + 3))
    assert bench.harness.timers("processing") == []
    assert bench.storage.required == [{"replay"}]


def test_a_long_selection_waits_in_kafka_and_not_in_the_state() -> None:
    """A million requests in Flink's state would be in each of its checkpoints."""
    bench = Bench()
    bench.send(*map(str, range(2 * LIMIT)))
    bench.harness.advance(1_000)
    assert bench.offsets == list(range(LIMIT))
    before_ms = bench.clock()
    bench.send("more", "and more")
    assert bench.clock() - before_ms == 2 * POLICY.throttle_ms
    bench.storage.applied = LIMIT - 1
    bench.harness.advance(ASK_AGAIN_MS[Lane.NAMED])
    before_ms = bench.clock()
    bench.send("the next")
    assert bench.clock() == before_ms


def test_what_was_applied_before_is_left_out() -> None:
    bench = Bench()
    bench.storage.applied = 2
    bench.send("a", "b", "c", "d")
    bench.harness.advance(5)
    assert bench.offsets == [3]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [(None, Reason.EMPTY_PAYLOAD), (b"{", Reason.UNPARSABLE), (b"x" * 10**5, Reason.OVERSIZED_PAYLOAD)],
)
def test_a_record_that_is_no_request_is_a_dead_letter_and_takes_no_credit(
    payload: bytes | None, reason: Reason
) -> None:
    bench = Bench()
    for _ in range(3 * LIMIT):
        bench.send_raw(payload)
    bench.send("a")
    bench.harness.advance(1_000)
    assert bench.offsets == [3 * LIMIT]
    letters = [parse_dead_letter(row[1]) for row in bench.dead]
    assert [letter.source.offset for letter in letters] == list(range(3 * LIMIT))
    assert {(letter.reason, letter.source.topic, letter.source.timestamp_ms) for letter in letters} == {
        (reason, "replay", 5_000)
    }


def test_storage_that_is_down_is_waited_for() -> None:
    bench = Bench()
    bench.storage.down = True
    bench.send("a", "b")
    bench.harness.advance(10_000)
    assert bench.offsets == []
    bench.storage.down = False
    bench.harness.advance(400)
    assert bench.offsets == [0, 1]


def test_a_job_that_does_not_know_replays_makes_them_wait() -> None:
    bench = Bench()

    def refuse(method: str) -> None:
        if method == "require_kinds":
            raise MismatchError("the job that wrote last does not know the kinds replay")

    bench.storage.before = refuse
    bench.send("a")
    bench.harness.advance(5_000)
    assert bench.offsets == []
    bench.storage.before = lambda method: None
    bench.harness.advance(200)
    assert bench.offsets == [0]


def test_a_request_that_storage_always_fails_on_is_a_dead_letter_and_goes_without_its_image() -> None:
    """Nobody waits for ever for a request that the order never got."""
    bench = Bench()
    bench.storage.poison = {ImageId("b")}
    for name in "abc":
        bench.storage.put(name)
    bench.send("a", "b", "c")
    bench.harness.advance(10_000)
    assert [(each.image_id, each.HasField("image")) for each in bench.replays] == [
        ("a", True),
        ("b", False),
        ("c", True),
    ]
    assert bench.offsets == [0, 1, 2]
    [row] = bench.dead
    letter = parse_dead_letter(row[1])
    assert (row[0], letter.reason, letter.source.offset) == (b"b", Reason.FAULTED, 1)


@pytest.mark.parametrize("seed", range(20))
def test_restarts_and_outages_lose_and_repeat_nothing(seed: int) -> None:
    dice = random.Random(seed)
    bench = Bench()
    ids = [f"i{number}" for number in range(60)]
    applied = 0
    restarts = 0
    for _ in range(400):
        if bench.offset < len(ids) and dice.random() < 0.5:
            bench.send(ids[bench.offset])
        if dice.random() < 0.1:
            bench.restart()
            restarts += 1
        bench.storage.down = dice.random() < 0.2
        bench.harness.advance(dice.choice([1, 5, ASK_AGAIN_MS[Lane.NAMED], 100]))
        assert len(bench.offsets) - applied <= LIMIT + restarts
        if dice.random() < 0.5:
            applied = min(len(bench.offsets), applied + dice.randrange(LIMIT))
            bench.storage.applied = applied - 1
    bench.storage.down = False
    for _ in range(20):
        bench.harness.advance(500)
        bench.storage.applied = len(bench.offsets) - 1
    assert bench.offsets == list(range(len(ids)))
    assert [replay.image_id for replay in bench.replays] == ids


def test_a_restart_from_a_checkpoint_repeats_only_what_storage_has_not_applied() -> None:
    bench = Bench()
    bench.send(*map(str, range(3)))
    checkpoint = bench.harness.backend.copy()
    bench.harness.advance(5)
    assert bench.offsets == [0, 1, 2]
    bench.storage.applied = 1
    bench.harness = bench.harness.restart(Admitting(bench.storage, bench.clock), checkpoint)
    bench.harness.advance(20)
    assert bench.offsets == [2]


def test_the_function_survives_a_pickle() -> None:
    function = AdmitFunction(POLICY, ServerAddress("nowhere:1", 1.0, 1 << 20), replace(LANE, lane=Lane.BULK))
    assert pickle.loads(pickle.dumps(function))._lane == replace(LANE, lane=Lane.BULK)
