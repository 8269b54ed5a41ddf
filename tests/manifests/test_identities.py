"""Ids, versions and heads of many rows, beside an oracle that holds them all in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests.identities import MAX_LISTED, Checked, Fault, Identities, Problem

Row = tuple[str, int, str | None]
"""Image, version and head."""


def checked(folder: Path, rows: Sequence[Row], at_once: int = 3, bucket_rows: int = 4) -> Checked:
    with Identities(folder, len(rows), bucket_rows) as identities:
        for first in range(0, len(rows), at_once):
            some = rows[first : first + at_once]
            versions = np.array([version for _, version, _ in some])
            identities.add(first, [image for image, _, _ in some], versions, [head for _, _, head in some])
        return identities.check()


def expected(rows: Sequence[Row]) -> tuple[int, int, list[int], list[Problem]]:
    """Images, clusters, superseded rows and problems, row by row."""
    firsts: dict[str, int] = {}
    lasts: dict[str, int] = {}
    superseded, problems = [], []
    for number, (image, version, _) in enumerate(rows):
        firsts.setdefault(image, number)
        if image in lasts:
            superseded.append(lasts[image])
            before = rows[lasts[image]][1]
            if version <= before:
                fault = Fault.SAME_VERSION if version == before else Fault.LOWER_VERSION
                problems.append(Problem(number, fault, lasts[image]))
        lasts[image] = number
    own = {image for image, last in lasts.items() if rows[last][2] == image}
    for last in lasts.values():
        head = rows[last][2]
        if head is None:
            problems.append(Problem(last, Fault.NO_HEAD))
        elif head not in lasts:
            problems.append(Problem(last, Fault.UNKNOWN_HEAD))
        elif head not in own:
            problems.append(Problem(last, Fault.NOT_A_HEAD, lasts[head]))
        elif firsts[head] > last:
            problems.append(Problem(last, Fault.LATE_HEAD, firsts[head]))
    return len(lasts), len(own), sorted(superseded), problems


IDS = st.sampled_from([f"image-{number}" for number in range(8)])
ROWS = st.lists(st.tuples(IDS, st.integers(0, 4), IDS | st.none()), max_size=40)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, at_once=st.integers(1, 20), bucket_rows=st.integers(1, 50))
def test_it_finds_what_the_oracle_finds(tmp_path: Path, rows: list[Row], at_once: int, bucket_rows: int) -> None:
    found = checked(tmp_path, rows, at_once, bucket_rows)
    images, clusters, superseded, problems = expected(rows)
    assert (found.images, found.clusters, found.superseded.tolist()) == (images, clusters, superseded)
    assert set(found.problems) == set(problems)
    assert found.problem_count == len(problems)
    assert [each.row for each in found.problems] == sorted(each.row for each in problems)
    assert list(tmp_path.iterdir()) == []


SOUND: list[Row] = [("a", 1, "a"), ("b", 1, None), ("c", 1, "a"), ("b", 2, "b"), ("a", 3, "a"), ("d", 1, "b")]


def test_sound_rows(tmp_path: Path) -> None:
    found = checked(tmp_path, SOUND)
    assert (found.images, found.clusters, found.superseded.tolist(), found.problem_count) == (4, 2, [0, 1], 0)


@pytest.mark.parametrize(
    ("row", "changed", "problem"),
    [
        (4, ("a", 1, "a"), Problem(4, Fault.SAME_VERSION, 0)),
        (4, ("a", 0, "a"), Problem(4, Fault.LOWER_VERSION, 0)),
        (5, ("d", 1, None), Problem(5, Fault.NO_HEAD)),
        (5, ("d", 1, "x"), Problem(5, Fault.UNKNOWN_HEAD)),
        (5, ("d", 1, "c"), Problem(5, Fault.NOT_A_HEAD, 2)),
        (2, ("c", 1, "d"), Problem(2, Fault.NOT_A_HEAD, 5)),
        (0, ("d", 0, None), Problem(2, Fault.LATE_HEAD, 4)),
    ],
)
def test_each_fault(tmp_path: Path, row: int, changed: Row, problem: Problem) -> None:
    rows = [*SOUND[:row], changed, *SOUND[row + 1 :]]
    assert list(checked(tmp_path, rows).problems) == [problem]


def test_very_many_problems_are_counted(tmp_path: Path) -> None:
    rows: list[Row] = [(f"image-{number}", 1, "nobody") for number in range(3 * MAX_LISTED)]
    found = checked(tmp_path, rows, at_once=500, bucket_rows=100)
    assert found.problem_count == 3 * MAX_LISTED
    assert [each.row for each in found.problems] == list(range(MAX_LISTED))


def test_nothing(tmp_path: Path) -> None:
    assert checked(tmp_path, []).images == 0
