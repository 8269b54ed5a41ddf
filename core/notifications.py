"""Notifications of embeddings: decoding with every check before the join, and the joined record of the order.

No bytes from outside make `decode` raise: a bad record is a value, `BadRecord`, with its reason. The checks run in one
fixed order, and the first that fails gives the reason:

    empty, oversized, unparsable (also an id that is not UTF-8), id missing, id too long, embedding name, model version,
    element type, vector missing, vector length, not a number, infinite, all zero, time negative, time too late
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from google.protobuf.message import DecodeError

from core.dead_letters import BadRecord, Provenance, Reason
from core.errors import BadInputError, SettingsError
from core.manifest_rows import MANIFEST_ID
from core.protos.joined_pb2 import (
    HalfOrigin,
    JoinedDelete,
    JoinedImage,
    JoinedMember,
    JoinedRecord,
    JoinedReplay,
    Origin,
)
from core.types import ImageId
from core.vectors import vector_problem
from neardup.events_pb2 import ElementType, EmbeddingNotification

__all__ = [
    "LARGEST_RECORD_BYTES",
    "LATEST_TIME_MS",
    "MAX_ID_BYTES",
    "MAX_IMAGE_VERSION",
    "MAX_JOINED_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_WORDS_BYTES",
    "RECORD_KINDS",
    "BadRecord",
    "EmbeddingSpec",
    "Half",
    "JoinedContent",
    "Reason",
    "decode",
    "decode_joined",
    "encode_member",
    "image_id",
    "image_id_of",
    "joined_record",
    "placed_image",
]

MAX_ID_BYTES = 256
"""The longest image id, in bytes of UTF-8."""

MAX_IMAGE_VERSION = 2**53 - 1
"""The highest image version that the entrance accepts; JSON readers that use float64 keep whole numbers up to here."""

MAX_DIMENSION = 16_384
"""The longest vector that settings allow."""

MAX_PAYLOAD_BYTES = 16 * MAX_DIMENSION
"""The largest notification: four times the longest vector, with numbers of 4 bytes."""

MAX_JOINED_BYTES = 2 * MAX_PAYLOAD_BYTES
"""The largest record of the order: it carries both vectors."""

LARGEST_RECORD_BYTES = 1_048_576
"""The least size that every topic must take: a dead letter carries the largest record of the order in base64."""

MAX_WORDS_BYTES = 1024
"""The longest author, reason or request id of a delete or a replay, in bytes of UTF-8."""

RECORD_KINDS = ("image", "delete", "replay", "member")
"""The kinds of records of the order that this version knows, named as in `JoinedRecord`."""

JoinedContent = JoinedImage | JoinedDelete | JoinedReplay | JoinedMember
"""What a record of the order says."""

LATEST_TIME_MS = 253_402_300_799_999
"""The end of the year 9999 in milliseconds since the epoch; later times have no ISO 8601 form."""

_SHOWN = 80
"""How many characters of a foreign value a detail repeats."""


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """The one embedding that a topic carries: exactly one version of one network.

    The last three say what its vectors must be like (`core.vector_limits`).

    Raises:
        SettingsError: A number is out of range.
    """

    name: str
    model_version: str
    dimension: int
    normalise: bool = False
    """Whether vectors are divided by their Euclidean norm before hashing, so that a sender's scale does not matter."""
    norm_factor: float = 2.5
    """How far beyond the measured extremes a norm may lie; 0: anywhere."""
    degenerate_share: float = 0.1
    """The least distance to a constant and to the centre, as a share of the smallest measured one."""

    def __post_init__(self) -> None:
        if not 2 <= self.dimension <= MAX_DIMENSION:
            raise SettingsError(f"dimension must be 2 to {MAX_DIMENSION}, is {self.dimension}")
        if not (self.norm_factor == 0.0 or 1.0 <= self.norm_factor < inf):
            raise SettingsError(f"norm_factor must be 0 or at least 1, is {self.norm_factor}")
        if not 0.0 <= self.degenerate_share < 1.0:
            raise SettingsError(f"degenerate_share must be 0 or more and below 1, is {self.degenerate_share}")


@dataclass(frozen=True, slots=True)
class Half:
    """One checked embedding of one image version; `vector` holds the little-endian bytes of the notification."""

    image_id: ImageId
    version: int
    element_type: ElementType.ValueType
    vector: bytes
    created_at_ms: int
    """Milliseconds since the epoch, 0 when the producer did not say."""
    trace: bool


def image_id(text: str) -> ImageId:
    """Checks an image id.

    Raises:
        BadInputError: It is empty, longer than 256 bytes of UTF-8, or has no UTF-8 form.
    """
    problem = _id_problem(text)
    if problem is not None:
        raise BadInputError(problem.detail)
    return ImageId(text)


def decode(payload: bytes | None, expected: EmbeddingSpec) -> Half | BadRecord:
    """Decodes and checks one notification.

    Args:
        payload: The Kafka record's value; None, a tombstone, counts as empty.
        expected: The embedding that its topic carries.
    """
    data = payload or b""
    size_problem = _size_problem(data, MAX_PAYLOAD_BYTES)
    if size_problem is not None:
        return size_problem
    try:
        message = EmbeddingNotification.FromString(data)
    except DecodeError as error:
        return BadRecord(Reason.UNPARSABLE, f"not an EmbeddingNotification: {_shown(str(error))}")
    problem = (
        _id_problem(message.image_id)
        or _origin_problem(message, expected)
        or vector_problem("vector", message.element_type, message.vector, expected.dimension)
        or _time_problem("created_at_ms", message.created_at_ms)
    )
    if problem is not None:
        return problem
    return Half(
        image_id=ImageId(message.image_id),
        version=message.image_version,
        element_type=message.element_type,
        vector=message.vector,
        created_at_ms=message.created_at_ms,
        trace=message.trace,
    )


def joined_record(search_half: Half, score_half: Half, search_source: Provenance, score_source: Provenance) -> bytes:
    """The record of the order for an image whose two halves are there; equal arguments give equal bytes.

    Its creation time is the earliest that a half gives, its arrival that of the later half. It is traced if either half
    asks for it.

    Args:
        search_half: The embedding for term search.
        score_half: The embedding for the classifier.
        search_source: Where the first lies in Kafka.
        score_source: Where the second lies.

    Raises:
        BadInputError: The halves belong to different images or versions.
    """
    ours, theirs = (search_half.image_id, search_half.version), (score_half.image_id, score_half.version)
    if ours != theirs:
        raise BadInputError(f"halves of different image versions cannot be joined: {ours} and {theirs}")
    times = [half.created_at_ms for half in (search_half, score_half) if half.created_at_ms > 0]
    image = JoinedImage(
        image_id=search_half.image_id,
        image_version=search_half.version,
        search_type=search_half.element_type,
        search_vector=search_half.vector,
        score_type=score_half.element_type,
        score_vector=score_half.vector,
        created_at_ms=min(times, default=0),
        arrived_at_ms=max(search_source.timestamp_ms, score_source.timestamp_ms),
        trace=search_half.trace or score_half.trace,
        search_origin=_half_origin(search_source),
        score_origin=_half_origin(score_source),
    )
    return JoinedRecord(image=image).SerializeToString(deterministic=True)


def encode_member(member: JoinedMember) -> bytes:
    """The record of the order for a row of a manifest; equal rows give equal bytes.

    Raises:
        BadInputError: `decode_joined` would refuse it.
    """
    record = JoinedRecord(member=member).SerializeToString(deterministic=True)
    problem = _size_problem(record, MAX_JOINED_BYTES) or _member_problem(member)
    if problem is not None:
        raise BadInputError(problem.detail)
    return record


def image_id_of(content: JoinedContent) -> ImageId:
    """The image that a record of the order is about."""
    return ImageId(content.image.image_id if isinstance(content, JoinedMember) else content.image_id)


def placed_image(content: JoinedContent | BadRecord) -> JoinedImage | None:
    """The image that a record of the order places for itself; None: it places none, or one that was there before."""
    match content:
        case JoinedImage():
            return content
        case JoinedMember():
            return content.image
        case _:
            return None


def _half_origin(source: Provenance) -> HalfOrigin:
    return HalfOrigin(partition=source.partition, offset=source.offset, arrived_at_ms=source.timestamp_ms)


def decode_joined(payload: bytes | None) -> JoinedContent | BadRecord:
    """Decodes one record of the order and checks all of it but the vectors, which the search server checks."""
    data = payload or b""
    size_problem = _size_problem(data, MAX_JOINED_BYTES)
    if size_problem is not None:
        return size_problem
    try:
        record = JoinedRecord.FromString(data)
    except DecodeError as error:
        return BadRecord(Reason.UNPARSABLE, f"not a JoinedRecord: {_shown(str(error))}")
    content: JoinedContent
    match record.WhichOneof("body"):
        case "image":
            content, problem = record.image, _image_problem(record.image)
        case "delete":
            content, problem = record.delete, _delete_problem(record.delete)
        case "replay":
            content, problem = record.replay, _replay_problem(record.replay)
        case "member":
            content, problem = record.member, _member_problem(record.member)
        case _:
            return BadRecord(Reason.UNKNOWN_RECORD, "the record's body is none that this version knows")
    return content if problem is None else problem


def _image_problem(image: JoinedImage) -> BadRecord | None:
    return (
        _id_problem(image.image_id)
        or _time_problem("created_at_ms", image.created_at_ms)
        or _time_problem("arrived_at_ms", image.arrived_at_ms)
    )


def _delete_problem(delete: JoinedDelete) -> BadRecord | None:
    return (
        _id_problem(delete.image_id)
        or _time_problem("requested_at_ms", delete.requested_at_ms)
        or _words_problem("author", delete.author)
        or _words_problem("reason", delete.reason)
        or _words_problem("request id", delete.origin.request_id)
    )


def _replay_problem(replay: JoinedReplay) -> BadRecord | None:
    """A replay may come with its image, which is then what storage had of it."""
    problem = (
        _id_problem(replay.image_id)
        or _time_problem("requested_at_ms", replay.requested_at_ms)
        or _request_problem(replay.origin)
        or _words_problem("model version", replay.model_version)
    )
    if problem is None and replay.HasField("image"):
        problem = _image_problem(replay.image)
        if problem is None and replay.image.image_id != replay.image_id:
            detail = f"it replays {_shown(replay.image_id)} and carries the image {_shown(replay.image.image_id)}"
            problem = BadRecord(Reason.UNPARSABLE, detail)
    return problem


def _member_problem(member: JoinedMember) -> BadRecord | None:
    problem = (
        _image_problem(member.image)
        or _id_problem(member.head, "id of the head")
        or (_id_problem(member.matched, "id of the matched image") if member.matched else None)
        or _words_problem("model version", member.model_version)
    )
    if problem is not None:
        return problem
    if not MANIFEST_ID.fullmatch(member.manifest_id):
        return BadRecord(Reason.UNPARSABLE, f"{_shown(member.manifest_id)} is no id of a manifest")
    if member.row < 0:
        return BadRecord(Reason.UNPARSABLE, f"it is row {member.row} of a manifest")
    if not 0.0 <= member.score <= 1.0:  # so is no NaN
        return BadRecord(Reason.UNPARSABLE, f"its score is {member.score}, not a probability")
    return None


def _request_problem(origin: Origin) -> BadRecord | None:
    if origin.partition < 0 or origin.offset < 0:
        detail = f"its request lies in partition {origin.partition} at offset {origin.offset}"
        return BadRecord(Reason.UNPARSABLE, detail)
    return _words_problem("topic id", origin.topic_id) or _words_problem("request id", origin.request_id)


def _words_problem(name: str, text: str) -> BadRecord | None:
    length = len(text.encode("utf-8"))
    if length > MAX_WORDS_BYTES:
        return BadRecord(Reason.UNPARSABLE, f"the {name} has {length} bytes, the limit is {MAX_WORDS_BYTES}")
    return None


def _shown(value: str) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _size_problem(data: bytes, limit_bytes: int) -> BadRecord | None:
    if not data:
        return BadRecord(Reason.EMPTY_PAYLOAD, "the record has no bytes")
    if len(data) > limit_bytes:
        return BadRecord(Reason.OVERSIZED_PAYLOAD, f"the record has {len(data)} bytes, the limit is {limit_bytes}")
    return None


def _id_problem(text: str, name: str = "image id") -> BadRecord | None:
    if not text:
        return BadRecord(Reason.MISSING_ID, f"the {name} is empty")
    try:
        length = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return BadRecord(Reason.UNPARSABLE, f"the {name} {_shown(text)} has no UTF-8 form")
    if length > MAX_ID_BYTES:
        return BadRecord(Reason.ID_TOO_LONG, f"the {name} has {length} bytes, the limit is {MAX_ID_BYTES}")
    return None


def _origin_problem(message: EmbeddingNotification, expected: EmbeddingSpec) -> BadRecord | None:
    if message.embedding != expected.name:
        return BadRecord(
            Reason.UNKNOWN_EMBEDDING,
            f"the embedding is {_shown(message.embedding)}, this topic carries {_shown(expected.name)}",
        )
    if message.model_version != expected.model_version:
        return BadRecord(
            Reason.WRONG_MODEL_VERSION,
            f"the model version is {_shown(message.model_version)}, expected {_shown(expected.model_version)}",
        )
    return None


def _time_problem(name: str, time_ms: int) -> BadRecord | None:
    if time_ms < 0:
        return BadRecord(Reason.NEGATIVE_TIME, f"{name} is {time_ms}")
    if time_ms > LATEST_TIME_MS:
        return BadRecord(Reason.TIME_TOO_LATE, f"{name} is {time_ms}, the limit is {LATEST_TIME_MS}")
    return None
