"""Where images end up that want other heads."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.overrides import Override, OverrideKind
from core.types import ImageId
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.overrides.rules import Rules
from storage.rollback.roots import Roots
from storage.testing.decisions import A, B, C, D, deletes, founds, joins, put

NONE: dict[ImageId, ImageId] = {}


@pytest.fixture
def store() -> ClusterStore:
    """a with its member b; c; d."""
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), founds(2, C), founds(3, D))
    return store


def rules(*said: tuple[OverrideKind, ImageId, ImageId]) -> Rules:
    """Overrides that stand."""
    found = Rules()
    for number, (kind, image_id, target) in enumerate(said, start=1):
        found.add(Override(number, kind, (image_id,), target, 0, "", "", 0, 0))
    return found


def roots(store: ClusterStore, wishes: dict[ImageId, ImageId], said: Rules | None = None) -> list[ImageId]:
    """Where a, b, c and d end up."""
    with store.snapshot() as view:
        found = Roots(view, said or rules(), dict(wishes))
        found.part()
        return [found.of(each) for each in (A, B, C, D)]


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (NONE, [A, A, C, D]),
        ({B: C}, [A, C, C, D]),
        ({A: C}, [C, C, C, D]),
        ({A: C, C: D}, [D, D, D, D]),
        ({B: B}, [A, B, C, D]),
        ({A: B}, [A, A, C, D]),  # a circle: a is the head
        ({C: D, D: C}, [A, A, C, C]),  # both are heads, and c is older
        ({C: ImageId("gone")}, [A, A, "gone", D]),
    ],
)
def test_a_wish_is_followed_to_its_end(store: ClusterStore, wishes: dict[ImageId, ImageId], expected: object) -> None:
    assert roots(store, wishes) == expected


def test_pins_win_over_wishes_and_forbids_over_both(store: ClusterStore) -> None:
    pin, forbid = OverrideKind.PIN, OverrideKind.FORBID
    assert roots(store, {B: C}, rules((pin, B, D))) == [A, D, C, D]
    assert roots(store, {C: A}, rules((forbid, C, B))) == [A, A, C, D]
    assert roots(store, {B: C}, rules((forbid, B, C))) == [A, A, C, D]  # it stays where it is
    assert roots(store, {A: C}, rules((forbid, B, C))) == [C, B, C, D]  # its cluster is gone


def test_a_pin_that_nobody_obeys_pulls_nobody(store: ClusterStore) -> None:
    assert roots(store, {D: C}, rules((OverrideKind.PIN, B, C))) == [A, A, C, C]


def test_a_deleted_head_names_its_cluster(store: ClusterStore) -> None:
    put(store, deletes(4, A, A))
    assert roots(store, {C: A}) == [A, A, A, D]


@given(st.integers(0, 10**6))
def test_each_root_is_its_own_root(seed: int) -> None:
    dice = random.Random(seed)
    names = [ImageId(f"i{number}") for number in range(8)]
    store = MemoryStore()
    for offset, name in enumerate(names):
        heads = [each.head for each in map(store.image, names[:offset]) if each is not None]
        put(store, joins(offset, name, dice.choice(heads)) if heads and dice.random() < 0.6 else founds(offset, name))
    wishes = {name: dice.choice(names) for name in names if dice.random() < 0.6}
    with store.snapshot() as view:
        found = Roots(view, rules(), wishes)
        ends = {name: found.of(name) for name in names}
    assert all(ends[end] == end for end in ends.values())
