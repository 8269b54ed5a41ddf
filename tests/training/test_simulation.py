"""The simulated stream decides like the real rule on the reference store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pytest

from clustering.assignment import Arrival, More, MoreNeed, PairNeed, assign
from core.types import Candidate, Decision, ImageId, Lookup, Thresholds, Versions
from search import ranking
from search.ranking import Ranking
from storage.memory import MemoryStore
from tests.support.fake_model import expected_scores
from training.candidates import rank_candidates
from training.simulation import SimulatedStream

THRESHOLDS = Thresholds(accept=0.75, head_accept=0.625, adopt=0.6875)


class RandomImages:
    """Images in families, so that chains, adopting and refusing heads all occur."""

    def __init__(self, seed: int, images: int = 150) -> None:
        random = np.random.RandomState(seed)
        families = random.randint(0, 256, (12, 8)).astype(np.uint8)
        noise = np.packbits(random.random_sample((images, 64)) < random.uniform(0, 0.25, (images, 1)), axis=1)
        self.codes = families[random.randint(0, 12, images)] ^ noise
        bits = np.unpackbits(self.codes, axis=1).reshape(images, 16, 4)
        self.terms = bits.astype(np.uint32) @ np.array([8, 4, 2, 1], dtype=np.uint32)
        self.ids = [f"image {number}" for number in range(images)]
        self.ranked = rank_candidates(self.terms, self.codes, Ranking(depth=images), images, earlier_only=True)

    def stream(self, page: int) -> SimulatedStream:
        return SimulatedStream(self.ids, self.codes, self.ranked, Ranking(page), expected_scores)

    def candidates(self, image: int, after: int, page: int) -> More:
        """What a search returns for an image."""
        found = self.ranked.of(image)
        start = min(found.stop, found.start + after)
        stop = min(found.stop, start + page)
        others, overlaps = self.ranked.others[start:stop].tolist(), self.ranked.overlaps[start:stop].tolist()
        candidates = tuple(
            Candidate(ImageId(self.ids[other]), other, overlap, self.codes[other].tobytes())
            for other, overlap in zip(others, overlaps, strict=True)
        )
        return More(candidates, exhausted=stop == found.stop)

    def arrival(self, image: int, page: int) -> Arrival:
        """The record of an image with what search and scorer said."""
        found = self.candidates(image, 0, page)
        left = np.repeat(self.codes[image][None], len(found.candidates), axis=0)
        right = self.codes[[candidate.place for candidate in found.candidates]]
        return Arrival(
            offset=image,
            checksum=0,
            image_id=ImageId(self.ids[image]),
            version=1,
            place=image,
            score_code=self.codes[image].tobytes(),
            candidates=found.candidates,
            scores=tuple(expected_scores(left, right).tolist()),
            exhausted=found.exhausted,
            thresholds=THRESHOLDS,
            versions=Versions(),
            unscored="",
            search_vector=b"",
            score_vector=b"",
            created_at_ms=0,
            arrived_at_ms=0,
        )


class StreamPorts:
    """The real rule on the reference store, one image at a time, everything asked for afresh."""

    def __init__(self, world: RandomImages, page: int, store: MemoryStore) -> None:
        self._world = world
        self._page = page
        self._store = store

    def look_up(self, ids: Collection[str], verdicts_of: Collection[str]) -> Lookup:
        return self._store.look_up(ids)  # type: ignore[arg-type]

    def score(self, pairs: Sequence[PairNeed]) -> Mapping[PairNeed, float]:
        def one(pair: PairNeed) -> float:
            left, right = (np.frombuffer(code, np.uint8)[None] for code in (pair.left, pair.right))
            return float(expected_scores(left, right)[0])

        return {pair: one(pair) for pair in pairs}

    def more(self, needs: Sequence[MoreNeed]) -> Mapping[MoreNeed, More]:
        return {need: self._world.candidates(need.place, need.after, self._page) for need in needs}

    def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
        self._store.apply("log", decisions, offset, revision)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("page", "further"), [(3, 2), (2, 5), (100, 100)])
def test_equals_the_reference_store(seed: int, page: int, further: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "FURTHER", further)
    world = RandomImages(seed)
    heads = world.stream(page).heads(THRESHOLDS)
    store = MemoryStore()
    ports = StreamPorts(world, further, store)
    for image in range(len(world.ids)):
        assert assign([world.arrival(image, page)], ports, now_ms=0) == 1
    memberships = store.look_up(world.ids).memberships  # type: ignore[arg-type]
    assert [memberships[image_id].head for image_id in world.ids] == heads  # type: ignore[index]
    assert 1 < len(set(heads)) < len(heads)


def test_thresholds_can_be_changed_without_scoring_anew() -> None:
    world, calls = RandomImages(1), []

    def counting(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        calls.append(len(left))
        return expected_scores(left, right)

    stream = SimulatedStream(world.ids, world.codes, world.ranked, Ranking(100), counting)
    strict = stream.heads(Thresholds(1.0, 1.0, 1.0))
    assert len(calls) == 1
    assert len(set(strict)) > len(set(stream.heads(THRESHOLDS)))
    assert stream.heads(Thresholds(1.0, 1.0, 1.0)) == strict


def test_pairs_are_the_first_page_of_every_image() -> None:
    world = RandomImages(2)
    stream = world.stream(5)
    counts = np.bincount(stream.pairs[:, 0], minlength=len(world.ids))
    assert (counts == np.minimum(5, np.diff(world.ranked.starts))).all()
    assert (stream.pairs[:, 1] < stream.pairs[:, 0]).all()
    left, right = stream.pairs.T
    np.testing.assert_array_equal(stream.scores, expected_scores(world.codes[left], world.codes[right]))
