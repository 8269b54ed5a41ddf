"""Which verdict the demo explains, and what it says of the images that it has decided again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from core.notifications import RECORD_KINDS
from core.replay_requests import Lane
from core.types import Cause, ImageId, Move
from neardup.client import ApiClient
from storage.testing.decisions import founds, joins
from stream.demo.look_back import decide_again, explained_verdict
from stream.demo.report import ChangedVerdict
from stream.settings import load_settings
from tests.support.served_store import REPLAY_ID, TOPIC_ID, ReplayLanes, served_store

A, B, C = (ImageId(name) for name in "abc")


class Broker:
    """Knows the topic of replays."""

    def __init__(self, *unused: object) -> None:
        """Connects to nothing."""

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *unused: object) -> None:
        """Nothing to close."""

    def topic_id(self, topic: str) -> str:
        return REPLAY_ID


def test_images_are_decided_again_by_force_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    with served_store() as world:
        monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__PORT", str(world.port))
        monkeypatch.setattr("stream.replay.service.Broker", Broker)
        monkeypatch.setattr("stream.replay.service.ReplayTopic", lambda *unused: ReplayLanes(world))
        world.store.apply(TOPIC_ID, [founds(0, A), joins(1, B, A), joins(2, C, A)], -1, 0, RECORD_KINDS)
        world.verdicts[B] = Move(B, A, A, Cause.MATCHED, 0.5, A)
        found = decide_again(load_settings(), "photos", [B, C])
        sent = world.requests[Lane.NAMED]
    assert [(each.image_id, each.force, each.dry_run) for each in sent] == [("b", True, False), ("c", True, False)]
    assert (found.images, sum(found.counts.values()), found.counts["same"]) == (2, 2, 1)
    [changed] = found.changed
    assert isinstance(changed, ChangedVerdict)
    assert (changed.image_id, changed.old_head, changed.head, changed.score) == ("b", "a", "a", 0.5)


def test_a_matched_image_of_the_largest_cluster_is_explained() -> None:
    causes = {"a1": "founded", "a2": "matched", "a3": "adopted", "b1": "founded"}

    def explain(image_id: str) -> dict[str, Any]:
        return {"at_place": {"verdict": {"image_id": image_id}}}

    api = SimpleNamespace(image=lambda image_id: SimpleNamespace(cause=causes[image_id]), explain=explain)
    clusters = {"b1": ["b1"], "a1": ["a1", "a2", "a3"]}
    assert explained_verdict(clusters, cast("ApiClient", api)) == {"image_id": "a2"}
    assert explained_verdict({"b1": ["b1"]}, cast("ApiClient", api)) is None
