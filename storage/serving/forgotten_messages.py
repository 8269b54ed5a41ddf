"""Conversion of what is known of forgotten images to the messages of `storage.proto`, and back."""

from __future__ import annotations

from collections.abc import Sequence

from core.types import ImageId
from storage.forgotten import ErasureCounts, ForgottenImage
from storage.serving import storage_pb2 as pb

__all__ = ["forgotten_message", "forgotten_of"]


def forgotten_message(images: Sequence[ForgottenImage], counts: ErasureCounts) -> pb.ForgottenResponse:
    """Forgotten images as a message."""
    return pb.ForgottenResponse(
        images=[
            pb.ForgottenImage(
                image_id=each.image_id,
                pseudonym=each.pseudonym,
                position=each.position,
                forgotten_at_ms=each.forgotten_at_ms,
                erased_at_ms=each.erased_at_ms,
                refused=each.refused,
                returned=each.returned,
                overrides=each.overrides,
            )
            for each in images
        ],
        erased=counts.erased,
        waiting=counts.waiting,
        oldest_ms=counts.oldest_ms,
    )


def forgotten_of(message: pb.ForgottenResponse) -> tuple[list[ForgottenImage], ErasureCounts]:
    """Forgotten images from their message."""
    images = [
        ForgottenImage(
            ImageId(each.image_id),
            ImageId(each.pseudonym),
            each.position,
            each.forgotten_at_ms,
            each.erased_at_ms,
            each.refused,
            each.returned,
            tuple(each.overrides),
        )
        for each in message.images
    ]
    return images, ErasureCounts(message.erased, message.waiting, message.oldest_ms)
