"""What a new verdict changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.known_verdicts import KnownVerdict
from core.types import Cause, ImageId, Versions
from stream.replay.differences import Change, DiffReport, compare

OLD = KnownVerdict(ImageId("h"), Cause.MATCHED, 0.9, ImageId("m"), Versions("1", "i"))

VERDICTS = st.builds(
    KnownVerdict,
    head=st.sampled_from("ab").map(ImageId),
    cause=st.sampled_from([Cause.FOUNDED, Cause.MATCHED]),
    score=st.sampled_from([None, 0.5]),
    matched=st.sampled_from([None, ImageId("m")]),
    versions=st.sampled_from([Versions("1", "i"), Versions("2", "i")]),
)


@pytest.mark.parametrize(
    ("new", "change"),
    [
        (OLD, Change.SAME),
        (None, Change.GONE),
        (replace(OLD, head=ImageId("x"), cause=Cause.FOUNDED, score=None), Change.HEAD),
        (replace(OLD, cause=Cause.ADOPTED, matched=None), Change.CAUSE),
        (replace(OLD, matched=ImageId("n"), score=0.8), Change.MATCH),
        (replace(OLD, score=0.8999999, versions=Versions("2", "i")), Change.SCORE),
        (replace(OLD, versions=Versions("2", "i")), Change.VERSIONS),
    ],
)
def test_the_most_important_difference_is_named(new: KnownVerdict | None, change: Change) -> None:
    assert compare(OLD, new) is change


@settings(deadline=None)
@given(old=VERDICTS, new=st.none() | VERDICTS)
def test_verdicts_are_the_same_if_and_only_if_nothing_differs(old: KnownVerdict, new: KnownVerdict | None) -> None:
    assert (compare(old, new) is Change.SAME) == (old == new)
    if new is not None:
        assert compare(old, new) is compare(new, old)


@settings(deadline=None)
@given(st.lists(st.tuples(VERDICTS, st.none() | VERDICTS), max_size=20))
def test_every_image_is_counted_once(pairs: list[tuple[KnownVerdict, KnownVerdict | None]]) -> None:
    report = DiffReport()
    for number, (old, new) in enumerate(pairs):
        report.add(ImageId(f"i{number}"), old, new)
    assert sum(report.counts.values()) == len(pairs)
    assert len(report.changed) == len(pairs) - report.counts[Change.SAME]
    assert all(compare(each.old, each.new) is each.change for each in report.changed)
