"""Which images were forgotten, and how far each is erased. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from core.notifications import MAX_IMAGE_VERSION
from core.types import ImageId
from storage.interfaces import ClusterStore
from storage.limits import MAX_OVERRIDES
from storage.records import ErasureState

__all__ = ["ErasureCounts", "ForgottenImage", "erasure_counts", "forgotten_images"]


@dataclass(frozen=True, slots=True)
class ForgottenImage:
    """An image that was forgotten. Times are milliseconds since the epoch."""

    image_id: ImageId
    """As it was asked for: the store may not know it any more."""
    pseudonym: ImageId
    """Its name in history."""
    position: int
    """Of the record that asked for it."""
    forgotten_at_ms: int
    erased_at_ms: int
    """When nothing was left of it in the store and in its files; 0: not yet."""
    refused: bool
    """It may not return."""
    returned: bool
    """A higher version has come since."""
    overrides: tuple[int, ...] = ()
    """The numbers of those that name it; they stay."""


@dataclass(frozen=True, slots=True)
class ErasureCounts:
    """How many images were forgotten."""

    erased: int = 0
    waiting: int = 0
    """Not erased from the store yet."""
    oldest_ms: int = 0
    """When the oldest of these was forgotten; 0: none waits."""


def forgotten_images(store: ClusterStore, ids: Iterable[ImageId]) -> list[ForgottenImage]:
    """Those of the images that were forgotten, in the order in which they are named."""
    found = []
    with store.snapshot() as view:
        names = view.pseudonyms()
        if names is None:
            return []
        for image_id in dict.fromkeys(ids):
            erasure = view.erasure(names.of(image_id))
            if erasure is None:
                continue
            tombstone = view.tombstone(image_id)
            said = store.overrides(0, MAX_OVERRIDES, image_id)
            found.append(
                ForgottenImage(
                    image_id=image_id,
                    pseudonym=erasure.pseudonym,
                    position=erasure.position,
                    forgotten_at_ms=erasure.forgotten_at_ms,
                    erased_at_ms=erasure.erased_at_ms,
                    refused=tombstone is not None and tombstone.version >= MAX_IMAGE_VERSION,
                    returned=view.image(image_id) is not None,
                    overrides=tuple(each.override.number for each in said),
                )
            )
    return found


def erasure_counts(store: ClusterStore) -> ErasureCounts:
    """How many images were forgotten, and how many of them wait to be erased."""
    with store.snapshot() as view:
        all_of_them = list(view.erasures())
    waiting = [each.forgotten_at_ms for each in all_of_them if each.state is not ErasureState.DONE]
    return ErasureCounts(len(all_of_them) - len(waiting), len(waiting), min(waiting, default=0))
