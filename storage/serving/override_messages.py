"""Conversion between overrides and the messages of `storage.proto`."""

from __future__ import annotations

from core.errors import BadInputError
from core.overrides import ListedOverride, Override, OverrideKind, OverrideMove, OverrideOutcome, OverrideRequest
from core.types import ImageId, ImageRules
from storage.limits import MAX_LISTED_MOVES, check_override
from storage.override_pages import OverridePage
from storage.serving import storage_pb2 as pb
from storage.serving.rollback_messages import (
    read_rollback_request,
    rollback_message,
    rollback_of,
    rollback_request_message,
)

__all__ = [
    "outcome_message",
    "outcome_of",
    "override_page_message",
    "override_page_of",
    "override_request_message",
    "read_override_request",
    "rules_message",
    "rules_of",
]


def override_request_message(request: OverrideRequest, *, dry_run: bool) -> pb.ApplyOverrideRequest:
    """What somebody wants to say as a message."""
    return pb.ApplyOverrideRequest(
        kind=request.kind,
        images=request.images,
        target=request.target,
        undoes=request.undoes,
        author=request.author,
        reason=request.reason,
        dry_run=dry_run,
        rollback=None if request.rollback is None else rollback_request_message(request.rollback),
    )


def read_override_request(message: pb.ApplyOverrideRequest) -> OverrideRequest:
    """What somebody wants to say from its message.

    Raises:
        BadInputError: There is no such kind, cause or way with new images, or a part is too long.
    """
    try:
        kind = OverrideKind(message.kind)
    except ValueError:
        raise BadInputError(f"there is no override {message.kind!r}: say {', '.join(OverrideKind)}") from None
    request = OverrideRequest(
        kind=kind,
        images=tuple(map(ImageId, message.images)),
        target=ImageId(message.target) if message.HasField("target") else None,
        undoes=message.undoes,
        author=message.author,
        reason=message.reason,
        rollback=read_rollback_request(message.rollback) if message.HasField("rollback") else None,
    )
    check_override(request)
    return request


def outcome_message(outcome: OverrideOutcome) -> pb.ApplyOverrideResponse:
    """What an override moved as a message, which lists the first moves alone if they are many."""
    listed = outcome.moves[:MAX_LISTED_MOVES]
    return pb.ApplyOverrideResponse(
        override=_override_message(outcome.override),
        moves=[
            pb.OverrideMove(image_id=each.image_id, old_head=each.old_head, new_head=each.new_head) for each in listed
        ],
        unlisted=outcome.unlisted + len(outcome.moves) - len(listed),
        created=outcome.created,
    )


def outcome_of(message: pb.ApplyOverrideResponse) -> OverrideOutcome:
    """What an override moved from its message."""
    moves = (
        OverrideMove(ImageId(each.image_id), ImageId(each.old_head), ImageId(each.new_head)) for each in message.moves
    )
    return OverrideOutcome(_override_of(message.override), tuple(moves), message.created, message.unlisted)


def override_page_message(page: OverridePage) -> pb.ListOverridesResponse:
    """A page of overrides as a message."""
    return pb.ListOverridesResponse(
        overrides=[
            pb.ListedOverride(override=_override_message(each.override), undone_by=each.undone_by, waits=each.waits)
            for each in page.items
        ],
        more=page.more,
    )


def override_page_of(message: pb.ListOverridesResponse) -> OverridePage:
    """A page of overrides from its message."""
    listed = (
        ListedOverride(_override_of(each.override), each.undone_by if each.HasField("undone_by") else None, each.waits)
        for each in message.overrides
    )
    return OverridePage(tuple(listed), message.more)


def rules_message(image_id: ImageId, rules: ImageRules) -> pb.ImageRules:
    """What overrides say of one image as a message."""
    return pb.ImageRules(
        image_id=image_id, pinned_to=rules.pinned_to, forbidden=rules.forbidden, followers=rules.followers
    )


def rules_of(message: pb.ImageRules) -> tuple[ImageId, ImageRules]:
    """An image, and what overrides say of it, from their message."""
    return ImageId(message.image_id), ImageRules(
        pinned_to=ImageId(message.pinned_to) if message.HasField("pinned_to") else None,
        forbidden=tuple(map(ImageId, message.forbidden)),
        followers=tuple(map(ImageId, message.followers)),
    )


def _override_message(override: Override) -> pb.Override:
    return pb.Override(
        number=override.number,
        kind=override.kind,
        images=override.images,
        target=override.target,
        undoes=override.undoes,
        author=override.author,
        reason=override.reason,
        at_ms=override.at_ms,
        applied_after=override.applied_after,
        rollback=None if override.rollback is None else rollback_message(override.rollback),
    )


def _override_of(message: pb.Override) -> Override:
    return Override(
        number=message.number,
        kind=OverrideKind(message.kind),
        images=tuple(map(ImageId, message.images)),
        target=ImageId(message.target) if message.HasField("target") else None,
        undoes=message.undoes,
        author=message.author,
        reason=message.reason,
        at_ms=message.at_ms,
        applied_after=message.applied_after,
        rollback=rollback_of(message.rollback) if message.HasField("rollback") else None,
    )
