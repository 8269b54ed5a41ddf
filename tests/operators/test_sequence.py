"""Search, score and assign one after the other, while servers fail and tasks restart: same log, same clusters."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pyflink.common import Row

from core.dead_letters import parse_dead_letter
from core.errors import FaultError, UnavailableError
from core.protos.joined_pb2 import JoinedDelete, JoinedImage, JoinedRecord, JoinedReplay, Origin
from core.types import Cause, DeadLetterRecord
from neardup.events_pb2 import FLOAT16
from operators.assign import AssignFunction
from operators.batcher import BatchPolicy
from operators.score import ScoreFunction
from operators.search import LogEpoch, SearchFunction
from operators.step import ServerAddress
from storage.records import DeltaProgress
from storage.verify import verify
from tests.support.clock import FakeClock
from tests.support.events import some_as_members
from tests.support.fake_flink import Harness
from tests.support.fake_servers import FakeScorer, FakeSearch, FakeServer, FakeStorage, code_of

SERVER = ServerAddress("127.0.0.1:1", 1.0, 1_000_000)


def vector(base: np.ndarray, flips: int, rng: random.Random) -> bytes:
    """The base with the signs of some numbers flipped."""
    values = base.copy()
    for at in rng.sample(range(len(values)), flips):
        values[at] = -values[at]
    return values.astype("<f2").tobytes()


def log(seed: int, length: int) -> list[bytes]:
    """Families of images, repeated records, new versions, versions that come too late, deletes, replays and rows."""
    rng = random.Random(seed)
    numbers = np.random.default_rng(seed)
    families = [(numbers.standard_normal(16), numbers.standard_normal(16)) for _ in range(max(2, length // 8))]
    records: list[bytes] = []
    newest: dict[str, JoinedImage] = {}
    for number in range(length):
        chance = rng.random()
        if records and chance < 0.1:
            records.append(rng.choice(records))
            continue
        if newest and chance < 0.3:
            later = deleted(newest, rng) if chance < 0.16 else replayed(newest, number, rng)
            records.append(later.SerializeToString(deterministic=True))
            continue
        known = rng.random() < 0.1 and number > 0
        image = JoinedImage(
            image_id=f"image-{rng.randrange(number) if known else number}",
            image_version=rng.randrange(1, 4) if known else 2,
            search_type=FLOAT16,
            score_type=FLOAT16,
            created_at_ms=1,
            arrived_at_ms=1_700_000_000_000,
        )
        search, score = rng.choice(families)
        image.search_vector = vector(search, rng.randrange(3), rng)
        image.score_vector = vector(score, rng.randrange(5), rng)
        if image.image_id not in newest or newest[image.image_id].image_version < image.image_version:
            newest[image.image_id] = image
        records.append(JoinedRecord(image=image).SerializeToString(deterministic=True))
    return some_as_members(records, seed)


def deleted(newest: dict[str, JoinedImage], rng: random.Random) -> JoinedRecord:
    """A delete of some image, of all versions so far or of some."""
    version = rng.choice([None, None, rng.randrange(4)])
    return JoinedRecord(
        delete=JoinedDelete(image_id=rng.choice(sorted(newest)), image_version=version, requested_at_ms=3, author="me")
    )


def replayed(newest: dict[str, JoinedImage], number: int, rng: random.Random) -> JoinedRecord:
    """A replay of some image; some carry it, some requests are repeated."""
    image_id = rng.choice(sorted(newest))
    origin = Origin(topic_id="replay-topic", partition=0, offset=rng.choice([number, number // 2]), request_id="r")
    replay = JoinedReplay(image_id=image_id, origin=origin, force=rng.random() < 0.5, dry_run=rng.random() < 0.1)
    if rng.random() < 0.8:
        replay.image.CopyFrom(newest[image_id])
    return JoinedRecord(replay=replay)


class Sequence:
    """The three functions on fake Flink; what one emits the next gets at once."""

    def __init__(self, policy: BatchPolicy, search: FakeSearch, scorer: FakeScorer, storage: FakeStorage) -> None:
        self.clock = FakeClock()
        self.search, self.scorer, self.storage = search, scorer, storage
        self._makers: list[Callable[[], Any]] = [
            lambda: SearchFunction(policy, SERVER, LogEpoch("log-1"), sleep=self.clock.sleep_s),
            lambda: ScoreFunction(policy, SERVER, SERVER, sleep=self.clock.sleep_s),
            lambda: AssignFunction(policy, SERVER, SERVER, SERVER, LogEpoch("log-1"), sleep=self.clock.sleep_s),
        ]
        self.steps = [Harness(make(), self.clock) for make in self._makers]

    @property
    def servers(self) -> list[FakeServer]:
        return [self.search, self.scorer, self.storage]

    def send(self, offset: int, payload: bytes) -> None:
        self.steps[0].send(Row(payload, offset, None))
        self._pass_on()

    def advance(self, ms: int) -> None:
        for _ in range(ms):
            for step in self.steps:
                step.advance(0)
                self._pass_on()
            self.clock.advance(1)

    def restart(self) -> None:
        self.steps = [step.restart(make()) for step, make in zip(self.steps, self._makers, strict=True)]

    def start_again(self) -> int:
        """A new submission: nothing of the old state is taken up. Returns the offset to read from."""
        self.steps = [Harness(make(), self.clock) for make in self._makers]
        return min(self.search.offset, self.storage.store.position().offset) + 1

    def _pass_on(self) -> None:
        for this, following in zip(self.steps, self.steps[1:], strict=False):
            rows, this.main = this.main, []
            for row in rows:
                following.send(row[1])

    def heads(self) -> dict[str, tuple[str, int, int]]:
        """Head, version and place of each image."""
        with self.storage.store.snapshot() as view:
            return {image.image_id: (image.head, image.version, image.place) for image in view.images()}

    def tombstones(self) -> dict[str, int]:
        """The deleted images, and up to which version."""
        with self.storage.store.snapshot() as view:
            return {tombstone.image_id: tombstone.version for tombstone in view.tombstones()}

    def dead_letters(self) -> list[tuple[int, DeadLetterRecord]]:
        with self.storage.store.snapshot() as view:
            return list(view.dead_letters())


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[[BatchPolicy], Sequence]:
    """Makes a sequence whose functions find its servers when they open their clients."""

    def connected(policy: BatchPolicy) -> Sequence:
        search, scorer, storage = FakeSearch(k=3), FakeScorer(), FakeStorage()
        servers = {"search": search, "scorer": scorer, "storage": storage}
        for module in ("search", "score", "assign"):
            for name, server in servers.items():
                target = f"operators.{module}.open_{name}"
                monkeypatch.setattr(target, lambda address, server=server: server, raising=False)
        return Sequence(policy, search, scorer, storage)

    return connected


def undisturbed(build: Callable[[BatchPolicy], Sequence], records: list[bytes]) -> Sequence:
    sequence = build(BatchPolicy(max_items=64))
    for offset, payload in enumerate(records):
        sequence.send(offset, payload)
    sequence.advance(50)
    assert sequence.storage.store.position().offset == len(records) - 1
    return sequence


def disturb(sequence: Sequence, rng: random.Random) -> None:
    """Every call may find its server gone, break it, or lose its answer."""

    def disturbance(server: FakeServer) -> Callable[[str], None]:
        def happens(method: str) -> None:
            chance = rng.random()
            if chance < 0.1:
                raise UnavailableError("deadline exceeded")
            if chance < 0.15:
                server.instances += 1
                raise UnavailableError("connection reset")
            if chance < 0.2:
                raise FaultError("broken")

        return happens

    for server in sequence.servers:
        server.before = server.after = disturbance(server)


@pytest.mark.parametrize("seed", range(12))
def test_failures_restarts_and_batch_sizes_change_no_head(build: Callable[[BatchPolicy], Sequence], seed: int) -> None:
    rng = random.Random(seed)
    records = log(seed, 80)
    whole = undisturbed(build, records)
    expected = whole.heads()
    assert Counter(head for head, _, _ in expected.values()).most_common(1)[0][1] > 1

    # So many faults that no image is taken for bad: what is bad is another test's business.
    policy = BatchPolicy(max_items=rng.choice([1, 3, 8, 64]), max_faults=1_000, backoff_first_ms=2, backoff_max_ms=8)
    sequence = build(policy)
    disturb(sequence, rng)
    offset = 0
    while offset < len(records):
        sequence.send(offset, records[offset])
        offset += 1
        sequence.advance(rng.choice([0, 0, 0, 1, 10]))
        if rng.random() < 0.05:
            sequence.restart()
        if rng.random() < 0.03:
            offset = sequence.start_again()
    sequence.advance(3_000)

    assert sequence.heads() == expected
    assert sequence.tombstones() == whole.tombstones()
    assert sequence.storage.store.state().requests == whole.storage.store.state().requests
    assert told(sequence) == told(whole)
    assert sequence.dead_letters() == []
    assert problems(sequence) == ()


def test_an_image_that_kills_the_scorer_costs_its_own_scores_and_nothing_else(
    build: Callable[[BatchPolicy], Sequence],
) -> None:
    records = [record for record in log(3, 40) if JoinedRecord.FromString(record).image.image_version == 2]
    bad = JoinedRecord.FromString(records[11]).image
    sequence = build(BatchPolicy(max_items=8, max_faults=2, backoff_first_ms=2, backoff_max_ms=8))
    score = sequence.scorer.score

    def dies(blocks: Any, model_version: str = "") -> Any:
        if not model_version and code_of(bad) in {block.query_code for block in blocks}:
            sequence.scorer.instances += 1
            raise UnavailableError("connection reset")
        return score(blocks, model_version)

    sequence.scorer.score = dies  # type: ignore[method-assign]
    for offset, payload in enumerate(records):
        sequence.send(offset, payload)
    sequence.advance(5_000)
    assert set(sequence.heads()) == {JoinedRecord.FromString(record).image.image_id for record in records}
    unscored = [d.image_id for d in sequence.storage.written for move in d.moves if move.cause is Cause.UNSCORED]
    assert unscored == [bad.image_id]  # a later image may adopt it: searches that were under way had seen it already
    (dead_letter,) = sequence.dead_letters()
    assert parse_dead_letter(dead_letter[1].value).payload == records[11]
    assert problems(sequence) == ()


@pytest.mark.parametrize("seed", range(20))
def test_what_is_hidden_is_what_storage_holds_as_unscored_after_kills_at_any_step(
    build: Callable[[BatchPolicy], Sequence], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any call may isolate an image, lose its answer or come to nothing, and the task is killed at any time."""
    monkeypatch.setattr("operators.commit_reporter.EVERY_S", 0.0)
    rng = random.Random(seed)
    records = log(seed, 60)
    sequence = build(BatchPolicy(max_items=rng.choice([1, 4]), max_faults=1, backoff_first_ms=2, backoff_max_ms=8))
    disturb(sequence, rng)
    sequence.scorer.before = lambda method: (_ for _ in ()).throw(FaultError("no")) if rng.random() < 0.3 else None
    sent: list[int] = []
    offset = 0
    while offset < len(records):
        sequence.send(offset, records[offset])
        offset += 1
        sequence.advance(rng.choice([0, 0, 1, 10]))
        if rng.random() < 0.15:
            sequence.restart()
        if rng.random() < 0.1:
            offset = sequence.start_again()
        if rng.random() < 0.1:  # what was published, and what the kill of the publisher left
            sent += [at for at, _ in sequence.dead_letters()]
            sequence.storage.store.remove_dead_letters([at for at in sent if rng.random() < 0.5])
    for server in sequence.servers:
        server.before = server.after = lambda method: None
    # Each further write makes a report due, and each report looks at seven history entries.
    offset = sequence.start_again()
    for at, payload in enumerate([*records[offset:], *log(seed + 100, 60)], offset):
        sequence.send(at, payload)
    sequence.advance(3_000)

    with sequence.storage.store.snapshot() as view:
        images = list(view.images())
        unscored = {entry.offset for entry in view.history_from(0) if entry.cause is Cause.UNSCORED}
    assert unscored
    found = {(image.image_id, image.version) for image in images if not image.unscored}
    assert sequence.search.in_sight() == found
    assert {at for at, _ in sequence.dead_letters()} | set(sent) >= unscored
    assert problems(sequence) == ()


def told(sequence: Sequence) -> list[DeltaProgress]:
    """What became of the rows, but not when."""
    found = sequence.storage.store.deltas()
    assert sum(map(sum, (each.counts.values() for each in found))) > 5
    return [replace(each, started_ms=0) for each in found]


def problems(sequence: Sequence) -> tuple[str, ...]:
    """What the check of law 2 finds."""
    with sequence.storage.store.snapshot() as view:
        *_, last = verify(view)
    assert last.done
    return last.problems
