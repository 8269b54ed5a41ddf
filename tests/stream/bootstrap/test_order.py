"""The order of rows and the heads of images, beside an oracle that holds all rows in memory."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import UnavailableError
from stream.bootstrap.order import Order

Row = tuple[str, int, int, str | None]
"""Image, version, time (0: not known), and head or cluster."""

Planned = list[list[tuple[int, str | None]]]
"""By layer: rows with their heads."""


def planned(
    spool: Path, rows: Sequence[Row], *, clusters: bool = False, heads_elsewhere: bool = False
) -> tuple[list[tuple[int, str]], Planned]:
    """The problems, and if there are none the layers."""
    with Order(spool, clusters=clusters, heads_elsewhere=heads_elsewhere) as order:
        for first in range(0, len(rows), 3):
            some = list(zip(*rows[first : first + 3], strict=True))
            order.add(first, *map(list, some))
        problems = [(row, text.format(other=other)) for row, text, other in order.problems()]
        layers = [] if problems else [list(order.layer(number)) for number in range(order.plan())]
    assert list(spool.iterdir()) == []
    return problems, layers


def lasts(rows: Sequence[Row]) -> dict[str, int]:
    """The row of each image's highest version."""
    return {rows[row][0]: row for row in sorted(range(len(rows)), key=lambda row: rows[row][1])}


def firsts(rows: Sequence[Row]) -> dict[str, int]:
    """The row of each image's lowest version."""
    return {rows[row][0]: row for row in sorted(range(len(rows)), key=lambda row: -rows[row][1])}


def named_heads(rows: Sequence[Row]) -> dict[str, str | None]:
    return {image: rows[row][3] for image, row in lasts(rows).items()}


def heads_of_clusters(rows: Sequence[Row]) -> dict[str, str | None]:
    """The oldest member of each cluster."""
    first, heads = firsts(rows), {}
    for image, row in lasts(rows).items():
        label = rows[row][3]
        members = [other for other, at in lasts(rows).items() if label is not None and rows[at][3] == label] or [image]
        heads[image] = min(members, key=lambda each: (not rows[first[each]][2], rows[first[each]][2], first[each]))
    return dict(heads)


def problem_rows(rows: Sequence[Row], heads_elsewhere: bool) -> set[int]:
    heads, last = named_heads(rows), lasts(rows)
    wrong = {row for image, row in last.items() if heads[image] is None}
    for image, row in last.items():
        head = heads[image]
        if head in last and heads[head] != head:
            wrong.add(row)
        if head is not None and head not in last and not heads_elsewhere:
            wrong.add(row)
    seen: set[tuple[str, int]] = set()
    for row, (image, version, _, _) in enumerate(rows):
        if (image, version) in seen:
            wrong.add(row)
        seen.add((image, version))
    return wrong


def written_head(rows: Sequence[Row], heads: dict[str, str | None], row: int) -> str | None:
    """The head that is written with a row: of an earlier version, only if it is a head and was in the same cluster."""
    image, _, _, label = rows[row]
    last = lasts(rows)[image]
    founded = heads[image] == image and label is not None and label == rows[last][3]
    return heads[image] if last == row or founded else None


def check_order(rows: Sequence[Row], heads: dict[str, str | None], layers: Planned) -> None:
    """Every row once, versions rise, heads precede members, and no row waits without a reason."""
    found = [row for layer in layers for row, _ in layer]
    assert sorted(found) == list(range(len(rows)))
    assert all(layer and layer == sorted(layer) for layer in layers)
    last, place = lasts(rows), {row: at for at, row in enumerate(found)}
    for layer in layers:
        for row, head in layer:
            assert head == written_head(rows, heads, row)
    by_version = sorted(range(len(rows)), key=lambda row: rows[row][1])
    for image, row in last.items():
        places = [place[each] for each in by_version if rows[each][0] == image]
        assert places == sorted(places)
        head = heads[image]
        if head in last:
            assert place[firsts(rows)[str(head)]] <= place[row]


ROWS = st.lists(
    st.tuples(
        st.sampled_from([f"image-{number}" for number in range(6)]),
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from([f"image-{number}" for number in range(3)]) | st.none(),
    ),
    max_size=14,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, heads_elsewhere=st.booleans())
def test_rows_with_heads(tmp_path: Path, rows: list[Row], heads_elsewhere: bool) -> None:
    problems, layers = planned(tmp_path, rows, heads_elsewhere=heads_elsewhere)
    assert {row for row, _ in problems} == problem_rows(rows, heads_elsewhere)
    if not problems:
        check_order(rows, named_heads(rows), layers)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_rows_with_sound_heads(tmp_path: Path, rows: list[Row]) -> None:
    """As above, but heads are mended first: most drawn rows have a problem."""
    once = list({row[:2]: row for row in rows}.values())
    own = {image for image, head in named_heads(once).items() if head == image}
    mended = [(*row[:3], row[3] if row[3] in own else row[0]) for row in once]
    problems, layers = planned(tmp_path, mended)
    if {row for row, _ in problems} == problem_rows(mended, False) == set():
        check_order(mended, named_heads(mended), layers)
    assert {row for row, _ in problems} == problem_rows(mended, False)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_rows_with_clusters(tmp_path: Path, rows: list[Row]) -> None:
    once = list({row[:2]: row for row in rows}.values())
    problems, layers = planned(tmp_path, once, clusters=True)
    assert problems == []
    check_order(once, heads_of_clusters(once), layers)


def test_rows_in_a_good_order_stay(tmp_path: Path) -> None:
    rows: list[Row] = [("a", 1, 0, "a"), ("b", 1, 0, "a"), ("c", 1, 0, "c"), ("b", 2, 0, "c"), ("a", 3, 0, "a")]
    assert planned(tmp_path, rows) == ([], [[(0, "a"), (1, None), (2, "c"), (3, "c"), (4, "a")]])


def test_members_that_come_first_wait_for_one_layer(tmp_path: Path) -> None:
    rows: list[Row] = [("b", 1, 0, "a"), ("c", 1, 0, "c"), ("a", 1, 0, "a"), ("d", 1, 0, "a")]
    assert planned(tmp_path, rows) == ([], [[(1, "c"), (2, "a"), (3, "a")], [(0, "a")]])


def test_falling_versions_are_turned_around(tmp_path: Path) -> None:
    rows: list[Row] = [("a", 3, 0, "a"), ("a", 2, 0, "x"), ("a", 1, 0, None)]
    assert planned(tmp_path, rows) == ([], [[(2, None)], [(1, None)], [(0, "a")]])


@pytest.mark.parametrize(
    ("rows", "problems"),
    [
        ([("a", 1, 0, "a"), ("a", 1, 5, "a")], [(1, "has the same image and version as row 0")]),
        ([("a", 1, 0, "a"), ("b", 1, 5, None)], [(1, "names no head")]),
        ([("a", 1, 0, "x")], [(0, "names the head 'x', which has no row")]),
        (
            [("a", 1, 0, "a"), ("b", 1, 0, "a"), ("c", 1, 0, "b")],
            [(2, "names the head 'b', which is in another cluster by row 1")],
        ),
    ],
)
def test_each_problem(tmp_path: Path, rows: list[Row], problems: list[tuple[int, str]]) -> None:
    assert planned(tmp_path, rows)[0] == problems


def test_the_oldest_of_a_cluster_is_its_head(tmp_path: Path) -> None:
    rows: list[Row] = [("a", 1, 0, "x"), ("b", 1, 7, "x"), ("c", 1, 5, "x"), ("d", 1, 5, "x"), ("e", 1, 1, None)]
    assert planned(tmp_path, rows, clusters=True) == (
        [],
        [[(2, "c"), (3, "c"), (4, "e")], [(0, "c"), (1, "c")]],
    )


def test_ids_may_hold_anything(tmp_path: Path) -> None:
    ids = ["", "\0", "a\0b", "it's", "ü", "\U0001f600", "A", "a", "%", " "]
    rows: list[Row] = [(each, 1, 0, each) for each in ids]
    assert planned(tmp_path, rows) == ([], [list(enumerate(ids))])


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with Order(tmp_path) as order:
        order._database.execute("PRAGMA max_page_count = 10")
        with pytest.raises(UnavailableError, match=r"cannot be sorted in .*full"):
            order.add(0, [str(number) for number in range(10_000)], [1] * 10_000, [0] * 10_000, ["x"] * 10_000)


def test_sorting_can_be_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python runs the handlers of signals only between its own steps, and sorting is one step."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def sort(order: Order) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        try:
            list(order.problems())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    monkeypatch.setattr("stream.bootstrap.order._LOOK_STEPS", 1000)
    count, before = 50_000, signal.signal(signal.SIGALRM, interrupt)
    try:
        with Order(tmp_path) as order:
            ids = [str(number) for number in range(count)]
            order.add(0, ids, [1] * count, [0] * count, ids)
            with pytest.raises(KeyboardInterrupt):
                sort(order)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert list(tmp_path.iterdir()) == []
