"""The answers of the HTTP API as records.

Each is made with `from_json` from a JSON object. Unknown keys are ignored, so a newer service does an older client no
harm. A key that is missing raises KeyError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neardup.records import known_values
from neardup.rollbacks import RollbackInfo

__all__ = [
    "ClusterChange",
    "ClusterHistoryPage",
    "ClusterInfo",
    "HeadChange",
    "HistoryPage",
    "ImageInfo",
    "ListedOverride",
    "MembersPage",
    "OverrideInfo",
    "OverrideMove",
    "OverrideResult",
    "OverridesPage",
    "PastHead",
    "PastMembers",
    "SimilarPage",
    "StorePosition",
    "StoreStats",
    "VerdictVersions",
]


@dataclass(frozen=True, slots=True)
class VerdictVersions:
    """What a verdict was made with."""

    model: str
    index: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> VerdictVersions:
        """Reads `{"model": ..., "index": ...}`."""
        return cls(**known_values(cls, data))


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The last verdict on an image."""

    image_id: str
    head: str
    """The image that names the cluster: the image itself where nothing before it matched."""
    score: float | None
    """Of the match that decided, from 0 to 1; None without one."""
    matched: str | None
    """The image that it matched, or, when adopted, that made it move."""
    cause: str
    """founded, matched, adopted, kept, unscored, pinned, parted, renamed or bootstrapped."""
    place: int
    """Position of this version's first record in the order."""
    decided_at: str
    """ISO 8601, UTC."""
    version: int
    versions: VerdictVersions
    truncated: bool
    """The search reached the bound on its work: younger images were no candidates."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageInfo:
        """Reads the answer of `/v1/images/{image_id}`."""
        return cls(**known_values(cls, data, versions=VerdictVersions.from_json))


@dataclass(frozen=True, slots=True)
class HeadChange:
    """One change of an image's head."""

    history_number: int
    """As `assignments` has it."""
    offset: int
    """The position of the record that caused it."""
    version: int
    place: int
    head: str
    """The new head; empty if the image was deleted."""
    old_head: str | None
    """The head before; None for a new image."""
    cause: str
    """founded, matched, adopted, kept, unscored, deleted, pinned, parted, renamed, bootstrapped or forgotten."""
    score: float | None
    matched: str | None
    decided_at: str
    """ISO 8601, UTC."""
    versions: VerdictVersions
    truncated: bool
    override: int | None = None
    """The number of the override that made it; None: a record of the order did."""
    trigger: str = ""
    """What made it: stream, manifest, override or rollback. Empty: the service is of an earlier release."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> HeadChange:
        """Reads one of `changes` of the answer of `/v1/images/{image_id}/history`."""
        return cls(**known_values(cls, {"override": None, "trigger": "", **data}, versions=VerdictVersions.from_json))


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of the changes of one image's head, oldest first."""

    image_id: str
    changes: tuple[HeadChange, ...]
    next_page_token: str | None
    """For the page after this one; None: this is the last."""
    history_first: int = 1
    """The number of the first change of heads that is kept, of all images."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> HistoryPage:
        """Reads the answer of `/v1/images/{image_id}/history`."""
        known = {"history_first": 1, **data}
        return cls(**known_values(cls, known, changes=lambda found: tuple(map(HeadChange.from_json, found))))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterChange(HeadChange):
    """One change by which an image joined or left a cluster."""

    image_id: str
    """It joined if `head` is that of the cluster, and left if `old_head` is."""


@dataclass(frozen=True, slots=True)
class ClusterHistoryPage:
    """A page of the changes by which images joined or left a cluster, the newest first."""

    head: str
    changes: tuple[ClusterChange, ...]
    """May be empty on a page that is not the last."""
    looked_from: int
    """The number of the oldest change of all heads that was looked at: those of the cluster from here on are told."""
    next_page_token: str | None
    """For the page after this one; None: nothing older is kept, or it came before the time that was asked for."""
    history_first: int
    """The number of the first change of heads that is kept."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClusterHistoryPage:
        """Reads the answer of `/v1/clusters/{head}/history`."""
        return cls(**known_values(cls, data, changes=lambda found: tuple(map(ClusterChange.from_json, found))))


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """A cluster."""

    head: str
    count: int
    """Members, the head included, unless it was deleted."""
    created_at: str
    """ISO 8601, UTC."""
    head_deleted: bool = False
    """The head was deleted. It still names the cluster, and is no member."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClusterInfo:
        """Reads the answer of `/v1/clusters/{head}`."""
        return cls(**known_values(cls, {"head_deleted": False, **data}))


@dataclass(frozen=True, slots=True)
class MembersPage:
    """A page of a cluster, in the order in which they joined it: the head first, unless it was deleted once."""

    members: tuple[str, ...]
    next_page_token: str | None
    """For the page after this one; None: this is the last."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MembersPage:
        """Reads the answer of `/v1/clusters/{head}/members`."""
        return cls(**known_values(cls, data, members=tuple))


@dataclass(frozen=True, slots=True)
class SimilarPage:
    """A page of the cluster that an image is in."""

    image_id: str
    head: str
    count: int
    """Members of the whole cluster, the head and the image included."""
    members: tuple[str, ...]
    next_page_token: str | None
    """For the page after this one; None: this is the last."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SimilarPage:
        """Reads the answer of `/v1/images/{image_id}/similar`."""
        return cls(**known_values(cls, data, members=tuple))


@dataclass(frozen=True, slots=True)
class PastHead:
    """The head of an image as it was."""

    image_id: str
    time: str
    """The time that was asked for: ISO 8601, UTC."""
    history_number: int
    """Of the last change of heads that was written by then; 0: none."""
    head: str | None
    """None: it was unknown then, still waited, or was deleted."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PastHead:
        """Reads the answer of `/v1/at/{time}/images/{image_id}`."""
        return cls(**known_values(cls, data))


@dataclass(frozen=True, slots=True)
class PastMembers:
    """The members of a cluster as they were, or a page of them."""

    head: str
    time: str
    """The time that was asked for: ISO 8601, UTC."""
    history_number: int
    """Of the last change of heads that was written by then; 0: none."""
    count: int
    """Members of the whole cluster; 0: no image had this head then."""
    members: tuple[str, ...]
    """In the order in which they had joined."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PastMembers:
        """Reads the answer of `/v1/at/{time}/clusters/{head}/members`."""
        return cls(**known_values(cls, data, members=tuple))


@dataclass(frozen=True, slots=True)
class StorePosition:
    """How far the order is applied."""

    log_id: str
    offset: int
    """The position of the last record applied; -1: none."""
    checksum: int
    base: int
    """The position of the topic's offset 0."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StorePosition:
        """Reads `position` of the answer of `/v1/stats`."""
        return cls(**known_values(cls, data))


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Counts and positions of the store."""

    images: int
    clusters: int
    duplicates: int
    """Records ignored because their version was placed before."""
    superseded: int
    """Records ignored because a higher version was placed before."""
    history_number: int
    """Of the last change of heads."""
    published: int
    """The last change that is out on Kafka."""
    revision: int
    position: StorePosition
    deleted: int = 0
    """Images deleted, those that came back included."""
    replayed: int = 0
    """Replays applied."""
    history_first: int = 1
    """Of the first change of heads that is kept."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StoreStats:
        """Reads the answer of `/v1/stats`."""
        return cls(
            **known_values(
                cls, {"deleted": 0, "replayed": 0, "history_first": 1, **data}, position=StorePosition.from_json
            )
        )


@dataclass(frozen=True, slots=True)
class OverrideInfo:
    """What somebody has said about images."""

    number: int
    kind: str
    """pin, forbid, split, merge, rollback or undo."""
    images: tuple[str, ...]
    """Of a split, the one that names the new cluster comes first. Of a merge, the heads of the clusters that went."""
    target: str | None
    """None for a rollback and an undo."""
    undoes: int | None
    """The number of the override that an undo ended."""
    author: str
    reason: str
    at: str
    """ISO 8601, UTC."""
    applied_after: int
    """The position of the last record of the order that was applied before it; -1: none."""
    rollback: RollbackInfo | None = None
    """Of a rollback, and of the undo of one."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OverrideInfo:
        """Reads `override` of the answer of `POST /v1/overrides`."""
        return cls(**known_values(cls, {"rollback": None, **data}, images=tuple, rollback=_rollback))


@dataclass(frozen=True, slots=True)
class OverrideMove:
    """One image that an override moves."""

    image_id: str
    old_head: str
    new_head: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OverrideMove:
        """Reads one of `moves` of the answer of `POST /v1/overrides`."""
        return cls(**known_values(cls, data))


@dataclass(frozen=True, slots=True)
class OverrideResult:
    """An override, and what it moved, or would move."""

    override: OverrideInfo
    moves: tuple[OverrideMove, ...]
    """The first 1,000."""
    moved: int
    """How many images it moves in all."""
    created: bool
    """False: it was said before, or the call was a dry run. Nothing was written."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OverrideResult:
        """Reads the answer of `POST /v1/overrides`."""
        return cls(
            **known_values(
                cls,
                data,
                override=OverrideInfo.from_json,
                moves=lambda found: tuple(map(OverrideMove.from_json, found)),
            )
        )


@dataclass(frozen=True, slots=True)
class ListedOverride:
    """What somebody has said, and how it stands."""

    override: OverrideInfo
    undone_by: int | None
    """The number of the undo that ended it; None: it stands."""
    waits: bool
    """The store is built again from the order, and has not reached `applied_after` yet."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ListedOverride:
        """Reads the answer of `/v1/overrides/{number}`."""
        return cls(OverrideInfo.from_json(data), data["undone_by"], data["waits"])


@dataclass(frozen=True, slots=True)
class OverridesPage:
    """A page of overrides, by number."""

    overrides: tuple[ListedOverride, ...]
    next_after: int | None
    """The `after` of the next page; None: this is the last."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OverridesPage:
        """Reads the answer of `/v1/overrides`."""
        return cls(**known_values(cls, data, overrides=lambda found: tuple(map(ListedOverride.from_json, found))))


def _rollback(data: Mapping[str, Any] | None) -> RollbackInfo | None:
    return None if data is None else RollbackInfo.from_json(data)
