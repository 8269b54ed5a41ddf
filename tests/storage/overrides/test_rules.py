"""Rules by image, against a plain reading of the overrides that stand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInputError, ConflictError
from core.overrides import MAX_FORBIDDEN, Override, OverrideKind
from core.types import ImageId, ImageRules
from storage.overrides.rules import NO_RULES, Rules

IDS = [ImageId(text) for text in "abcdef"]

said = st.tuples(
    st.sampled_from([OverrideKind.PIN, OverrideKind.FORBID, OverrideKind.SPLIT, OverrideKind.MERGE]),
    st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True),
    st.sampled_from(IDS),
    st.booleans(),
)


def override(number: int, kind: OverrideKind, images: Sequence[ImageId], target: ImageId) -> Override:
    return Override(number, kind, tuple(images), target, 0, "", "", 0, 0)


def pairs(overrides: Sequence[Override]) -> tuple[set[tuple[ImageId, ImageId]], set[frozenset[ImageId]]]:
    """The pins and the forbids of overrides, written down from their meaning."""
    pins, forbids = set(), set()
    for each in overrides:
        target = each.target
        assert target is not None
        if each.kind in (OverrideKind.PIN, OverrideKind.MERGE):
            pins |= {(image_id, target) for image_id in each.images}
        elif each.kind is OverrideKind.FORBID:
            forbids |= {frozenset((image_id, target)) for image_id in each.images}
        else:
            forbids |= {frozenset((image_id, target)) for image_id in each.images}
            pins |= {(image_id, each.images[0]) for image_id in each.images[1:]}
    return pins, forbids


def is_sound(overrides: Sequence[Override]) -> bool:
    """Whether nothing is pinned twice, or in a circle, or tied to what is forbidden with it."""
    pins, forbids = pairs(overrides)
    if len({one for one, _ in pins}) < len(pins) or any(len(pair) == 1 for pair in forbids):
        return False
    group = {image_id: {image_id} for image_id in IDS}
    for one, other in pins:
        if group[one] is group[other]:
            return False
        group[one] |= group[other]
        for each in group[other]:
            group[each] = group[one]
    return not any(group[min(pair)] is group[max(pair)] for pair in forbids)


@given(st.lists(said, max_size=8))
def test_rules_are_what_stands_and_never_contradict(
    steps: list[tuple[OverrideKind, list[ImageId], ImageId, bool]],
) -> None:
    rules, standing = Rules(), list[Override]()
    old: Rules | None = None
    for number, (kind, images, target, undo) in enumerate(steps, start=1):
        asked = override(number, kind, images, target)
        try:
            after = rules.checked(asked)
        except (BadInputError, ConflictError):
            assert not is_sound([*standing, asked])
        else:
            assert is_sound([*standing, asked])
            assert after.of(target) == rules.with_(asked).of(target) != NO_RULES
            # What was prepared counts as long as nothing has changed.
            stale = rules.with_(asked)
            rules.add(asked, after if number % 2 else old)
            old = stale
            standing.append(asked)
        if undo and standing:
            rules.remove(standing.pop(0))
        pins, forbids = pairs(standing)
        for image_id in IDS:
            found = rules.of(image_id)
            assert ({(image_id, found.pinned_to)} if found.pinned_to else set()) == {
                p for p in pins if p[0] == image_id
            }
            assert {frozenset((image_id, other)) for other in found.forbidden} == {f for f in forbids if image_id in f}
            assert {(other, image_id) for other in found.followers} == {p for p in pins if p[1] == image_id}
        assert bool(rules.named(IDS)) == bool(pins or forbids)


def test_followers_come_with_the_image_that_they_follow() -> None:
    rules = Rules()
    rules.add(override(1, OverrideKind.PIN, "bc", IDS[0]))  # type: ignore[arg-type]
    rules.add(override(2, OverrideKind.PIN, "d", IDS[1]))  # type: ignore[arg-type]
    assert list(rules.followers_of(IDS[0])) == [("b", "a"), ("c", "a"), ("d", "b")]


def test_what_is_said_while_somebody_reads_all_is_left_out() -> None:
    rules = Rules()
    rules.add(override(1, OverrideKind.PIN, "bc", IDS[0]))  # type: ignore[arg-type]
    rules.add(override(2, OverrideKind.FORBID, "de", IDS[0]))  # type: ignore[arg-type]
    for each in (rules, rules.with_(override(3, OverrideKind.PIN, "d", IDS[4]))):  # type: ignore[arg-type]
        pinned, pairs = each.pinned(), each.forbidden_pairs()
        first = next(pinned), next(pairs)
        rules.add(override(4, OverrideKind.SPLIT, ["x", "y"], ImageId("z")))  # type: ignore[list-item]
        assert (first, next(pinned), list(pairs)) == (("b", ("a", "d")), "c", [("a", "e")])
        rules.remove(override(4, OverrideKind.SPLIT, ["x", "y"], ImageId("z")))  # type: ignore[list-item]


def test_a_large_split_counts_as_its_oldest() -> None:
    rules, head = Rules(), ImageId("head")
    images = [ImageId(f"i{number}") for number in range(MAX_FORBIDDEN + 2)]
    split = override(1, OverrideKind.SPLIT, images, head)
    oldest, second, *_ = images
    rules.add(split)
    assert rules.of(head) == ImageRules(None, tuple(images))
    told = {oldest: ImageRules(None, (head,)), second: ImageRules(oldest, (head,))}  # no followers: they are too many
    assert rules.named([oldest, second]) == told
    others = [ImageId(f"other {number}") for number in range(MAX_FORBIDDEN - 1)]
    with pytest.raises(BadInputError, match="more than 1000 other images"):
        rules.checked(override(2, OverrideKind.FORBID, [*others, ImageId("another")], head))
    rules.checked(override(2, OverrideKind.FORBID, others, head))
    rules.add(override(2, OverrideKind.FORBID, [ImageId("another")], head))
    assert rules.named([head]) == {head: ImageRules(None, (*images, ImageId("another")))}
    rules.remove(split)
    assert rules.named([head, oldest, second]) == {head: ImageRules(None, (ImageId("another"),))}
    assert list(rules.forbidden_pairs()) == [("another", "head")]
