"""Requests to delete or to forget images, as records of the order. Whoever deletes writes them there at once."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import BadInputError
from core.notifications import LATEST_TIME_MS, MAX_IMAGE_VERSION, MAX_WORDS_BYTES
from core.protos.joined_pb2 import JoinedDelete, JoinedRecord, Origin
from core.types import ImageId

__all__ = ["DELETE_KIND", "FORGET_KIND", "DeleteRequest", "delete_record"]

DELETE_KIND = "delete"
"""The kind of these records, as `JoinedRecord` names it."""

FORGET_KIND = "forget"
"""What a job must know too, once an image was forgotten: an older one would delete it and keep what mentions it."""


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """One image that is to be deleted.

    Raises:
        BadInputError: A text is too long or has no UTF-8 form, or a number is out of range.
    """

    image_id: ImageId
    request: str
    """Names the request that it belongs to, with all its other images."""
    version: int | None = None
    """Versions up to this one go; None: the one that was placed last."""
    requested_at_ms: int = 0
    """Milliseconds since the epoch."""
    author: str = ""
    reason: str = ""
    forget: bool = False
    """Nothing of the image may remain. With the highest version, the image is refused for ever."""

    def __post_init__(self) -> None:
        for name in ("request", "author", "reason"):
            try:
                length = len(getattr(self, name).encode())
            except UnicodeEncodeError:
                raise BadInputError(f"the {name} has no UTF-8 form") from None
            if length > MAX_WORDS_BYTES:
                raise BadInputError(f"the {name} has {length} bytes, the limit is {MAX_WORDS_BYTES}")
        if self.version is not None and not 0 <= self.version <= MAX_IMAGE_VERSION:
            raise BadInputError(f"an image version is 0 to {MAX_IMAGE_VERSION}, not {self.version}")
        if self.forget and self.version not in (None, MAX_IMAGE_VERSION):
            raise BadInputError("an image is forgotten with all its versions: name none")
        if not 0 <= self.requested_at_ms <= LATEST_TIME_MS:
            raise BadInputError(f"requested_at_ms is 0 to {LATEST_TIME_MS}, not {self.requested_at_ms}")


def delete_record(request: DeleteRequest) -> bytes:
    """The record of the order; equal requests give equal bytes."""
    delete = JoinedDelete(
        origin=Origin(request_id=request.request),
        image_id=request.image_id,
        image_version=request.version,
        requested_at_ms=request.requested_at_ms,
        author=request.author,
        reason=request.reason,
        forget=request.forget,
    )
    return JoinedRecord(delete=delete).SerializeToString(deterministic=True)
