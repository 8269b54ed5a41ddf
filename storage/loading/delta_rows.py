"""The rows of a delta manifest as records of the order. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from core.errors import BadInputError
from core.notifications import encode_member
from core.protos.joined_pb2 import JoinedImage, JoinedMember
from manifests.rows import NumberedBatch

__all__ = ["MemberRecord", "member_records"]


class MemberRecord(NamedTuple):
    """One row, as it is written."""

    row: int
    """Its number in the manifest."""
    key: bytes
    value: bytes


def member_records(numbered: NumberedBatch, manifest_id: str, arrived_at_ms: int) -> Iterator[MemberRecord]:
    """The records of some rows; equal arguments give equal bytes.

    A row without a head has none: a later row has the image again, in a higher version.

    Args:
        numbered: The rows.
        manifest_id: Of their manifest.
        arrived_at_ms: When all of them arrived, in milliseconds since the epoch.

    Raises:
        BadInputError: A row cannot be a record; the message names it.
    """
    batch, model = numbered.batch, numbered.file.metadata.model
    rows = zip(batch.images.rows(), batch.heads, batch.scores.tolist(), batch.matched, strict=True)
    for at, (image, head, probability, matched) in enumerate(rows):
        if head is None:
            continue
        member = JoinedMember(
            image=JoinedImage(
                image_id=image.image_id,
                image_version=image.version,
                search_type=image.search.element_type,
                search_vector=image.search.data,
                score_type=image.score.element_type,
                score_vector=image.score.data,
                created_at_ms=image.created_at_ms,
                arrived_at_ms=arrived_at_ms,
            ),
            head=head,
            manifest_id=manifest_id,
            row=numbered.first + at,
            score=None if probability != probability else probability,
            matched=matched or "",
            model_version=model,
        )
        try:
            value = encode_member(member)
        except BadInputError as error:
            raise BadInputError(f"{numbered.file.path}: row {batch.images.first + at}: {error}") from None
        yield MemberRecord(member.row, image.image_id.encode(), value)
