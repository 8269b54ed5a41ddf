"""The consumer that somebody writes: its join, its decisions and its store, with a model of our own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.pipeline.corpus import Mates
from benchmarks.pipeline.deciding import CompleteImage, DictJoin, HeadStore, PlainDecider, PlainParts
from benchmarks.pipeline.neighbours import choose_effort
from neardup.events import notification
from scoring.features import hamming_distances
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from tests.support.fake_model import FakeModel, card

DIMENSION = 16


class _AllCodes:
    """Nearest codes by brute force, with the methods of `NearestCodes`; a small effort misses all but the nearest."""

    def __init__(self) -> None:
        self.codes = np.empty((0, 8), np.uint8)
        self.effort = 1 << 20
        self.efforts: list[int] = []

    def set_effort(self, effort: int) -> None:
        self.effort = effort
        self.efforts.append(effort)

    def add(self, codes: NDArray[np.uint8]) -> None:
        self.codes = np.concatenate([self.codes, codes])

    def nearest(self, codes: NDArray[np.uint8], k: int) -> NDArray[np.int64]:
        found = np.full((len(codes), k), -1)
        for row, code in enumerate(codes):
            distances = hamming_distances(self.codes, np.repeat(code[None], len(self.codes), axis=0))
            best = np.argsort(distances, kind="stable")[: min(k, self.effort)]
            found[row, : len(best)] = best
        return found


@pytest.fixture
def decider(tmp_path: Path) -> Any:
    parts = PlainParts(
        extractor=TermSettings(DIMENSION, seed=1, bits=64, groups=8, bits_per_group=8).build(),
        coder=CodeSettings(DIMENSION, bits=64, seed=2).build(),
        model=FakeModel(card()),
        index=cast(Any, _AllCodes()),
        store=HeadStore(tmp_path / "heads"),
        candidates=5,
    )
    yield PlainDecider(parts, 100)
    parts.store.close()


def _image(name: str, seed: int, sign: int = 1) -> CompleteImage:
    vector = sign * np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return CompleteImage(name, 1, vector, vector, 0)


def _heads(decided: Sequence[Any]) -> dict[str, str]:
    return {each.image.image_id: each.head for each in decided}


def _half(name: str, value: float) -> bytes:
    return notification(name, [value, 1.0], embedding="net", model_version="1", image_version=3)


def test_halves_meet_whichever_comes_first() -> None:
    join = DictJoin()
    assert join.take(True, _half("a", 1.0), 10) is None
    assert join.take(False, _half("b", 2.0), 11) is None
    one, other = join.take(False, _half("a", 3.0), 12), join.take(True, _half("b", 4.0), 9)
    assert one is not None
    assert other is not None
    assert (one.image_id, one.version, one.search[0], one.score[0], one.arrived_at_ms) == ("a", 3, 1.0, 3.0, 12)
    assert (other.image_id, other.search[0], other.score[0], other.arrived_at_ms) == ("b", 4.0, 2.0, 11)


def test_a_half_that_comes_again_does_not_meet_itself() -> None:
    join = DictJoin()
    assert join.take(True, _half("a", 1.0), 10) is None
    assert join.take(True, _half("a", 1.0), 10) is None


@pytest.mark.parametrize("batched", [False, True])
def test_copies_get_the_head_of_the_first_one_alone_or_in_a_batch(decider: PlainDecider, batched: bool) -> None:
    images = [_image("a", 1), _image("b", 2), _image("a2", 1), _image("c", 3), _image("a3", 1)]
    parts = [images] if batched else [[each] for each in images]
    decided = [each for part in parts for each in decider.decide(part)]
    assert _heads(decided) == {"a": "a", "b": "b", "a2": "a", "c": "c", "a3": "a"}


def test_images_that_are_filled_in_are_matched(decider: PlainDecider) -> None:
    parts, old = decider._parts, [_image("old", 5), _image("older", 5, sign=-1)]
    vectors = [each.search for each in old]
    parts.index.add(np.packbits(parts.extractor.bits(vectors), axis=1))
    decider.fill(["old", "older"], ["old", "old"], parts.coder.codes(vectors, vectors))
    assert parts.store.head("older") == "old"
    assert _heads(decider.decide([_image("new", 5)])) == {"new": "old"}
    # It matches `older`, whose head it does not match.
    assert _heads(decider.decide([_image("strange", 5, sign=-1)])) == {"strange": "strange"}


def test_the_smallest_effort_that_finds_enough_is_set() -> None:
    index = _AllCodes()
    index.add(np.random.default_rng(1).integers(0, 256, (8, 8), dtype=np.uint8).repeat(20, axis=0))
    mates = Mates(np.arange(8).repeat(20))
    effort, share = choose_effort(index, index.codes, mates, 30, 0.9)
    assert (effort, share) == (32, 1.0)
    assert index.efforts == [16, 32]
    assert choose_effort(index, index.codes, mates, 30, 1.1)[0] == 1024
