"""Two clusterings compared: counts, measures and examples are those of counting image by image and pair by pair."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BadInputError
from stream.comparing.compare import (
    MOST_MEMBERS,
    MOST_PARTS,
    ComparedClusterings,
    ComparedMember,
    SplitCluster,
    compare_clusterings,
)
from tests.stream.comparing.clusterings import ListedClustering, Row, singles

SIDES = st.dictionaries(
    st.sampled_from([f"image-{number}" for number in range(14)]), st.sampled_from(["k", "l", "ä", ""]), min_size=1
)


def compared(
    folder: Path, a: Sequence[Row], b: Sequence[Row], examples: int = 3, *, only_common: bool = False
) -> ComparedClusterings:
    one, two = ListedClustering("old", a), ListedClustering("new", b, at_once=5, moment="position 7")
    return compare_clusterings(one, two, folder, examples, only_common=only_common)


def members(side: dict[str, str]) -> list[frozenset[str]]:
    return [frozenset(each for each in side if side[each] == cluster) for cluster in set(side.values())]


def share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def bcubed(found: dict[str, str], truth: dict[str, str], common: list[str]) -> float:
    """Self-excluded precision of one side by the other."""
    shares = []
    for image in common:
        mates = [each for each in common if each != image and found[each] == found[image]]
        if mates:
            shares.append(sum(truth[each] == truth[image] for each in mates) / len(mates))
    return share(sum(shares), len(shares))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SIDES, SIDES, st.booleans(), st.integers(0, 2**32))
def test_equals_an_oracle(tmp_path: Path, a: dict[str, str], b: dict[str, str], only_common: bool, seed: int) -> None:
    common = sorted(a.keys() & b.keys())
    dice = random.Random(seed)
    rows_a, rows_b = (dice.sample(singles(**side), len(side)) for side in (a, b))
    if not common:
        with pytest.raises(BadInputError, match="no image in common"):
            compared(tmp_path, rows_a, rows_b)
        return
    found = compared(tmp_path, rows_a, rows_b, only_common=only_common)
    kept_a, kept_b = ({each: side[each] for each in side if each in common or not only_common} for side in (a, b))
    assert found.common == len(common)
    for counts, side, kept in ((found.a, a, kept_a), (found.b, b, kept_b)):
        clusters = members(kept)
        assert (counts.images, counts.only_here) == (len(kept), len(side) - len(common))
        assert (counts.clusters, counts.singletons) == (len(clusters), sum(len(each) == 1 for each in clusters))
    assert found.equal == len(set(members(kept_a)) & set(members(kept_b)))
    pairs = [(a[one] == a[two], b[one] == b[two]) for one, two in combinations(common, 2)]
    both, of_a, of_b = pairs.count((True, True)), sum(one for one, _ in pairs), sum(two for _, two in pairs)
    assert (found.lost_pairs, found.gained_pairs) == (of_a - both, of_b - both)
    quality = found.quality
    assert quality.pairwise.precision == pytest.approx(share(both, of_b))
    assert quality.pairwise.recall == pytest.approx(share(both, of_a))
    assert quality.bcubed.precision == pytest.approx(bcubed(b, a, common))
    assert quality.bcubed.recall == pytest.approx(bcubed(a, b, common))
    for splits, own, other in ((found.lost, a, b), (found.gained, b, a)):
        check_splits(splits, own, other, a, b, common)
    assert list(tmp_path.iterdir()) == []


def check_splits(
    splits: Sequence[SplitCluster],
    own: dict[str, str],
    other: dict[str, str],
    a: dict[str, str],
    b: dict[str, str],
    common: list[str],
) -> None:
    """Those that differ most come first, with all that is said of them."""
    expected = {
        cluster: sum(
            own[one] == own[two] == cluster and other[one] != other[two] for one, two in combinations(common, 2)
        )
        for cluster in set(own.values())
    }
    most = sorted((pairs for pairs in expected.values() if pairs), reverse=True)[:3]
    assert [each.pairs for each in splits] == most
    for each in splits:
        images = [image for image in common if own[image] == each.cluster]
        parts = Counter(other[image] for image in images)
        assert (each.pairs, each.images) == (expected[each.cluster], len(images))
        assert dict(each.parts) == parts
        assert [size for _, size in each.parts] == sorted(parts.values(), reverse=True)
        assert each.part_count == len(parts)
        assert len(each.members) == min(len(images), MOST_MEMBERS)
        assert {member.image_id for member in each.members} <= set(images)
        assert all((member.a, member.b) == (a[member.image_id], b[member.image_id]) for member in each.members)


def test_the_highest_version_of_an_image_counts(tmp_path: Path) -> None:
    a: list[Row] = [("x", None, 1), ("y", "k", 1), ("x", "k", 3), ("x", "l", 2)]
    found = compared(tmp_path, a, singles(x="m", y="m"))
    assert (found.a.images, found.common, found.equal) == (2, 2, 1)
    assert found.b.moment == "position 7"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("x", "k", 1), ("y", "k", 1), ("x", "l", 1)], "old has the image 'x' twice in version 1: an image is"),
        ([("x", "k", 4), ("x", "l", 4), ("x", "l", 4)], "old has the image 'x' twice in version 4, and 1 others so"),
        ([("x", "k", 1), ("y", None, 1)], "old names no cluster of the image 'y'$"),
        ([("x", "k", 1), ("x", None, 2), ("y", None, 1)], "old names no cluster of the image '[xy]' and 1 others"),
        ([], "old and new have no image in common"),
    ],
)
def test_what_is_no_clustering_is_told(tmp_path: Path, rows: list[Row], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        compared(tmp_path, rows, singles(x="m", y="m"))


def test_a_large_cluster_is_shown_in_parts(tmp_path: Path) -> None:
    """Its members come from as many parts as possible."""
    images = [f"i{number:03}" for number in range(300)]
    a = dict.fromkeys(images, "big")
    b = {each: "most" if number >= 20 else f"part-{number}" for number, each in enumerate(images)}
    found = compared(tmp_path, singles(**a), singles(**b))
    (split,) = found.lost
    assert (split.images, split.part_count, len(split.parts), len(split.members)) == (300, 21, MOST_PARTS, MOST_MEMBERS)
    assert split.parts[0] == ("most", 280)
    assert len({member.b for member in split.members}) == MOST_MEMBERS
    assert found.gained == []


def test_examples_name_the_heads_of_both_sides(tmp_path: Path) -> None:
    found = compared(tmp_path, singles(x="x", y="x"), singles(x="x", y="y", z="z"))
    (split,) = found.lost
    assert split.cluster == "x"
    assert sorted(split.members) == sorted([ComparedMember("x", "x", "x"), ComparedMember("y", "x", "y")])
    assert compared(tmp_path, singles(x="x", y="x"), singles(x="x", y="y"), examples=0).lost == []


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    sides = [ListedClustering(name, singles(x="x", y="x", z="z", w="w")) for name in ("old", "new")]
    compare_clusterings(sides[0], sides[1], tmp_path, 1, on_progress=lambda *each: told.append(each))
    assert [each for each in told if each[0] == "a"] == [("a", 3, 4), ("a", 4, 4)]
    steps = [each for each in told if each[0] == "compare"]
    assert [done for _, done, _ in steps] == list(range(len(steps)))
    assert steps[-1][1] == steps[-1][2]
