"""The sizes that a store and its server accept. Anything larger is refused first."""

from __future__ import annotations

from core.errors import BadInputError, RefusedError
from core.manifest_rows import MANIFEST_ID
from core.overrides import MAX_FORBIDDEN, MAX_IMAGES, OverrideKind, OverrideRequest, RollbackRequest
from core.types import NO_HEAD, Cause, Decision, ImageId, Move, Outcome, Tombstone
from storage.records import DeltaProgress

__all__ = [
    "MAX_DECISIONS",
    "MAX_ID_BYTES",
    "MAX_LISTED_MOVES",
    "MAX_LOOK_UP",
    "MAX_NAMED",
    "MAX_NAMED_WITH_VECTORS",
    "MAX_OPERATIONS",
    "MAX_OVERRIDES",
    "MAX_TEXT_BYTES",
    "check_decision",
    "check_delta",
    "check_override",
    "id_bytes",
]

MAX_ID_BYTES = 256
"""Of an image id, in UTF-8."""

MAX_TEXT_BYTES = 1024
"""Of the name of a model or index version, of a log id, and of the author and the reason of a delete or an override."""

MAX_CODE_BYTES = 2048
"""Of a score code: 16,384 bits."""

MAX_VECTOR_BYTES = 65_536
"""Of one embedding: 16,384 elements of float32."""

MAX_DEAD_LETTER_BYTES = 1_048_576
"""Of a dead letter: a joined record with two of the longest vectors, in base64."""

MAX_DECISIONS = 1024
"""In one call of `Apply`."""

MAX_LOOK_UP = 8192
"""Images in one call of `LookUp`. With long ids and codes the answer still fits into the default message size."""

MAX_NAMED = 1024
"""Images in one call of `Named`, and in one message of `Select`."""

MAX_NAMED_WITH_VECTORS = 64
"""Images in one call of `Named` with their embeddings: 8 MB of the longest ones."""

MAX_OVERRIDES = 1000
"""In one answer of `ListOverrides`."""

MAX_OPERATIONS = 1000
"""In one answer of `ListOperations`."""

MAX_LISTED_MOVES = 1000
"""In one answer of `ApplyOverride`, which counts the others: a cluster that moves may have millions of members."""

MAX_U64 = 2**64 - 1
MAX_I64 = 2**63 - 1


def id_bytes(image_id: ImageId) -> bytes:
    """The UTF-8 bytes of an id.

    Raises:
        BadInputError: It is empty, longer than `MAX_ID_BYTES`, or not encodable.
    """
    try:
        encoded = image_id.encode()
    except UnicodeEncodeError:
        raise BadInputError(f"the image id {image_id[:64]!r} is not valid Unicode") from None
    if not 1 <= len(encoded) <= MAX_ID_BYTES:
        raise BadInputError(f"an image id has 1 to {MAX_ID_BYTES} bytes, this one {len(encoded)}: {image_id[:64]!r}")
    return encoded


def check_decision(decision: Decision) -> None:
    """Refuses a decision with a part that is too long or out of range.

    Raises:
        RefusedError: The message names the part; the error carries the offset.
    """
    try:
        if decision.outcome is not Outcome.UNREADABLE:
            id_bytes(decision.image_id)
        for move in decision.moves:
            _check_move(move)
        _check_range("version", decision.version, 0, MAX_U64)
        _check_range("checksum", decision.checksum, 0, 2**32 - 1)
        _check_range("place", decision.place, -MAX_I64 - 1, MAX_I64)
        for name in ("created_at_ms", "arrived_at_ms", "decided_at_ms"):
            _check_range(name, getattr(decision, name), -MAX_I64 - 1, MAX_I64)
        _check_size("model version", decision.versions.model.encode(), MAX_TEXT_BYTES)
        _check_size("index version", decision.versions.index.encode(), MAX_TEXT_BYTES)
        _check_size("score code", decision.score_code, MAX_CODE_BYTES)
        _check_size("search vector", decision.search_vector, MAX_VECTOR_BYTES)
        _check_size("score vector", decision.score_vector, MAX_VECTOR_BYTES)
        for part in decision.dead_letter or ():
            _check_size("dead letter", part, MAX_DEAD_LETTER_BYTES)
        if decision.tombstone is not None:
            _check_tombstone(decision.tombstone)
        if decision.request is not None:
            _check_size("topic id", decision.request.source.topic_id.encode(), MAX_TEXT_BYTES)
            _check_range("partition", decision.request.source.partition, 0, 2**31 - 1)
            _check_range("request", decision.request.offset, 0, MAX_I64)
        if decision.member is not None:
            _check_manifest_id(decision.member.manifest_id)
            _check_range("row", decision.member.row, 0, MAX_I64)
    except (BadInputError, UnicodeEncodeError) as error:
        raise RefusedError(f"the decision at offset {decision.offset} is malformed: {error}", decision.offset) from None


def check_delta(progress: DeltaProgress) -> None:
    """Refuses what is said of a manifest with a part that is too long.

    Raises:
        BadInputError: The message names the part.
    """
    _check_manifest_id(progress.request.manifest_id)
    for name, text in (("folder", progress.request.folder), ("manifest", progress.request.manifest)):
        _check_size(name, text.encode(), MAX_TEXT_BYTES)


def check_override(request: OverrideRequest) -> None:
    """Refuses an override with too many images, or a part that is too long.

    Raises:
        BadInputError: The message names the part.
    """
    most = MAX_FORBIDDEN if request.kind is OverrideKind.FORBID else MAX_IMAGES
    if len(request.images) > most:
        raise BadInputError(
            f"a {request.kind} names at most {most} images, not {len(request.images)}: say it in several overrides"
        )
    for image_id in request.images:
        id_bytes(image_id)
    if request.target is not None:
        id_bytes(request.target)
    _check_range("undoes", request.undoes, 0, MAX_I64)
    if request.rollback is not None:
        _check_rollback(request.rollback)
    for name in ("author", "reason"):
        try:
            _check_size(name, getattr(request, name).encode(), MAX_TEXT_BYTES)
        except UnicodeEncodeError:
            raise BadInputError(f"the {name} is not valid Unicode") from None


def _check_rollback(asked: RollbackRequest) -> None:
    for name in ("to_ms", "to_change", "since_ms"):
        _check_range(name, getattr(asked, name) or 0, 0, MAX_I64)
    if asked.where.head is not None:
        id_bytes(asked.where.head)
    try:
        _check_size("model version", (asked.where.model or "").encode(), MAX_TEXT_BYTES)
    except UnicodeEncodeError:
        raise BadInputError("the model version is not valid Unicode") from None


def _check_manifest_id(manifest_id: str) -> None:
    if not MANIFEST_ID.fullmatch(manifest_id):
        raise BadInputError(f"{manifest_id[:64]!r} is no id of a manifest")


def _check_move(move: Move) -> None:
    id_bytes(move.image_id)
    if move.new_head != NO_HEAD or move.cause is not Cause.DELETED:
        id_bytes(move.new_head)
    for optional in (move.old_head, move.matched):
        if optional is not None:
            id_bytes(optional)
    if move.score is not None and move.score != move.score:
        raise BadInputError(f"the score of {move.image_id!r} is not a number")


def _check_tombstone(tombstone: Tombstone) -> None:
    id_bytes(tombstone.image_id)
    _check_range("version", tombstone.version, 0, MAX_U64)
    _check_range("position", tombstone.position, 0, MAX_I64)
    _check_range("deleted_at_ms", tombstone.deleted_at_ms, 0, MAX_I64)
    _check_size("author", tombstone.author.encode(), MAX_TEXT_BYTES)
    _check_size("reason", tombstone.reason.encode(), MAX_TEXT_BYTES)


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise BadInputError(f"{name} {value} is not in {low} to {high}")


def _check_size(name: str, value: bytes, most: int) -> None:
    if len(value) > most:
        raise BadInputError(f"the {name} has {len(value)} bytes, at most {most} are allowed")
