"""What the index must hide is found by offset, whatever the size of a step and whatever happened to the image since."""

from __future__ import annotations

import random

import pytest

from core.types import Cause, Decision, ImageId, Move, Outcome
from storage.memory import MemoryStore
from storage.unscored import unscored_after


def decided(offset: int, cause: Cause, *adopted: ImageId) -> Decision:
    image = ImageId(f"image-{offset}")
    moves = [Move(image, None, image, cause), *(Move(each, each, image, Cause.ADOPTED, 0.9, image) for each in adopted)]
    return Decision(offset, offset, Outcome.DECIDED, image, 1, offset, moves=tuple(moves))


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
@pytest.mark.parametrize("after", [-1, 0, 17, 59, 100])
def test_every_size_of_a_step_finds_the_same(step: int, after: int) -> None:
    rng = random.Random(4)
    store = MemoryStore()
    unscored, free, decisions = [], [], []
    for offset in range(60):
        bad = rng.random() < 0.3
        adopted = [free.pop() for _ in range(rng.randrange(4)) if free and not bad]
        decisions.append(decided(offset, Cause.UNSCORED if bad else Cause.FOUNDED, *adopted))
        unscored += [offset] if bad else []
        free += [] if adopted else [ImageId(f"image-{offset}")]
    store.apply("log", decisions, -1, 0)
    places: list[int] = []
    through, complete = after, False
    with store.snapshot() as view:
        while not complete:
            found = unscored_after(view, through, step)
            assert found.complete or found.through > through
            places, through, complete = places + list(found.places), found.through, found.complete
    assert places == [offset for offset in unscored if offset > after]
    assert through == max(after, 59)


def test_an_empty_store_has_none() -> None:
    with MemoryStore().snapshot() as view:
        assert unscored_after(view, -1).places == ()
