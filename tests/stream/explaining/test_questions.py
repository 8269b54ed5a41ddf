"""Questions asked again: right after a verdict the answer is that verdict, and nothing is ever written."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings

from clustering.assignment import assign
from core.traces import LossReason, Trace, Why
from core.types import Cause, Decision, ImageId, Outcome, Thresholds
from operators.tracing import TraceStamp
from scoring.serving import scorer_pb2
from search.serving import search_pb2
from stream.explaining.pairs import Apart, PairExplained, PairLimits, apart_text, compare
from stream.explaining.questions import AskedAgain, AskedImage, AskedServers, Question, ask
from tests.clustering.test_assignment_properties import WORLDS
from tests.support.cluster_world import MODEL, Entry, Record, World, WorldPorts
from tests.support.reference_store import ReferenceStore

STAMP = TraceStamp("settings-1", "0.2.0")


def _of_images(world: World) -> World:
    """The world without deletes, replays and other models."""
    log = [record for record in world.log if record.kind == "image"] or [Record("a")]
    return World(log, world.score_of, world.thresholds, world.k, world.overlap_of, world.hide_delay)


IMAGE_WORLDS = WORLDS.map(_of_images)


@dataclass
class WorldServers:
    """Search server and scorer of a world, up to the record that was applied last."""

    world: World
    applied: int = -1
    released: int = -1
    searched: list[search_pb2.SearchQuery] = field(default_factory=list)

    def describe(self) -> search_pb2.DescribeResponse:
        return search_pb2.DescribeResponse(offset=self.applied, released=self.released)

    def get(self, image_ids: Sequence[str]) -> search_pb2.GetResponse:
        entries = [self._entry(each) for each in image_ids]
        images = [
            search_pb2.StoredImage(image_id=each.image_id, place=each.place, score_code=each.code)
            for each in entries
            if each is not None
        ]
        return search_pb2.GetResponse(images=images)

    def search(self, queries: Sequence[search_pb2.SearchQuery]) -> search_pb2.SearchResponse:
        self.searched += queries
        return search_pb2.SearchResponse(answers=[self._answer(each) for each in queries], index_version="index-1")

    def score(self, blocks: Sequence[scorer_pb2.PairBlock], model_version: str = "") -> scorer_pb2.ScoreResponse:
        assert model_version in ("", MODEL)
        limits = self.world.thresholds
        packed = [
            np.array([self.world.score_of(each.query_code, bytes([code])) for code in each.candidate_codes], "<f4")
            for each in blocks
        ]
        return scorer_pb2.ScoreResponse(
            model_version=MODEL,
            accept=limits.accept,
            head_accept=limits.head_accept,
            adopt=limits.adopt,
            scores=[each.tobytes() for each in packed],
        )

    def _entry(self, image_id: str) -> Entry | None:
        known = [each for each in self.world.entries if each.image_id == image_id and each.place <= self.applied]
        return max(known, key=lambda each: each.place, default=None)

    def _answer(self, query: search_pb2.SearchQuery) -> search_pb2.SearchAnswer:
        entry = self._entry(query.image_id)
        if entry is None:
            return search_pb2.SearchAnswer()
        as_of = query.as_of if query.HasField("as_of") else self.applied + 1
        found = self.world.candidates(entry, as_of)
        page = found[query.after : query.after + self.world.k]
        answer = search_pb2.SearchAnswer(known=True)
        answer.candidates.image_ids.extend(each.image_id for each in page)
        answer.candidates.overlaps = np.array([each.overlap for each in page], "<u2").tobytes()
        answer.candidates.places = np.array([each.place for each in page], "<i8").tobytes()
        answer.candidates.score_codes = b"".join(each.score_code for each in page)
        answer.candidates.exhausted = len(found) <= query.after + self.world.k
        if query.with_terms:
            answer.terms.values = np.arange(8, dtype="<u4").tobytes()
        return answer


class Deployment:
    """A world whose records are decided one by one, as a job does."""

    def __init__(self, world: World) -> None:
        self.store = ReferenceStore()
        self.index = WorldServers(world)
        self._ports = WorldPorts(world, self.store)
        self._log = world

    def decide(self) -> Decision:
        """The next record."""
        self.index.applied += 1
        assign([self._log.arrival(self.index.applied)], WorldPorts(self._log, self.store), 7)
        return self.store.decisions[-1]

    @property
    def servers(self) -> AskedServers:
        return AskedServers(self.index, self.index, _Lookups(self.store))

    def image(self, image_id: str) -> AskedImage:
        key = ImageId(image_id)
        return AskedImage(key, self.store.versions[key], self.store.places[key])

    def asked(self, image_id: str, *, at_place: bool = False) -> AskedAgain:
        image = self.image(image_id)
        return ask(Question(image, image.place if at_place else None), self.servers, STAMP, 7)

    def compared(self, one: str, other: str) -> PairExplained:
        return compare(self.image(one), self.image(other), self.servers, PairLimits(1, 8), STAMP, 7)


class _Lookups:
    def __init__(self, store: ReferenceStore) -> None:
        self._store = store

    def look_up(self, ids: Any, verdicts_of: Any = ()) -> Any:
        return self._store.look_up(ids)


def trace_of(asked: AskedAgain) -> Trace:
    assert asked.trace is not None
    return asked.trace


@given(world=IMAGE_WORLDS)
@settings(max_examples=150, deadline=None)
def test_as_of_its_place_an_image_gets_the_verdict_that_it_just_got(world: World) -> None:
    deployment = Deployment(world)
    seen: set[str] = set()
    for _ in world.log:
        decision = deployment.decide()
        new = decision.image_id not in seen
        seen.add(decision.image_id)
        if decision.outcome is not Outcome.DECIDED or not new or decision.moves[0].cause is Cause.UNSCORED:
            continue
        before = (dict(deployment.store.heads), deployment.store.position)
        choice = trace_of(deployment.asked(decision.image_id, at_place=True)).choice
        assert (dict(deployment.store.heads), deployment.store.position) == before
        own = decision.moves[0]
        assert choice is not None
        assert (choice.head, choice.matched, choice.score) == (own.new_head, own.matched, own.score)


@given(world=IMAGE_WORLDS)
@settings(max_examples=100, deadline=None)
def test_as_of_now_a_new_version_would_get_the_same_verdict(world: World) -> None:
    """Every image is asked for, then comes in a new version with the same embeddings."""
    deployment = Deployment(world)
    for _ in world.log:
        deployment.decide()
    for image_id in list(deployment.store.heads):
        asked = deployment.asked(image_id)
        if asked.trace is None:
            continue
        choice = trace_of(asked).choice
        again = _again(deployment, world, image_id)
        assert choice is not None
        own = again.moves[0]
        assert (choice.head, choice.matched, choice.score) == (own.new_head, own.matched, own.score)


def _again(deployment: Deployment, world: World, image_id: str) -> Decision:
    """What a new version of an image would get, in a copy of the store."""
    entry = deployment.index._entry(image_id)
    assert entry is not None
    grown = World(
        [*world.log, Record(image_id, deployment.store.versions[ImageId(image_id)] + 1, entry.code)],
        world.score_of,
        world.thresholds,
        world.k,
        world.overlap_of,
        world.hide_delay,
    )
    store = deepcopy(deployment.store)
    assign([grown.arrival(len(world.log))], WorldPorts(grown, store), 7)
    return store.decisions[-1]


def world_of(pairs: dict[str, float], *, apart: str = "", k: int = 5) -> Deployment:
    """Images `a`, `b`, ... whose codes are their names; pairs of `apart` share no terms; all records are decided."""

    def score(one: bytes, other: bytes) -> float:
        low, high = sorted((one.decode(), other.decode()))
        return 1.0 if low == high else pairs.get(low + high, 0.0)

    def overlap(one: bytes, other: bytes) -> int:
        low, high = sorted((one.decode(), other.decode()))
        return 0 if low + high in apart.split() else 2 if pairs.get(low + high, 0.0) >= 0.5 else 1

    names = sorted({name for pair in pairs for name in pair})
    deployment = Deployment(
        World([Record(name, code=name.encode()) for name in names], score, Thresholds(0.5, 0.4, 0.7), k, overlap)
    )
    for _ in names:
        deployment.decide()
    return deployment


def test_what_is_asked_again_is_a_question_and_no_verdict() -> None:
    deployment = world_of({"ab": 0.9})
    deployment.index.released = 0
    now, then = deployment.asked("b"), deployment.asked("b", at_place=True)
    assert (now.as_of, now.incomplete, then.as_of, then.incomplete) == (2, False, 1, False)
    deployment.index.released = 1
    assert deployment.asked("b", at_place=True).incomplete
    trace = trace_of(now)
    assert (trace.kind, trace.reason, trace.writes, trace.version) == ("question", "asked", None, 1)
    assert (trace.versions.model, trace.versions.settings) == (MODEL, "settings-1")
    assert trace.terms is not None
    assert [(one.image_id, one.lost) for one in trace.candidates] == [("a", None)]


def test_a_head_with_members_stays_one_now_and_had_none_at_its_place() -> None:
    deployment = world_of({"ab": 0.9, "ac": 0.8, "bc": 0.1})
    assert trace_of(deployment.asked("a")).choice == trace_of(deployment.asked("a")).choice
    choice = trace_of(deployment.asked("a")).choice
    assert choice is not None
    assert choice.why is Why.KEPT
    then = trace_of(deployment.asked("a", at_place=True)).choice
    assert then is not None
    assert then.why is Why.NO_CANDIDATES


def test_a_singleton_that_moved_to_the_image_was_a_head_of_its_own_then() -> None:
    """`b` founds, because no head accepts it, and takes `a` with it."""
    deployment = world_of({"ab": 0.6, "bc": 0.9}, apart="")
    deployment.store.heads[ImageId("a")] = ImageId("b")
    deployment.store.members[ImageId("b")] = {ImageId("a"), ImageId("b"), ImageId("c")}
    deployment.store.heads[ImageId("b")] = ImageId("b")
    deployment.store.members.pop(ImageId("a"))
    deployment.store.founding[ImageId("b")] = b"b"
    choice = trace_of(deployment.asked("b", at_place=True)).choice
    assert choice is not None
    assert (choice.head, choice.matched) == ("a", "a")


def test_an_image_that_the_index_does_not_show_has_a_problem_and_no_verdict() -> None:
    deployment = Deployment(World([Record("a", fate="skipped")], lambda one, other: 1.0))
    deployment.decide()
    asked = deployment.asked("a")
    assert asked.trace is None
    assert asked.problem is not None
    assert "skipped, hidden or deleted" in asked.problem


def test_what_keeps_two_images_apart() -> None:
    below = world_of({"ab": 0.3, "ac": 0.6, "bc": 0.6})
    pair = below.compared("a", "b")
    assert (pair.apart, pair.score, pair.would_join, pair.later_id) == (LossReason.BELOW_ACCEPT, 0.3, False, "b")
    refused = world_of({"ab": 0.9, "bc": 0.9, "ac": 0.1})
    pair = refused.compared("c", "b")
    assert (pair.apart, pair.head, pair.other_head) == (LossReason.HEAD_REFUSED, "c", "a")
    assert (pair.score, pair.head_score) == (0.9, 0.1)
    unknown = world_of({"ab": 0.9}, apart="ab")
    pair = unknown.compared("b", "a")
    assert (pair.apart, pair.shared_terms) == (Apart.NOT_AMONG_FIRST, 8)
    few = compare(unknown.image("b"), unknown.image("a"), unknown.servers, PairLimits(9, 8), STAMP, 7)
    assert few.apart is Apart.FEW_SHARED_TERMS
    assert few.distance_bits == bin(ord("a") ^ ord("b")).count("1")


def test_nothing_keeps_two_images_of_one_cluster_apart() -> None:
    pair = world_of({"ab": 0.9}).compared("a", "b")
    assert (pair.same_head, pair.would_join, pair.apart, pair.asked is not None) == (True, True, None, True)


def test_every_word_has_a_sentence() -> None:
    for word in (*Apart, *LossReason):
        assert apart_text(word) == word.text
    assert apart_text("tomorrow") == "tomorrow"
