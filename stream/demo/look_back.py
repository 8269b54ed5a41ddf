"""The last stages of the demo: one verdict is explained, and ten images are decided again, with what that changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.access import Right
from core.types import Cause, ImageId
from neardup.client import ApiClient
from stream.demo.report import ChangedVerdict, DemoReplay
from stream.replay.choice import ReplaySelection
from stream.replay.differences import Change, Difference
from stream.replay.service import ReplayService
from stream.requests import new_request, replay_of
from stream.settings import Settings

__all__ = ["REPLAYED", "decide_again", "explained_verdict", "replayed_images"]

REPLAYED = 10
"""Images that are decided again."""


def explained_verdict(clusters: Mapping[str, Sequence[str]], api: ApiClient) -> dict[str, Any] | None:
    """A trace of the verdict on one image that a match brought into a cluster, as of its place; None: there is none.

    Args:
        clusters: Members by head, the largest first.
        api: Of the signal.
    """
    for members in clusters.values():
        for image_id in sorted(members, reverse=True):
            if api.image(image_id).cause == Cause.MATCHED:
                asked: dict[str, Any] = api.explain(image_id)["at_place"]
                verdict: dict[str, Any] | None = asked["verdict"]
                return verdict
    return None


def replayed_images(clusters: Mapping[str, Sequence[str]]) -> list[ImageId]:
    """The images that are decided again: members of the largest clusters, their heads left out."""
    members = [ImageId(each) for head, found in clusters.items() for each in sorted(found) if each != head]
    return members[:REPLAYED]


def decide_again(settings: Settings, name: str, images: Sequence[ImageId]) -> DemoReplay:
    """Has images decided again through the order, by force, and compares the verdicts.

    Raises:
        UnavailableError: A part does not answer.
        MismatchError: The job does not know replays.
    """
    wanted = replay_of(new_request("demo"), force=True)
    with ReplayService(settings, name, Right.WRITE) as service:
        pages = service.images(ReplaySelection(images), lambda done, total: None)
        done = service.send(pages, wanted, resumed=False, keep_old=True, on_look=lambda progress: None)
        report = service.differences(done.old)
    counts = {change.value: report.counts[change] for change in Change if report.counts[change]}
    return DemoReplay(done.sent, counts, tuple(map(_changed, report.changed)))


def _changed(one: Difference) -> ChangedVerdict:
    new = one.new
    return ChangedVerdict(
        image_id=one.image_id,
        change=one.change.value,
        old_head=one.old.head,
        head=None if new is None else new.head,
        old_score=one.old.score,
        score=None if new is None else new.score,
    )
