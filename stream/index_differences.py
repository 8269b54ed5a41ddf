"""What is wrong with one image, by what storage and the index say of it. Pure.

storage             index               what is told
an image            nothing             the index does not have it
an image            a delete            the index deleted it
an image            another one         both versions and places
a scored image      hidden              no search finds it
an unscored image   found               every search finds it
an image            another score code  distances are wrong
a tombstone         an image            the index has what storage deleted
a tombstone         nothing             the index would take old versions of it
a tombstone         another delete      both versions and places
nothing             an image            searches find what storage does not know
nothing             a delete            the index would refuse old versions of it
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from core.pseudonyms import is_pseudonym
from core.types import ImageId, Lookup, Tombstone
from search.serving import search_pb2 as pb
from storage.selecting import SelectedImage

__all__ = ["Difference", "Remedy", "of_delete", "of_image", "of_listed"]


class Remedy(StrEnum):
    """What to do about a difference."""

    BUILD = "build the index anew with `neardup index build --from storage`"
    DELETE = f"{BUILD}; then delete them with `neardup delete` if they should be gone"
    SEND = f"send them again in a higher version if storage should know them; then {BUILD}"


class Difference(NamedTuple):
    """What is wrong with an image."""

    text: str
    remedy: Remedy = Remedy.BUILD


def of_image(stored: SelectedImage, placed: pb.StoredImage | None) -> Difference | None:
    """What is wrong with an image that storage has.

    Args:
        stored: With its embeddings.
        placed: What the index has of its latest version; None: nothing.
    """
    image = stored.image
    has = f"storage has version {image.version} at place {image.place}"
    if placed is None:
        return None if image.unscored else Difference("the index does not have it")
    if placed.deleted:
        return Difference(f"{_deleted(placed)}, {has}", Remedy.DELETE)
    if image.unscored and placed.hidden and placed.image_version == image.version:
        return None  # a replay may have placed it anew, in vain
    if (placed.image_version, placed.place) != (image.version, image.place):
        return Difference(f"{_has(placed)}, {has}")
    if image.unscored:
        return Difference("it was not scored, and the index finds it") if placed.score_code else None
    if placed.hidden:
        return Difference("the index hides it")
    code = b"" if stored.embedding is None else stored.embedding.score_code
    return None if placed.score_code == code else Difference("its score code in the index is another one")


def of_delete(tombstone: Tombstone, placed: pb.StoredImage | None) -> Difference | None:
    """What is wrong with an image that storage has deleted.

    Args:
        tombstone: What storage keeps of it.
        placed: What the index has of its latest version, or at the tombstone's position; None: nothing.
    """
    if placed is None:
        return Difference(f"the index does not know that {_storage_deleted(tombstone)}")
    if not placed.deleted:
        return Difference(f"{_has(placed)}, {_storage_deleted(tombstone)}")
    if (placed.image_version, placed.place) == (tombstone.version, tombstone.position):
        return None
    return Difference(f"{_deleted(placed)}, {_storage_deleted(tombstone)}")


def of_listed(listed: pb.StoredImage, storage: Lookup) -> Difference | None:
    """What is wrong with what the index holds at a place.

    An image that was forgotten and erased has another pseudonym in each store, unless the index was built from storage.
    So a delete of one that storage does not know cannot be told from one that it knows.

    Args:
        listed: An image version that searches find, or a delete that stands.
        storage: What storage says of the image. It need not have come to the place yet.
    """
    image_id = ImageId(listed.image_id)
    membership, tombstone = storage.memberships.get(image_id), storage.tombstones.get(image_id)
    if listed.place > storage.position.offset:
        return None
    if membership is not None:
        has = f"storage has version {membership.version} at place {membership.place}"
        if listed.deleted:
            return Difference(f"{_deleted(listed)}, {has}", Remedy.DELETE)
        same = (listed.image_version, listed.place) == (membership.version, membership.place)
        return None if same else Difference(f"{_has(listed)}, {has}")
    if tombstone is not None:
        return of_delete(tombstone, listed)
    if listed.deleted:
        unknown = Difference(f"{_deleted(listed)}, storage does not know it", Remedy.DELETE)
        return None if is_pseudonym(image_id) else unknown
    return Difference(f"{_has(listed)}, storage does not know it", Remedy.SEND)


def _has(placed: pb.StoredImage) -> str:
    return f"the index has version {placed.image_version} at place {placed.place}"


def _deleted(placed: pb.StoredImage) -> str:
    return f"the index deleted version {placed.image_version} at place {placed.place}"


def _storage_deleted(tombstone: Tombstone) -> str:
    return f"storage deleted version {tombstone.version} at position {tombstone.position}"
