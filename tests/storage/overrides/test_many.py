"""Of an image with very many forbidden ones: what is read, and when it is read again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from core.overrides import MAX_FORBIDDEN, Override, OverrideKind
from core.types import ImageId, LogPosition, Lookup
from storage.memory import MemoryStore
from storage.overrides.many import ManyForbidden
from storage.overrides.rules import Rules
from storage.records import Heads, HistoryEntry, StoreState
from storage.testing.decisions import A, B, C, D, founds, joins, put

MANY = (B, C, *(ImageId(f"i{number}") for number in range(MAX_FORBIDDEN)))


class Readings:
    """Counts how often all heads are read."""

    def __init__(self) -> None:
        self.heads = {B: D, C: D}
        self.count = 0

    def __call__(self, ids: Iterable[ImageId]) -> Heads:
        self.count += 1
        return Heads(LogPosition(), 0, {each: self.heads[each] for each in ids if each in self.heads}, {})


@pytest.fixture
def rules() -> Rules:
    """Many images are forbidden to a."""
    rules = Rules()
    rules.add(Override(1, OverrideKind.FORBID, MANY, A, 0, "", "", 0, 0))
    return rules


def entry(image_id: ImageId, old: ImageId | None, new: ImageId) -> HistoryEntry:
    """A move."""
    store = MemoryStore()
    put(store, founds(0, image_id) if old is None or new == image_id else joins(0, image_id, new))
    return replace(store.history(0, 1)[0], old_head=old, new_head=new)


def met(many: ManyForbidden, rules: Rules, reads: Readings, at: int, *asked: ImageId, **fields: Any) -> list[ImageId]:
    """What an answer at a position needs of those forbidden to a, if the cluster of d is near."""
    lookup = Lookup(LogPosition(offset=at), fields.get("revision", 0))
    return list(many.met(A, rules.of(A).forbidden, lookup, dict.fromkeys((A, *asked)), [D], reads))


def test_one_that_is_not_asked_for_stands_for_its_cluster(rules: Rules) -> None:
    many, reads = ManyForbidden(), Readings()
    assert met(many, rules, reads, 5) == [B]
    assert met(many, rules, reads, 6, B) == [B, C]
    assert met(many, rules, reads, 7, C, MANY[-1]) == [C, MANY[-1], B]
    assert met(many, rules, reads, 8, B, C) == [B, C]
    assert reads.count == 1


def test_heads_are_read_again_once_one_has_moved(rules: Rules) -> None:
    many, reads = ManyForbidden(), Readings()
    assert met(many, rules, reads, 5) == [B]
    state = StoreState(LogPosition(offset=6))
    # Neither the image itself, nor one that stays, nor a stranger matters.
    many.before_write(state, [entry(A, None, A), entry(B, B, B), entry(D, None, D)], rules)
    assert (met(many, rules, reads, 6), reads.count) == ([B], 1)
    many.before_write(state, [entry(B, D, B)], rules)
    assert (met(many, rules, reads, 5), reads.count) == ([B], 2)  # somebody still reads the moment before
    reads.heads[B] = B
    assert (met(many, rules, reads, 6), reads.count) == ([C], 3)
    assert (met(many, rules, reads, 9), reads.count) == ([C], 3)
    many.before_bulk_move(StoreState(LogPosition(offset=10)))
    assert (met(many, rules, reads, 10), reads.count) == ([C], 4)


def test_heads_are_read_again_after_an_override(rules: Rules) -> None:
    many, reads = ManyForbidden(), Readings()
    assert met(many, rules, reads, 5) == [B]
    assert (met(many, rules, reads, 5, revision=1), reads.count) == ([B], 2)
    rules.add(Override(2, OverrideKind.FORBID, (D,), A, 0, "", "", 0, 0))
    assert (met(many, rules, reads, 5, revision=1), reads.count) == ([D, B], 3)
