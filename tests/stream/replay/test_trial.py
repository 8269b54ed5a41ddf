"""A trial says what a replay through the order would decide, and writes nothing."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustering.assignment import assign
from core.errors import BusyError, MismatchError, UnavailableError
from core.known_verdicts import KnownVerdict
from core.types import Cause, ImageId, Lookup, Versions
from scoring.serving import scorer_pb2
from search.serving import search_pb2
from storage.records import EmbeddingRecord, ImageRecord
from storage.selecting import SelectedImage
from stream.replay.trial import TrialServers, TrialSettings, try_images
from tests.support.cluster_world import MODEL, Entry, Record, World, WorldPorts, random_distance, random_score
from tests.support.reference_store import ReferenceStore

HIDDEN = b"v"
"""A search vector that stands for the image whose id and score code follow it."""


@dataclass
class TrialWorld:
    """The three servers of a world, over the wire's messages."""

    world: World
    store: ReferenceStore
    unfindable: frozenset[str] = frozenset()
    """Images that the index does not show by their ids."""
    busy: int = 0
    """So many calls are refused first."""
    calls: int = 0
    asked: list[str] = field(default_factory=list)
    """Versions of the model that were asked for."""

    def _called(self) -> None:
        self.calls += 1
        if self.busy:
            self.busy -= 1
            raise BusyError("over the limit", 0.5)

    def search(self, queries: Sequence[search_pb2.SearchQuery]) -> search_pb2.SearchResponse:
        self._called()
        return search_pb2.SearchResponse(answers=map(self._answer, queries), index_version="index-1")

    def _answer(self, query: search_pb2.SearchQuery) -> search_pb2.SearchAnswer:
        entry = self._entry(query)
        if entry is None:
            return search_pb2.SearchAnswer(known=False)
        found = self.world.candidates(entry, query.as_of)
        end = query.after + self.world.k
        page = found[query.after : end]
        candidates = search_pb2.Candidates(
            image_ids=[each.image_id for each in page],
            overlaps=np.array([each.overlap for each in page], "<u2").tobytes(),
            places=np.array([each.place for each in page], "<i8").tobytes(),
            score_codes=b"".join(each.score_code for each in page),
            distances=np.array([each.distance for each in page if each.distance is not None], "<u2").tobytes(),
            exhausted=len(found) <= end,
        )
        return search_pb2.SearchAnswer(known=True, candidates=candidates)

    def _entry(self, query: search_pb2.SearchQuery) -> Entry | None:
        if query.WhichOneof("what") == "vector":
            hidden, image_id, code = query.vector.data[:1], query.vector.data[1:2], query.vector.data[2:]
            assert hidden == HIDDEN
            return Entry(ImageId(image_id.decode()), 0, -1, code)  # what is hidden is no candidate, not even its own
        known = [each for each in self.world.entries if each.image_id == query.image_id]
        return known[-1] if known and query.image_id not in self.unfindable else None

    def score(self, blocks: Sequence[scorer_pb2.PairBlock], model_version: str = "") -> scorer_pb2.ScoreResponse:
        self._called()
        self.asked.append(model_version)
        version, limits = model_version or MODEL, self.world.thresholds
        return scorer_pb2.ScoreResponse(
            model_version=version,
            accept=limits.accept,
            head_accept=limits.head_accept,
            adopt=limits.adopt,
            scores=[self._scores(version, block) for block in blocks],
            gate=self.world.gate,
        )

    def _scores(self, version: str, block: scorer_pb2.PairBlock) -> bytes:
        codes = [bytes([code]) for code in block.candidate_codes]
        return np.array([self.world.score(version, block.query_code, code) for code in codes], "<f4").tobytes()

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        self._called()
        return self.store.look_up(ids, verdicts_of)

    def images(self) -> list[SelectedImage]:
        """All images, as storage gives them."""
        found = []
        for image_id, head in sorted(self.store.heads.items()):
            place = self.store.places[image_id]
            code = self.world.log[place].code
            record = ImageRecord(
                image_id, self.store.versions[image_id], place, head, None, None, Cause.KEPT, 0, 0, 0, Versions(), 1
            )
            stored = b"" if image_id in self.unfindable else code
            vector = HIDDEN + image_id.encode() + code
            embedding = EmbeddingRecord(place, image_id, record.version, stored, vector, b"s")
            found.append(SelectedImage(record, True, embedding))
        return found


def tried(world: TrialWorld, model_version: str = "") -> dict[ImageId, KnownVerdict]:
    def code(one: SelectedImage) -> bytes:
        assert one.embedding is not None
        return one.embedding.search_vector[2:]

    waited: list[float] = []
    chosen = TrialSettings(model_version, 1, 1, code)
    return try_images(world.images(), TrialServers(world, world, world), chosen, 5, waited.append)


def world_of(log: list[Record], seed: int, k: int) -> World:
    """Every other world has distances, and a gate."""
    gate = seed % 10 if seed % 2 else None
    return World(log, random_score(seed), k=k, distance_of=random_distance if seed % 2 else None, gate=gate)


def decided_world(log: list[Record], seed: int, k: int, unfindable: frozenset[str] = frozenset()) -> TrialWorld:
    world, store = world_of(log, seed, k), ReferenceStore()
    arrivals = world.arrivals()
    while len(arrivals) > store.position.offset + 1:
        assign(arrivals[store.position.offset + 1 :], WorldPorts(world, store), 0)
    return TrialWorld(world, store, unfindable)


RECORDS = st.lists(
    st.builds(
        Record,
        image_id=st.sampled_from("abcdefghij"),
        version=st.integers(1, 2),
        code=st.integers(65, 80).map(lambda number: bytes([number])),
    ),
    min_size=1,
    max_size=14,
)


@settings(deadline=None)
@given(log=RECORDS, seed=st.integers(0, 1000), k=st.integers(1, 4), hidden=st.frozensets(st.sampled_from("abc")))
def test_a_trial_says_what_a_replay_would_decide(log: list[Record], seed: int, k: int, hidden: frozenset[str]) -> None:
    trial = decided_world(log, seed, k, hidden)
    before = copy.deepcopy(vars(trial.store))
    found = tried(trial)
    assert vars(trial.store) == before
    assert found.keys() == trial.store.heads.keys()
    for image_id, verdict in found.items():
        replayed = world_of([*log, Record(image_id, kind="replay", force=True)], seed, k)
        store = copy.deepcopy(trial.store)
        assign([replayed.arrival(len(log))], WorldPorts(replayed, store), 0)
        own = store.decisions[-1].moves[0]
        assert verdict == KnownVerdict(own.new_head, own.cause, own.score, own.matched, Versions(MODEL, "index-1"))


def test_another_version_of_the_model_scores_all_of_it() -> None:
    log = [Record(name, code=name.encode()) for name in "abcdefghij"]
    trial = decided_world(log, 3, 1)
    plain, other = tried(trial), tried(trial, "model-2")
    assert {verdict.versions.model for verdict in other.values()} == {"model-2"}
    assert "model-2" in trial.asked
    assert {one: verdict.head for one, verdict in plain.items()} != {
        one: verdict.head for one, verdict in other.items()
    }


def test_busy_servers_are_asked_again() -> None:
    log = [Record(name, code=name.encode()) for name in "abcd"]
    trial = decided_world(log, 3, 2)
    calm = tried(trial)
    trial.busy = 5
    assert tried(trial) == calm


def test_a_server_that_is_down_is_not_waited_for() -> None:
    trial = decided_world([Record("a")], 3, 2)

    class Down(TrialWorld):
        def _called(self) -> None:
            raise UnavailableError("connection refused")

    with pytest.raises(UnavailableError):
        tried(Down(trial.world, trial.store))


def test_an_index_that_knows_what_storage_does_not_is_told() -> None:
    log = [Record(name, code=b"x") for name in "ab"]
    trial = decided_world(log, 3, 2)
    trial.world.overlap_of = lambda one, other: 3
    lost = trial.store
    images = trial.images()
    del lost.heads[ImageId("b")], lost.versions[ImageId("b")], lost.places[ImageId("b")]
    with pytest.raises(MismatchError):
        try_images(
            images[:1], TrialServers(trial, trial, trial), TrialSettings("", 1, 1, lambda one: b""), 5, lambda _: None
        )
