"""Cluster quality by names: it is that of `clustering.comparison`, and does on small examples what the text says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustering.comparison import PrecisionRecall
from core.errors import BadInputError
from training.evaluation import evaluate_clusters

IMAGES = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("uvwx"), st.sampled_from(["", "", "i", "j"]), st.booleans()),
    max_size=24,
)


@given(IMAGES)
def test_names_and_order_do_not_matter(images: list[tuple[str, str, str, bool]]) -> None:
    def measured(rows: list[tuple[str, str, str, bool]], prefix: str) -> object:
        return evaluate_clusters(
            [prefix + row[0] for row in rows],
            [prefix + row[1] for row in rows],
            [row[2] and prefix + row[2] for row in rows],
            [row[3] for row in rows],
        )

    one, other = measured(images, ""), measured(images[::-1], "x")
    for name in ("pairwise", "bcubed"):
        assert getattr(one, name).precision == pytest.approx(getattr(other, name).precision)
        assert getattr(one, name).recall == pytest.approx(getattr(other, name).recall)


def test_a_perfect_clustering() -> None:
    quality = evaluate_clusters(["a", "a", "b", "c"], ["u", "u", "v", "w"])
    assert quality.pairwise == quality.bcubed == PrecisionRecall(1.0, 1.0)
    assert quality.bcubed.f1 == 1.0


def test_everyone_alone_has_no_recall_and_says_nothing_wrong() -> None:
    quality = evaluate_clusters(["a", "b", "c"], ["u", "u", "v"])
    assert quality.bcubed == PrecisionRecall(1.0, 0.0)
    assert quality.bcubed.f1 == 0.0


def test_rightly_lone_images_do_not_lift_the_score() -> None:
    wrong = (["a", "a"], ["u", "v"])
    padded = (["a", "a", *"bcdefg"], ["u", "v", *"qrstwx"])
    assert evaluate_clusters(*wrong).bcubed.precision == evaluate_clusters(*padded).bcubed.precision == 0.0


def test_a_large_cluster_rules_pairwise_but_not_bcubed() -> None:
    heads = ["big"] * 10 + ["p", "p"]
    groups = ["g"] * 10 + ["y", "z"]
    quality = evaluate_clusters(heads, groups)
    assert quality.pairwise.precision == pytest.approx(45 / 46)
    assert quality.bcubed.precision == pytest.approx(10 / 12)


def test_ignored_pairs_count_neither_way() -> None:
    together = evaluate_clusters(["a", "a", "a"], ["u", "u", "v"], ["i", "i", "i"])
    apart = evaluate_clusters(["a", "a", "b"], ["u", "u", "v"], ["i", "i", "i"])
    assert together.bcubed == apart.bcubed == PrecisionRecall(1.0, 1.0)
    assert evaluate_clusters(["a", "a", "a"], ["u", "u", "v"]).bcubed.precision < 1.0


def test_mates_that_are_not_counted_can_still_be_wrong() -> None:
    quality = evaluate_clusters(["a", "a", "a"], ["u", "u", "v"], None, [True, True, False])
    assert quality.bcubed.precision == 0.5
    assert quality.pairwise.precision == pytest.approx(1 / 3)
    assert quality.images == 2


def test_nothing_counted() -> None:
    assert evaluate_clusters([], []).bcubed == PrecisionRecall(1.0, 1.0)


def test_lengths_must_agree() -> None:
    with pytest.raises(BadInputError, match=r"\(2, 1\)"):
        evaluate_clusters(["a", "b"], ["u"])
