"""What an override says of pairs of images: that one follows the other, or that both never share a cluster. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from core.overrides import Override, OverrideKind
from core.types import ImageId

__all__ = ["Relation", "Tie", "relations"]


class Tie(StrEnum):
    """How two images are related."""

    PIN = "pin"
    """The first belongs to the cluster of the second."""
    FORBID = "forbid"
    """They never share a cluster. The lower id comes first."""


class Relation(NamedTuple):
    """Two images, and how they are related."""

    tie: Tie
    one: ImageId
    other: ImageId


def relations(override: Override) -> Iterator[Relation]:
    """The relations of an override. A split forbids its images with the head, and pins the others to the first."""
    target = override.target
    match override.kind:
        case OverrideKind.PIN | OverrideKind.MERGE if target is not None:
            yield from (Relation(Tie.PIN, image_id, target) for image_id in override.images)
        case OverrideKind.FORBID if target is not None:
            yield from (_forbid(image_id, target) for image_id in override.images)
        case OverrideKind.SPLIT if target is not None:
            leader, *others = override.images
            yield from (_forbid(image_id, target) for image_id in override.images)
            yield from (Relation(Tie.PIN, image_id, leader) for image_id in others)


def _forbid(one: ImageId, other: ImageId) -> Relation:
    return Relation(Tie.FORBID, min(one, other), max(one, other))
