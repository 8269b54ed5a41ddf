"""Questions asked again: right after a verdict the answer is that verdict, and nothing is ever written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings

from clustering.assignment import Arrival, Judgement, assign
from core.traces import LossReason, Trace, Why
from core.types import Cause, Decision, ImageId, Outcome, Thresholds
from operators.tracing import TraceStamp
from scoring.serving import scorer_pb2
from search.serving import search_pb2
from storage.interfaces import StoreView
from storage.memory import MemoryStore
from storage.records import ImageRecord
from storage.written import written_at
from stream.explaining.pairs import Apart, PairExplained, PairLimits, apart_text, compare
from stream.explaining.questions import AskedAgain, AskedImage, AskedServers, Question, ask
from stream.explaining.service import StoreReads
from tests.clustering.test_assignment_on_store import StorePorts
from tests.clustering.test_assignment_properties import WORLDS
from tests.support.cluster_world import MODEL, Entry, Record, World
from tests.support.reference_store import ReferenceStore

STAMP = TraceStamp("settings-1", "0.2.0")


def _of_images(world: World) -> World:
    """The world without deletes, replays and other models."""
    log = [record for record in world.log if record.kind == "image"] or [Record("a")]
    found = World(log, world.score_of, world.thresholds, world.k, world.overlap_of, world.hide_delay)
    found.distance_of, found.gate = world.distance_of, world.gate
    return found


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
            gate=self.world.gate,
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
        distances = [each.distance for each in page if each.distance is not None]
        answer.candidates.distances = np.array(distances, "<u2").tobytes()
        answer.candidates.exhausted = len(found) <= query.after + self.world.k
        if query.with_terms:
            answer.terms.values = np.arange(8, dtype="<u4").tobytes()
        return answer


class Deployment:
    """A world whose records are decided one by one, as a job does."""

    def __init__(self, world: World) -> None:
        self.store = MemoryStore()
        self.index = WorldServers(world)
        self._log = world

    def decide(self) -> Decision:
        """The next record."""
        self.index.applied += 1
        return decide(self._log, self.store, self.index.applied)

    @property
    def servers(self) -> AskedServers:
        return AskedServers(self.index, self.index, StoreReads(self.store))

    def images(self) -> list[ImageRecord]:
        with self.store.snapshot() as view:
            return list(view.images())

    def image(self, image_id: str) -> AskedImage:
        image = self.store.image(ImageId(image_id))
        assert image is not None
        return AskedImage(image.image_id, image.version, image.place)

    def asked(self, image_id: str, *, at_place: bool = False) -> AskedAgain:
        image = self.image(image_id)
        return ask(Question(image, image.place if at_place else None), self.servers, STAMP, 7)

    def compared(self, one: str, other: str) -> PairExplained:
        return compare(self.image(one), self.image(other), self.servers, PairLimits(1, 8), STAMP, 7)


def decide(world: World, store: MemoryStore, offset: int) -> Decision:
    """Decides one record of a world."""
    decisions: list[Decision] = []

    def committed(arrival: Arrival, decision: Decision | None, judgement: Judgement | None) -> None:
        assert decision is not None
        decisions.append(decision)

    ports = StorePorts(world, ReferenceStore(), memory=store)
    assign([world.arrival(offset)], ports, 7, committed=committed)
    return decisions[0]


def trace_of(asked: AskedAgain) -> Trace:
    assert asked.trace is not None
    return asked.trace


@given(world=IMAGE_WORLDS)
@settings(max_examples=150, deadline=None)
def test_as_of_its_place_an_image_gets_the_verdict_that_it_got(world: World) -> None:
    """Right away, and after everything else was decided too: heads are those of then."""
    deployment = Deployment(world)
    given: dict[ImageId, Decision] = {}
    for _ in world.log:
        decision = deployment.decide()
        if decision.outcome is Outcome.DECIDED and decision.moves[0].cause is not Cause.UNSCORED:
            given[decision.image_id] = decision
            before = deployment.images()
            check(deployment, decision)
            assert deployment.images() == before
        elif decision.outcome is Outcome.DECIDED:
            given.pop(decision.image_id, None)
    for decision in given.values():
        with deployment.store.snapshot() as view:
            earlier = written_at(view, decision.image_id, decision.offset, view_ids(view)).before
        if all(cluster.founding_code for cluster in earlier.clusters.values()):  # else one is not kept any more
            check(deployment, decision)


def check(deployment: Deployment, decision: Decision) -> None:
    """An image gets the same verdict again, as of its place."""
    choice = trace_of(deployment.asked(decision.image_id, at_place=True)).choice
    own = decision.moves[0]
    assert choice is not None
    assert (choice.head, choice.matched, choice.score) == (own.new_head, own.matched, own.score)


def view_ids(view: StoreView) -> list[ImageId]:
    return [image.image_id for image in view.images()]


@given(world=IMAGE_WORLDS)
@settings(max_examples=100, deadline=None)
def test_as_of_now_a_new_version_would_get_the_same_verdict(world: World) -> None:
    """Every image is asked for, then comes in a new version with the same embeddings."""
    deployment = Deployment(world)
    for _ in world.log:
        deployment.decide()
    for image in deployment.images():
        asked = deployment.asked(image.image_id)
        if asked.trace is None:
            continue
        choice = trace_of(asked).choice
        again = _again(deployment, world, image)
        assert choice is not None
        own = again.moves[0]
        assert (choice.head, choice.matched, choice.score) == (own.new_head, own.matched, own.score)


def _again(deployment: Deployment, world: World, image: ImageRecord) -> Decision:
    """What a new version of an image would get, in a copy of the store."""
    entry = deployment.index._entry(image.image_id)
    assert entry is not None
    grown = World(
        [*world.log, Record(image.image_id, image.version + 1, entry.code)],
        world.score_of,
        world.thresholds,
        world.k,
        world.overlap_of,
        world.hide_delay,
        distance_of=world.distance_of,
        gate=world.gate,
    )
    store = MemoryStore()
    for offset in range(len(world.log)):
        decide(world, store, offset)
    return decide(grown, store, len(world.log))


def world_of(
    pairs: dict[str, float], *, apart: str = "", k: int = 5, then: Sequence[Record] = (), decided: int | None = None
) -> Deployment:
    """Images `a`, `b`, ... whose codes are their names; pairs of `apart` share no terms; all records are decided."""

    def score(one: bytes, other: bytes) -> float:
        low, high = sorted((one.decode(), other.decode()))
        return 1.0 if low == high else pairs.get(low + high, 0.0)

    def overlap(one: bytes, other: bytes) -> int:
        low, high = sorted((one.decode(), other.decode()))
        return 0 if low + high in apart.split() else 2 if pairs.get(low + high, 0.0) >= 0.5 else 1

    names = sorted({name for pair in pairs for name in pair})
    log = [*(Record(name, code=name.encode()) for name in names), *then]
    deployment = Deployment(World(log, score, Thresholds(0.5, 0.4, 0.7), k, overlap))
    for _ in log[:decided]:
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


def test_what_rests_on_swept_history_is_a_problem_and_no_verdict() -> None:
    deployment = world_of({"ab": 0.9})
    deployment.store.set_published(2)
    deployment.store.sweep_history(2, 10)
    then = deployment.asked("b", at_place=True)
    assert then.trace is None
    assert then.problem == "what the record at position 1 wrote is not kept any more"
    now = trace_of(deployment.asked("b")).choice
    assert now is not None
    assert now.head == "a"


def test_a_head_with_members_stays_one_now_and_had_none_at_its_place() -> None:
    deployment = world_of({"ab": 0.9, "ac": 0.8, "bc": 0.1})
    assert trace_of(deployment.asked("a")).choice == trace_of(deployment.asked("a")).choice
    choice = trace_of(deployment.asked("a")).choice
    assert choice is not None
    assert choice.why is Why.KEPT
    then = trace_of(deployment.asked("a", at_place=True)).choice
    assert then is not None
    assert then.why is Why.NO_CANDIDATES


def test_heads_as_of_its_place_are_those_of_then() -> None:
    """`b` joins `a`. `c` matches `b` best, whose head was `a` then; since then `b` came again and founded."""
    deployment = world_of({"ab": 0.9, "bc": 0.9, "ac": 0.6}, then=[Record("b", 2, code=b"z")])
    now, then = (trace_of(deployment.asked("c", at_place=at_place)) for at_place in (False, True))
    assert [one.head for one in now.candidates if one.image_id == "b"] == [None]
    assert [one.head for one in then.candidates if one.image_id == "b"] == ["a"]
    assert then.choice is not None
    assert (then.choice.head, then.choice.matched) == ("a", "b")


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


def test_images_that_storage_has_not_decided_yet_are_no_candidates() -> None:
    """The index is a batch ahead while images flow."""
    deployment = world_of({"ab": 0.9, "bc": 0.9}, then=[Record("d", code=b"b")], decided=3)
    deployment.index.applied += 1
    now = deployment.asked("b")
    assert now.as_of == 3
    assert [one.image_id for one in trace_of(now).candidates] == ["a", "c"]
    assert deployment.compared("b", "c").would_match


def test_whether_two_images_match_whatever_their_heads_say() -> None:
    refused = world_of({"ab": 0.9, "bc": 0.9, "ac": 0.1})
    pair = refused.compared("c", "b")
    assert (pair.would_match, pair.would_join) == (True, False)
    assert not world_of({"ab": 0.3, "ac": 0.6, "bc": 0.6}).compared("a", "b").would_match
