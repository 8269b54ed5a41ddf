"""Deletes and replays through the sequence, with the real index and the real storage server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from core.overrides import JOB_KINDS
from core.protos.joined_pb2 import JoinedDelete, JoinedImage, JoinedRecord, JoinedReplay, Origin
from core.types import Cause, ImageId, RequestSource
from operators.search import LogEpoch
from search.serving.client import SearchClient
from search.serving.search_pb2 import StoredImage
from storage.verify import verify
from tests.search.serving.search_setup import image, server_settings
from tests.support.fake_servers import FakeScorer
from tests.support.town import Town, record


@pytest.fixture
def towns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Town]]:
    """Two towns with a scorer that both call."""
    scorer = FakeScorer()
    for module in ("score", "assign"):
        monkeypatch.setattr(f"operators.{module}.open_scorer", lambda address: scorer)
    made = [Town(tmp_path / name, scorer) for name in ("first", "second")]
    yield made
    for town in made:
        town.stop()
        for step in town.steps:
            step.function.close()


@pytest.fixture
def town(towns: list[Town]) -> Town:
    towns[0].start()
    return towns[0]


def deletes(image_id: str, version: int | None = None, *, forget: bool = False) -> bytes:
    delete = JoinedDelete(
        image_id=image_id, image_version=version, author="me", reason="takedown", requested_at_ms=7, forget=forget
    )
    return JoinedRecord(delete=delete).SerializeToString()


def replays(image_id: str, request: int, carried: JoinedImage | None = None, **fields: bool) -> bytes:
    origin = Origin(topic_id="replay-topic", partition=0, offset=request, request_id="request")
    replay = JoinedReplay(origin=origin, image_id=image_id, requested_at_ms=7, image=carried, **fields)
    return JoinedRecord(replay=replay).SerializeToString()


def run(town: Town, records: list[bytes], start: int = 0) -> None:
    for offset, payload in enumerate(records, start):
        town.send(offset, payload)
    town.run_until(lambda: town.position() == start + len(records) - 1)


def heads(town: Town) -> dict[str, tuple[str, int, int]]:
    """Head, version and place of each image; the store is sound."""
    with town.store.snapshot() as view:
        *_, verified = verify(view)
        assert verified.problems == ()
        return {each.image_id: (each.head, each.version, each.place) for each in view.images()}


def indexed(town: Town, ids: list[str]) -> dict[str, StoredImage]:
    with closing(SearchClient(town.address(0).address, 5.0, 1 << 20)) as search:
        return {each.image_id: each for each in search.get(ids).images}


def in_sight(town: Town, ids: list[str]) -> dict[str, tuple[int, int]]:
    """Version and place of what a search finds."""
    return {name: (each.image_version, each.place) for name, each in indexed(town, ids).items() if not each.hidden}


def test_the_job_says_what_it_knows_before_the_first_record(town: Town) -> None:
    town.submit(LogEpoch("log-1"))
    for step in town.steps:
        step.advance(0)
    assert town.store.state().kinds == frozenset(JOB_KINDS)


def test_a_delete_takes_effect_from_its_position_on(town: Town) -> None:
    """`a` is deleted and still names the cluster of `b`, which `c` joins; its second version comes back as the head."""
    records = [record("a", 1), record("b", 1), deletes("a"), record("c", 1), record("a", 1), record("a", 1, version=2)]
    run(town, records[:5])
    assert heads(town) == {"b": ("a", 1, 1), "c": ("a", 1, 3)}
    cluster = town.store.cluster(ImageId("a"))
    assert cluster is not None
    assert (cluster.count, cluster.head_deleted) == (2, True)
    assert in_sight(town, ["a", "b", "c"]) == {"b": (1, 1), "c": (1, 3)}
    town.send(5, records[5])
    town.run_until(lambda: town.position() == 5)
    assert heads(town)["a"] == ("a", 2, 5)
    last = town.store.history(0, 9)[-1]
    assert (last.image_id, last.cause) == ("a", Cause.KEPT)


def test_a_forgotten_head_passes_its_name_on_and_stays_away(town: Town) -> None:
    """`a` is forgotten: `b` is the head, which `d` joins behind it; `a` returns in vain, and is in neither server."""
    records = [record("a", 1), record("b", 1), record("c", 1), deletes("a", 2**53 - 1, forget=True), record("d", 1)]
    run(town, [*records, record("a", 1, version=9), record("e", 1)])
    assert heads(town) == {"b": ("b", 1, 1), "c": ("b", 1, 2), "d": ("b", 1, 4), "e": ("b", 1, 6)}
    assert [(each.image_id, each.cause) for each in town.store.history(3, 9)] == [
        ("a", Cause.DELETED),
        ("b", Cause.RENAMED),
        ("c", Cause.RENAMED),
        ("d", Cause.MATCHED),
        ("e", Cause.MATCHED),
    ]
    assert town.store.state().superseded == 1
    assert in_sight(town, ["a", "b"]) == {"b": (1, 1)}
    assert indexed(town, ["a"])["a"].deleted


def test_an_image_its_replay_and_its_delete_meet_in_one_batch(town: Town) -> None:
    records = [record("a", 1), record("b", 1), replays("b", 0, force=True), deletes("b"), replays("b", 1, force=True)]
    run(town, records)
    assert heads(town) == {"a": ("a", 1, 0)}
    assert [(each.image_id, each.cause) for each in town.store.history(0, 9)] == [
        ("a", Cause.FOUNDED),
        ("b", Cause.MATCHED),
        ("b", Cause.MATCHED),
        ("b", Cause.DELETED),
    ]
    assert town.store.state().requests == {RequestSource("replay-topic", 0): 1}


def test_an_image_that_could_not_be_scored_is_replayed(town: Town) -> None:
    bad = image("bad", 1, near=0.2)
    town.scorer.breaks_on = {_code(bad)}
    run(town, [record("a", 1), _record(bad)])
    assert heads(town)["bad"] == ("bad", 1, 1)
    assert in_sight(town, ["a", "bad"]) == {"a": (1, 0)}
    run(town, [replays("bad", 0, bad)], start=2)
    assert heads(town)["bad"] == ("bad", 1, 2)
    assert in_sight(town, ["a", "bad"]) == {"a": (1, 0)}
    town.scorer.breaks_on = set()
    run(town, [replays("bad", 1, bad), record("late", 1)], start=3)
    assert heads(town) == {"a": ("a", 1, 0), "bad": ("a", 1, 3), "late": ("a", 1, 4)}
    assert in_sight(town, ["a", "bad"]) == {"a": (1, 0), "bad": (1, 3)}


def test_a_replay_by_the_model_that_decided_changes_nothing(town: Town) -> None:
    run(town, [record("a", 1), record("b", 1), replays("b", 0), replays("b", 0), replays("nobody", 1)])
    state = town.store.state()
    assert (state.history_number, state.replayed, state.duplicates) == (2, 2, 1)
    town.scorer.model_version = "model-2"
    run(town, [replays("b", 2, dry_run=True), replays("b", 3)], start=5)
    assert [each.versions.model for each in town.store.history(0, 9)] == ["model-1", "model-1", "model-2"]
    assert heads(town)["b"] == ("a", 1, 1)


def busy_order(seed: int, length: int = 60) -> list[bytes]:
    """Images of a few families, again and again, in new versions; deletes; replays, most of which carry the image."""
    dice = random.Random(seed)
    newest: dict[str, JoinedImage] = {}
    records: list[bytes] = []
    for at in range(length):
        name = f"image-{dice.randrange(10)}"
        match dice.choice(["image"] * 6 + ["delete"] + ["replay"] * 3):
            case "delete":
                records.append(deletes(name, dice.choice([None, None, 1, 2])))
            case "replay":
                carried = newest.get(name) if dice.random() < 0.8 else None
                records.append(replays(name, dice.choice([at, at // 2]), carried, force=dice.random() < 0.4))
            case _:
                made = image(name, dice.randrange(3), near=dice.choice([0.0, 0.1, 0.3]), version=dice.randrange(1, 5))
                records.append(_record(made))
                if name not in newest or newest[name].image_version < made.image_version:
                    newest[name] = made
    return records


@pytest.mark.parametrize("seed", range(6))
def test_restarts_and_new_submissions_change_no_head(towns: list[Town], seed: int) -> None:
    """The second town is stopped and its job submitted anew, so that records are sent again."""
    records, dice = busy_order(seed), random.Random(seed)
    for town in towns:
        town.start()
    run(towns[0], records)
    town, offset = towns[1], 0
    while offset < len(records):
        town.send(offset, records[offset])
        offset += 1
        if dice.random() < 0.04:
            town.stop()
            town.start()
        if dice.random() < 0.06:
            town.submit(LogEpoch("log-1"))
            offset = dice.randrange(town.position() + 1) if town.position() >= 0 else 0
    town.run_until(lambda: town.position() == len(records) - 1)
    assert heads(towns[1]) == heads(towns[0])
    with towns[0].store.snapshot() as one, town.store.snapshot() as other:
        assert list(one.tombstones()) == list(other.tombstones())
        assert one.state().requests == other.state().requests
    ids = [f"image-{number}" for number in range(10)]
    for each in towns:
        assert in_sight(each, ids) == {name: (version, place) for name, (_, version, place) in heads(each).items()}


@pytest.mark.parametrize("seed", range(6))
def test_what_a_search_finds_is_what_storage_holds_as_scored(
    town: Town, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some images can never be scored, some only later; replays meet both, and the job is submitted anew."""
    monkeypatch.setattr("operators.commit_reporter.EVERY_S", 0.0)
    records, dice = busy_order(seed), random.Random(seed)
    images = [each for payload in records if (each := JoinedRecord.FromString(payload)).WhichOneof("body") == "image"]
    bad = {_code(each.image) for each in dice.sample(images, 8)}
    offset = 0
    while offset < len(records):
        town.scorer.breaks_on = bad if dice.random() < 0.7 else set()
        town.send(offset, records[offset])
        offset += 1
        for _ in range(dice.choice([0, 0, 10, 30])):
            town.advance()
        if dice.random() < 0.06:
            town.submit(LogEpoch("log-1"))
            offset = dice.randrange(town.position() + 1) if town.position() >= 0 else 0
    town.scorer.breaks_on = set()
    run(town, [record(f"after-{number}", 9) for number in range(3)], start=len(records))
    names = [f"image-{number}" for number in range(10)]
    with town.store.snapshot() as view:
        found = [view.image(ImageId(name)) for name in names]
        assert Cause.UNSCORED in {entry.cause for entry in view.history_from(0)}
    scored = {each.image_id: each.version for each in found if each is not None and not each.unscored}
    assert {name: version for name, (version, _) in in_sight(town, names).items()} == scored
    assert heads(town)


def _record(made: JoinedImage) -> bytes:
    made.arrived_at_ms = 1_700_000_000_000
    return JoinedRecord(image=made).SerializeToString(deterministic=True)


CODES = server_settings(Path()).code.build()


def _code(made: JoinedImage) -> bytes:
    """The score code that the index gives an image."""
    score, search = (np.frombuffer(each, "<f2").astype("<f4") for each in (made.score_vector, made.search_vector))
    return CODES.codes(score[None], search[None])[0].tobytes()
