"""The JSON that the HTTP API sends. `docs/openapi.json` is made from it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from core.scores import shortest
from core.types import ImageId, LogPosition, Versions
from storage.limits import MAX_NAMED
from storage.records import ClusterRecord, Heads, HistoryEntry, ImageRecord, Page, StoreState

__all__ = [
    "ClusterOut",
    "DeleteOut",
    "DeletedProblem",
    "HeadChangeOut",
    "Health",
    "HistoryOut",
    "ImageOut",
    "LookupIn",
    "LookupOut",
    "MembersOut",
    "MovedProblem",
    "OtherSignalProblem",
    "Problem",
    "SimilarOut",
    "StatsOut",
    "iso",
]

LAST_MS = 253_402_300_799_999
"""The end of the year 9999, the last that `datetime` knows."""


def iso(time_ms: int) -> str:
    """Milliseconds since the epoch as ISO 8601 in UTC, clamped to the years 1970 to 9999."""
    seconds, milliseconds = divmod(min(max(time_ms, 0), LAST_MS), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class Problem(_Out):
    """Why there is no answer, in the form of RFC 9457."""

    type: str = Field(description="The kind of the problem, as a URI.", examples=["urn:neardup:problem:unknown-image"])
    title: str = Field(description="What the status means.", examples=["Not Found"])
    status: int = Field(description="The status of the answer.", examples=[404])
    error: str = Field(description="The kind as a fixed word for programs.", examples=["unknown-image"])
    detail: str = Field(description="A sentence for humans.")


class DeletedProblem(Problem):
    """The image was deleted."""

    deleted_at: str = Field(description="When the delete was asked for: ISO 8601, UTC.")


class MovedProblem(Problem):
    """What was listed is now in another cluster."""

    head: str = Field(description="Of the cluster to list now, from its first page on.")


class OtherSignalProblem(Problem):
    """What was asked for, such as the page of a token, is of another signal."""

    signal: str = Field(description="The signal that would answer.")


class ImageOut(_Out):
    """The last verdict on an image."""

    image_id: str
    head: str = Field(description="The image that names its cluster; the image itself when it was never seen before.")
    score: float | None = Field(description="The score of the match that decided; null without one.")
    matched: str | None = Field(description="The image that it matched; of an adopted image the one that made it move.")
    cause: str = Field(
        description="founded, matched, adopted, kept, unscored, pinned, parted, renamed or bootstrapped."
    )
    place: int = Field(description="The offset of the first record of this version in the order.")
    decided_at: str = Field(description="ISO 8601, UTC.")
    version: int
    versions: Versions = Field(description="The versions of the model and the index that decided.")
    truncated: bool = Field(description="The search reached max_postings, so younger images may be missing.")

    @staticmethod
    def of(image: ImageRecord) -> ImageOut:
        """From the store's record."""
        return ImageOut(
            image_id=image.image_id,
            head=image.head,
            score=None if image.score is None else shortest(image.score),
            matched=image.matched,
            cause=image.cause.value,
            place=image.place,
            decided_at=iso(image.decided_at_ms),
            version=image.version,
            versions=image.versions,
            truncated=image.truncated,
        )


class HeadChangeOut(_Out):
    """One change of the head of an image, as `assignments` published it."""

    history_number: int
    offset: int = Field(description="The position of the record of the order that caused it.")
    version: int
    place: int
    head: str = Field(description="The new head; empty if the image was deleted.")
    old_head: str | None = Field(description="The head before; null for a new image.")
    cause: str = Field(
        description="founded, matched, adopted, kept, unscored, deleted, pinned, parted, renamed, bootstrapped or "
        "forgotten."
    )
    score: float | None
    matched: str | None
    decided_at: str = Field(description="ISO 8601, UTC.")
    versions: Versions
    truncated: bool
    override: int | None = Field(description="The number of the override that made it; null: a record of the order.")
    trigger: str = Field(description="What made it: stream, manifest, override or rollback, which is an override too.")

    @staticmethod
    def of(entry: HistoryEntry) -> HeadChangeOut:
        """From the store's history."""
        return HeadChangeOut(
            history_number=entry.number,
            offset=entry.offset,
            version=entry.version,
            place=entry.place,
            head=entry.new_head,
            old_head=entry.old_head,
            cause=entry.cause.value,
            score=None if entry.score is None else shortest(entry.score),
            matched=entry.matched,
            decided_at=iso(entry.decided_at_ms),
            versions=entry.versions,
            truncated=entry.truncated,
            override=entry.reference or None,
            trigger=entry.trigger.value,
        )


class HistoryOut(_Out):
    """A page of the changes of one image's head, oldest first."""

    image_id: str
    changes: list[HeadChangeOut]
    next_page_token: str | None = Field(description="The token of the next page; null on the last.")
    history_first: int = Field(description="The number of the first change of heads that is kept, of all images.")

    @staticmethod
    def of(image_id: ImageId, page: Page[HistoryEntry], history_first: int) -> HistoryOut:
        """From the store's page, and the number of the first entry that is kept."""
        return HistoryOut(
            image_id=image_id,
            changes=[HeadChangeOut.of(each) for each in page.items],
            next_page_token=page.next_token,
            history_first=history_first,
        )


class ClusterOut(_Out):
    """A cluster."""

    head: str
    count: int = Field(description="Members, the head included, unless it was deleted.")
    created_at: str = Field(description="ISO 8601, UTC.")
    head_deleted: bool = Field(description="The head was deleted. It still names the cluster, and is no member.")

    @staticmethod
    def of(cluster: ClusterRecord) -> ClusterOut:
        """From the store's record."""
        return ClusterOut(
            head=cluster.head,
            count=cluster.count,
            created_at=iso(cluster.founded_at_ms),
            head_deleted=cluster.head_deleted,
        )


class LookupIn(BaseModel):
    """Which images are asked for."""

    model_config = ConfigDict(extra="forbid")

    image_ids: list[str] = Field(min_length=1, max_length=MAX_NAMED, description="Their ids; one may come twice.")


class DeletedOut(_Out):
    """An image that was deleted."""

    image_id: str
    deleted_at: str = Field(description="When the delete was asked for: ISO 8601, UTC.")


class LookupOut(_Out):
    """The heads of some images, all of one moment."""

    heads: dict[str, str] = Field(description="The head of each image that has one, by image id.")
    deleted: list[DeletedOut]
    unknown: list[str] = Field(description="Images that are unknown, or still wait for their verdict.")
    offset: int = Field(description="The position of the last record of the order that was applied.")
    revision: int = Field(description="Changes with every write that is not the stream's.")

    @staticmethod
    def of(asked: Iterable[ImageId], found: Heads) -> LookupOut:
        """From the store's answer."""
        return LookupOut(
            heads=dict(found.heads.items()),
            deleted=[
                DeletedOut(image_id=each.image_id, deleted_at=iso(each.deleted_at_ms))
                for each in found.tombstones.values()
            ],
            unknown=[each for each in asked if each not in found.heads and each not in found.tombstones],
            offset=found.position.offset,
            revision=found.revision,
        )


class MembersOut(_Out):
    """A page of the members of a cluster, in the order in which they joined: the head first, unless it came back."""

    members: list[str]
    next_page_token: str | None = Field(description="The token of the next page; null on the last.")

    @staticmethod
    def of(page: Page[ImageId]) -> MembersOut:
        """From the store's page."""
        return MembersOut(members=list(page.items), next_page_token=page.next_token)


class SimilarOut(_Out):
    """A page of the cluster that an image is in."""

    image_id: str
    head: str
    count: int = Field(description="Members of the whole cluster, the head and the image included.")
    members: list[str]
    next_page_token: str | None = Field(description="The token of the next page; null on the last.")


class DeleteOut(_Out):
    """A delete that was written into the order."""

    image_id: str
    request: str = Field(description="Names the request.")
    position: int = Field(description="Once the store has applied the order up to here, the image is deleted.")


class StatsOut(_Out):
    """Counts and positions of the store."""

    images: int
    clusters: int
    duplicates: int = Field(description="Records ignored because their version was placed before.")
    superseded: int = Field(
        description="Records ignored because a higher version was placed, or this one was deleted, before."
    )
    deleted: int = Field(description="Images deleted, those that came back included.")
    replayed: int = Field(description="Replays applied.")
    history_number: int = Field(description="The number of the last change of a head.")
    history_first: int = Field(description="The number of the first change that is kept.")
    published: int = Field(description="The number of the last change that was published to Kafka.")
    revision: int = Field(description="Changes with every write that is not the stream's.")
    position: LogPosition = Field(description="The last record of the order that was applied; offset -1: none.")

    @staticmethod
    def of(state: StoreState, published: int) -> StatsOut:
        """From the store's state."""
        return StatsOut(
            images=state.images,
            clusters=state.clusters,
            duplicates=state.duplicates,
            superseded=state.superseded,
            deleted=state.deleted,
            replayed=state.replayed,
            history_number=state.history_number,
            history_first=state.history_first,
            published=published,
            revision=state.revision,
            position=state.position,
        )


class Health(_Out):
    """Whether the process lives, or the store answers."""

    status: str
