"""Replays, trials, deletes and explanations on the real servers, in one order without Flink.

A trial says what a replay decides.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from core.access import Right
from core.delete_requests import DeleteRequest, delete_record
from core.known_verdicts import KnownVerdict
from core.replay_requests import Lane, ReplayRequest
from core.traces import parse_trace
from core.types import Cause, ImageId
from neardup.errors import NotFoundError
from operators.admit import ReplayLane, replay_record
from stream.replay.choice import ReplaySelection
from stream.replay.differences import DiffReport
from stream.replay.service import ReplayService
from stream.replay.trial_service import TrialService
from tests.support.sequence import joined, run_sequence, servers
from tests.support.stack import Stack, sample_rows

pytestmark = [pytest.mark.cluster]

LOG = "topic-of-joined"
UNSCORED = 7
"""The position of an image that is written without scores."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The three servers with a hundred images of the sample, one of them unscored."""
    with servers(tmp_path_factory.mktemp("replays")) as stack:
        rows = sample_rows(100)
        run_sequence([joined(row) for row in rows], LOG, stack, 32, unscored={UNSCORED: UNSCORED})
        yield stack


def position(stack: Stack) -> int:
    with stack.storage() as storage:
        return int(storage.describe().offset)


def tried(stack: Stack, *ids: ImageId) -> DiffReport:
    """What a trial says, and that it left out nothing."""
    report = DiffReport()
    with (
        ReplayService(stack.settings, stack.signal_name, Right.READ) as service,
        TrialService(stack.settings, stack.signal_name, service.storage, "") as trial,
    ):
        for page in service.images(ReplaySelection(ids), lambda done, total: None):
            trial.add(page, report)
    assert sum(report.counts.values()) == len(ids)
    return report


def verdict(stack: Stack, image_id: ImageId) -> KnownVerdict:
    with stack.storage() as storage:
        [found] = storage.named([image_id])
    return KnownVerdict.of(found.image)


def replayed(stack: Stack, image_id: ImageId, offset: int) -> KnownVerdict:
    """The verdict after a replay by force, which admit and the three steps pass on."""
    signal = stack.signal
    lane = ReplayLane(Lane.BULK, "replay", "topic-of-replays", signal.search_embedding, signal.score_embedding)
    with stack.storage() as storage:
        [known] = storage.named([image_id], vectors=True)
    record = replay_record(ReplayRequest("r", image_id, force=True, bulk=True), lane, offset, known)
    run_sequence([record], LOG, stack, 1, base=position(stack) + 1)
    return verdict(stack, image_id)


def test_every_image_is_explained_and_nothing_is_written(stack: Stack) -> None:
    """As if it came in a new version now, it gets the head that it has, or a better one; nothing changes."""
    rows = sample_rows(100)
    before = stack.heads([row.image_id for row in rows])
    with stack.storage() as storage:
        position = storage.describe().offset
    members = [image for image, head in before.items() if image != head][:5]
    founders = [image for image, head in before.items() if image == head][:5]
    with stack.api() as api:
        for image_id in (*members, *founders):
            answer = api.explain(image_id)
            verdict = parse_trace(json.dumps(answer["at_place"]["verdict"]).encode())
            assert answer["recorded"]["head"] == before[image_id]
            assert verdict.choice is not None
            assert verdict.terms is not None
            assert verdict.terms.count == stack.signal.terms.groups
            assert verdict.versions.model == answer["recorded"]["versions"]["model"]
            assert answer["now"]["verdict"]["kind"] == "question"
            losses = [one.lost for one in verdict.candidates]
            assert losses.count(None) == (1 if verdict.choice.matched else 0)
    with stack.storage() as storage:
        assert storage.describe().offset == position
    assert stack.heads(list(before)) == before


def test_two_images_are_put_beside_each_other(stack: Stack) -> None:
    heads = stack.heads([row.image_id for row in sample_rows(100)])
    image, head = next((image, head) for image, head in heads.items() if image != head)
    stranger = next(each for each in heads.values() if each != head)
    with stack.api() as api:
        near, far = api.explain(image, head)["against"], api.explain(image, stranger)["against"]
        assert near["same_head"]
        assert near["shared_terms"] >= near["needed_terms"]
        assert 0 <= near["distance_bits"] < far["distance_bits"] <= near["code_bits"]
        assert not far["would_join"]
        assert far["apart"]
        with pytest.raises(NotFoundError):
            api.explain(image, "nobody-knows-it")


def test_an_image_that_was_not_scored_is_asked_for_all_the_same(stack: Stack) -> None:
    with stack.api() as api:
        answer = api.explain(sample_rows(100)[UNSCORED].image_id)
    assert answer["recorded"]["cause"] == "unscored"
    assert answer["now"]["verdict"]["cause"] in ("founded", "matched")
    assert answer["at_place"]["verdict"]["unscored"] is None


def test_a_trial_says_what_a_replay_decides_and_a_repeated_request_changes_nothing(stack: Stack) -> None:
    rows = sample_rows(100)
    chosen = [ImageId(rows[at].image_id) for at in (UNSCORED, 0, 1, 50, 98, 99)]
    assert verdict(stack, chosen[0]).cause is Cause.UNSCORED
    for offset, image_id in enumerate(chosen):
        before, report = verdict(stack, image_id), tried(stack, image_id)
        expected = report.changed[0].new if report.changed else before
        assert replayed(stack, image_id, offset) == expected
    assert verdict(stack, chosen[0]).cause is not Cause.UNSCORED
    with stack.storage() as storage:
        [applied] = storage.describe().requests
        assert (applied.topic_id, applied.partition, applied.offset) == ("topic-of-replays", 1, len(chosen) - 1)
        history = storage.describe().history_number
    assert replayed(stack, chosen[1], 1) == verdict(stack, chosen[1])
    with stack.storage() as storage:
        assert storage.describe().history_number == history
    assert stack.problems() == []


def test_a_deleted_image_is_gone_for_trials_and_its_mates_stay(stack: Stack) -> None:
    with stack.storage() as storage:
        clusters: dict[ImageId, list[ImageId]] = {}
        for row in sample_rows(100):
            [found] = storage.named([ImageId(row.image_id)])
            clusters.setdefault(found.image.head, []).append(found.image.image_id)
    head, members = max(clusters.items(), key=lambda item: len(item[1]))
    leaf = next(each for each in members if each != head)
    request = DeleteRequest(leaf, "d", None, int(time.time() * 1000), "ann", "takedown")
    run_sequence([delete_record(request)], LOG, stack, 1, base=position(stack) + 1)
    with stack.storage() as storage:
        assert storage.named([leaf]) == []
        assert storage.look_up([leaf]).tombstones[leaf].position == position(stack)
    report = tried(stack, *(each for each in members if each != leaf))
    news = [each.new for each in report.changed if each.new is not None]
    assert leaf not in {each for new in news for each in (new.head, new.matched)}
    assert stack.problems() == []
