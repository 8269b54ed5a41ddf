"""The order of the faults in the long fault test, and its manifests. Its run is `make chaos`."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.faults import CALM_FAULTS, FAULTS
from benchmarks.chaos.loading import VICTIMS, begins_with, old_images, planned_kills
from benchmarks.chaos.manifests import DELTAS, OldImages, write_manifest
from benchmarks.chaos.replaying import decided_once
from benchmarks.chaos.requests import Asking
from benchmarks.chaos.storm import DISK_LOST, TRACED_ON, rounds
from core.errors import BadInputError
from core.manifest_rows import RowResult
from core.protos.joined_pb2 import JoinedRecord, JoinedReplay, Origin
from manifests.checking import check_manifest
from manifests.folder import open_folder, read_manifest
from stream.bootstrap.signal import load_signal, value_checks
from tests.support.stack import eventually, sample_rows, stack_settings


@pytest.mark.parametrize("count", [1, 7, 30, 300, 500])
def test_there_are_as_many_faults_as_were_asked_for(count: int) -> None:
    plan = list(rounds(count, 15, random.Random(1)))
    assert sum(len(each.faults) + (each.calm_fault is not None) for each in plan) == count
    assert max(len(each.faults) for each in plan) <= 15


def test_a_whole_run_has_every_kind_in_its_proportion() -> None:
    struck: Counter[str] = Counter()
    for each in rounds(300, 15, random.Random(1)):
        struck.update(each.faults)
        if each.calm_fault is not None:
            struck[each.calm_fault] += 1
    weights = {name: weight for name, (weight, _) in {**FAULTS, **CALM_FAULTS}.items()}
    assert struck.keys() == weights.keys()
    for name, times in struck.items():
        assert abs(times - weights[name] * 300 / sum(weights.values())) <= 1


def test_one_kind_alone_can_be_asked_for() -> None:
    plan = list(rounds(6, 2, random.Random(1), ["power"]))
    assert [each.faults for each in plan] == [("power", "power")] * 3
    calm = list(rounds(3, 15, random.Random(1), ["renewed-log"]))
    assert [(each.faults, each.calm_fault) for each in calm] == [((), "renewed-log")] * 3


def test_the_same_seed_gives_the_same_order() -> None:
    assert list(rounds(50, 15, random.Random(3))) == list(rounds(50, 15, random.Random(3)))
    assert list(rounds(50, 15, random.Random(3))) != list(rounds(50, 15, random.Random(4)))


def test_faults_that_lose_traces_are_told_from_others_by_their_names() -> None:
    assert FAULTS.keys() > TRACED_ON
    assert FAULTS.keys() > DISK_LOST
    assert not TRACED_ON & DISK_LOST


def test_requests_are_made_until_they_are_stopped_and_none_while_they_are_held() -> None:
    made: list[int] = []
    asking = Asking("test", {lambda: made.append(len(made)): 1.0}, _Impatient(1))
    asking.start()
    eventually(lambda: len(made) > 2 or None, 60, lambda: f"{len(made)} requests")
    with asking.held():
        before = len(made)
        assert asking.made == before
    asking.stop()
    assert asking.made == len(made) >= before


def test_a_request_that_fails_for_good_is_told_to_whoever_waits() -> None:
    def fail() -> None:
        raise BadInputError("no such image")

    asking = Asking("test", {fail: 1.0}, _Impatient(1))
    asking.start()
    with pytest.raises(AssertionError, match="failed for too long") as told:
        eventually(lambda: _held(asking), 60, lambda: "nothing was asked")
    assert isinstance(told.value.__cause__, BadInputError)


def _held(asking: Asking) -> None:
    with asking.held():
        return


class _Impatient(random.Random):
    def expovariate(self, lambd: float = 1.0) -> float:
        return 0.0


def _replay(image_id: str, offset: int, request: str = "r") -> bytes:
    origin = Origin(topic_id="t", partition=1, offset=offset, request_id=request)
    return JoinedRecord(replay=JoinedReplay(origin=origin, image_id=image_id, force=True)).SerializeToString()


def _change(image_id: str, offset: int) -> dict[str, Any]:
    return {"image_id": image_id, "offset": offset}


ORDER = [_replay("a", 0), _replay("b", 1), _replay("b", 1), _replay("other", 2, "s"), _replay("gone", 3)]
"""The second request came twice, as after a restart."""


def test_a_request_that_came_twice_is_decided_once() -> None:
    changes = [_change("a", 0), _change("adopted", 0), _change("b", 1)]
    assert decided_once(ORDER, changes, "r", ["a", "b", "gone"], {"gone"}) == 2


@pytest.mark.parametrize(
    ("changes", "replayed", "message"),
    [
        ([_change("a", 0), _change("b", 1), _change("b", 2)], ["a", "b"], "decided more than once"),
        ([_change("adopted", 0), _change("b", 1)], ["a", "b"], "not decided, such as .*'a'"),
        ([_change("a", 0), _change("b", 2)], ["a", "b", "c"], "not asked for, such as c"),
    ],
)
def test_what_was_decided_twice_or_never_is_named(
    changes: list[dict[str, Any]], replayed: list[str], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        decided_once(ORDER, changes, "r", replayed, {"gone"})


@pytest.mark.parametrize("kills", [1, 10])
def test_each_part_that_a_load_needs_is_killed_as_often_as_was_asked_for(kills: int) -> None:
    in_load, in_deltas = planned_kills(kills, random.Random(1))
    assert Counter(kill.part for kill in (*in_load, *in_deltas)) == dict.fromkeys(VICTIMS, kills)
    for each in (in_load, in_deltas):
        assert [kill.at for kill in each] == sorted(kill.at for kill in each)
    assert bool(in_load) == (kills > 1)


@pytest.fixture(scope="module")
def old() -> OldImages:
    return old_images(random.Random(1))


def test_manifests_are_sound_and_rows_contradict_what_is_there(old: OldImages, tmp_path: Path) -> None:
    settings = stack_settings(tmp_path / "data")
    signal, checks, folder = load_signal(settings), value_checks(settings), open_folder(str(tmp_path))
    began = begins_with(old, settings, tmp_path)
    assert began.request is not None
    manifest = read_manifest(folder, began.request.manifest)
    assert (manifest.id, manifest.rows) == (began.request.manifest_id, began.rows)
    found = check_manifest(folder, "first.json", signal, checks, tmp_path)
    assert (found.faults.count, found.images) == (0, len(began.heads))
    assert found.superseded

    deltas = old.deltas([replace(row, image_id=f"live-{row.image_id}") for row in sample_rows(3 * DELTAS)])
    assert {row.result for delta in deltas for row in delta.rows} == set(RowResult) - {
        RowResult.STAYS_HEAD,
        RowResult.UNSCORED,
    }
    for number, delta in enumerate(deltas):
        before, manifest = manifest, write_manifest(tmp_path, f"{number}", delta.rows, signal, manifest)
        assert (manifest.previous, manifest.rows) == (before.id, len(delta.rows))
        found = check_manifest(folder, f"{number}.json", signal, checks, tmp_path)
        assert found.faults.listed == []
        named = {row.image.image_id: row for row in delta.rows}
        assert {named[each].result for each in delta.pins} == {RowResult.ELSEWHERE_PINNED}
        assert {named[each].head for each in delta.forbids} <= set(delta.forbids.values())
    assert {row.head for row in deltas[-1].rows} & set(old.lone)


def test_the_same_seed_gives_the_same_rows(old: OldImages) -> None:
    again = old_images(random.Random(1))
    assert again.snapshot == old.snapshot
    assert old_images(random.Random(2)).snapshot != old.snapshot
