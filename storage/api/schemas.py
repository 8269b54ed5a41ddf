"""What the HTTP API sends: wire models, apart from the records of the store."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from core.types import ImageId
from storage.records import ClusterRecord, ImageRecord, Page, StoreState
from storage.scores import shortest

__all__ = [
    "ClusterOut",
    "Health",
    "ImageOut",
    "MembersOut",
    "PositionOut",
    "Problem",
    "SimilarOut",
    "StatsOut",
    "VersionsOut",
    "iso",
]

LAST_MS = 253_402_300_799_999
"""The end of the year 9999: no calendar goes further."""


def iso(time_ms: int) -> str:
    """Milliseconds since the epoch as ISO 8601 in UTC, bounded to the years 1970 to 9999."""
    seconds, milliseconds = divmod(min(max(time_ms, 0), LAST_MS), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class Problem(_Out):
    """Why there is no answer."""

    error: str = Field(description="A fixed word for programs.", examples=["unknown-image"])
    message: str = Field(description="A sentence for people.")


class VersionsOut(_Out):
    """What a verdict was made with."""

    model: str
    index: str


class ImageOut(_Out):
    """The last verdict on an image."""

    image_id: str
    head: str = Field(description="The canonical image of its cluster; itself when it was never seen before.")
    score: float | None = Field(description="Of the match that decided; null without one.")
    matched: str | None = Field(description="The image that it matched, or, when adopted, that made it move.")
    cause: str = Field(description="founded, matched, adopted, kept or unscored.")
    place: int = Field(description="The offset of this version's first record in the order.")
    decided_at: str = Field(description="ISO 8601, UTC.")
    version: int
    versions: VersionsOut
    truncated: bool = Field(description="The search reached the bound on its work: younger images were left out.")

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
            versions=VersionsOut(model=image.versions.model, index=image.versions.index),
            truncated=image.truncated,
        )


class ClusterOut(_Out):
    """A cluster."""

    head: str
    count: int = Field(description="Members, the head included.")
    created_at: str = Field(description="ISO 8601, UTC.")

    @staticmethod
    def of(cluster: ClusterRecord) -> ClusterOut:
        """From the store's record."""
        return ClusterOut(head=cluster.head, count=cluster.count, created_at=iso(cluster.founded_at_ms))


class MembersOut(_Out):
    """A page of a cluster: the head first, then in the order in which they came in."""

    members: list[str]
    next_page_token: str | None = Field(description="For the page after this one; null: this is the last.")

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
    next_page_token: str | None = Field(description="For the page after this one; null: this is the last.")


class PositionOut(_Out):
    """How far the order is applied."""

    log_id: str
    offset: int = Field(description="-1: nothing was applied yet.")
    checksum: int


class StatsOut(_Out):
    """Counts and positions of the store."""

    images: int
    clusters: int
    duplicates: int = Field(description="Records ignored because their version was placed before.")
    superseded: int = Field(description="Records ignored because a higher version was placed before.")
    history_number: int = Field(description="Of the last change of heads.")
    published: int = Field(description="The last change that is out on Kafka.")
    revision: int
    position: PositionOut

    @staticmethod
    def of(state: StoreState, published: int) -> StatsOut:
        """From the store's state."""
        at = state.position
        return StatsOut(
            images=state.images,
            clusters=state.clusters,
            duplicates=state.duplicates,
            superseded=state.superseded,
            history_number=state.history_number,
            published=published,
            revision=state.revision,
            position=PositionOut(log_id=at.log_id, offset=at.offset, checksum=at.checksum),
        )


class Health(_Out):
    """Whether it lives, or serves."""

    status: str
