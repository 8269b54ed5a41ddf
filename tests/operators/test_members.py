"""Rows of a manifest through the sequence, with the real index and the real storage server."""

from __future__ import annotations

from core.dead_letters import parse_dead_letter
from core.first_loads import LoadRequest, LoadState
from core.manifest_rows import RowResult
from core.overrides import MEMBER_KIND
from core.protos.joined_pb2 import JoinedRecord
from core.types import Cause, ImageId, Trigger
from operators.search import LogEpoch
from storage.records import DeltaProgress, RowExample
from tests.operators.test_deletes_and_replays import deletes, heads, in_sight, replays, run, town, towns
from tests.search.serving.search_setup import image
from tests.support.events import MANIFEST, as_member
from tests.support.town import Town, record

__all__ = ["town", "towns"]


def progress(town: Town) -> DeltaProgress:
    told = town.store.delta(MANIFEST)
    assert told is not None
    return told


def test_rows_join_where_their_heads_are_now_and_later_images_find_them(town: Town) -> None:
    """`b` names `a`, which is a stranger to it; `d` is a copy of `b`, and `e` names `d`, which joined `a` too."""
    town.store.put_delta(DeltaProgress(LoadRequest("f", "m.json", MANIFEST, "t"), LoadState.LOADING, rows=4))
    rows = [
        as_member(record("a", 1), "a", 0, model_version="old"),
        as_member(record("b", 2), "a", 1, score=0.5, model_version="old"),
        record("c", 2, near=0.1),
        as_member(record("e", 3), "c", 2),
        as_member(record("f", 4), "nobody", 3),
    ]
    run(town, rows)
    assert {name: head for name, (head, _, _) in heads(town).items()} == {
        "a": "a",
        "b": "a",
        "c": "c",
        "e": "c",
        "f": "f",
    }
    entries = town.store.history(0, 9)
    assert [(each.image_id, each.cause, each.trigger) for each in entries] == [
        ("a", Cause.BOOTSTRAPPED, Trigger.MANIFEST),
        ("b", Cause.BOOTSTRAPPED, Trigger.MANIFEST),
        ("c", Cause.FOUNDED, Trigger.STREAM),
        ("e", Cause.BOOTSTRAPPED, Trigger.MANIFEST),
        ("f", Cause.FOUNDED, Trigger.MANIFEST),
    ]
    assert [(each.score, each.matched, each.versions.model) for each in entries[:2]] == [
        (None, None, "old"),
        (0.5, "a", "old"),
    ]
    assert in_sight(town, list("abcef")) == {name: (1, place) for place, name in enumerate("abcef")}
    told = progress(town)
    assert (told.state, told.applied) == (LoadState.LIVE, 3)
    assert told.counts == {RowResult.FOUNDED: 1, RowResult.JOINED: 2, RowResult.ELSEWHERE_HEAD_GONE: 1}
    assert told.examples == (RowExample(3, ImageId("f"), RowResult.ELSEWHERE_HEAD_GONE),)


def test_a_row_that_the_index_refuses_is_a_dead_letter_and_counted(town: Town) -> None:
    bad = JoinedRecord(image=image("bad", 1))
    bad.image.search_vector = bad.image.search_vector[:6]
    row = as_member(bad.SerializeToString(), "a", 1)
    run(town, [as_member(record("a", 1), "a", 0), row, row])
    assert heads(town)["bad"] == ("bad", 1, 1)
    [(offset, letter)] = town.dead_letters()
    told = parse_dead_letter(letter.value)
    assert (offset, letter.key, told.reason, told.payload) == (1, b"bad", "refused", row)
    assert progress(town).counts == {RowResult.FOUNDED: 1, RowResult.UNSCORED: 1}
    assert in_sight(town, ["bad"]) == {}


def test_a_row_is_deleted_and_replayed_as_any_image(town: Town) -> None:
    run(town, [record("a", 1), as_member(record("b", 2), "a", 0), replays("b", 0, force=True)])
    assert heads(town)["b"] == ("b", 1, 1)
    run(town, [deletes("b"), as_member(record("b", 2), "a", 0), as_member(record("b", 2, version=2), "a", 1)], 3)
    assert heads(town)["b"] == ("a", 2, 5)
    assert in_sight(town, ["b"]) == {"b": (2, 5)}
    assert progress(town).counts == {RowResult.JOINED: 2}
    assert progress(town).examples == ()


def test_the_job_knows_the_kind(town: Town) -> None:
    town.submit(LogEpoch("log-1"))
    for step in town.steps:
        step.advance(0)
    town.store.require_kinds([MEMBER_KIND])
    run(town, [as_member(record("a", 1), "a", 0)])
    assert heads(town) == {"a": ("a", 1, 0)}
