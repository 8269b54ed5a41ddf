"""Dead letters: rejected records, unmodified, with a reason code.

A dead letter is one JSON object, UTF-8:

    reason          one of `Reason`
    detail          what was wrong, with the value that was expected and the value that was found
    topic, partition, offset, timestamp_ms
                    where the record is in Kafka, and its timestamp
    payload         the record's bytes in base64; of a record that was never valid at most the first 64 KiB
    payload_bytes   the length of the record
    truncated       `payload` is only the beginning of the record, so it cannot be replayed

`docs/schemas/dead-letter.json` describes it.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from core.errors import BadInputError

__all__ = [
    "PAYLOAD_LIMIT_BYTES",
    "BadRecord",
    "DeadLetter",
    "Provenance",
    "Reason",
    "dead_letter",
    "parse_dead_letter",
    "within",
]

PAYLOAD_LIMIT_BYTES = 65_536
"""The bytes that a dead letter keeps of a record that was never valid."""

_WHOLE_LIMIT_BYTES = 720_000
"""A dead letter of so many bytes is 960 kB in base64, which every topic takes. A record of the order is smaller."""

_DETAIL_LIMIT = 2_000
"""The characters that are kept of a detail. Text of a server may be longer."""


class Reason(StrEnum):
    """Why a record is in `dead-letter`. The values are labels of metrics and part of the promise: never rename one."""

    EMPTY_PAYLOAD = "empty_payload"
    OVERSIZED_PAYLOAD = "oversized_payload"
    UNPARSABLE = "unparsable"
    MISSING_ID = "missing_id"
    ID_TOO_LONG = "id_too_long"
    UNKNOWN_EMBEDDING = "unknown_embedding"
    WRONG_MODEL_VERSION = "wrong_model_version"
    UNKNOWN_ELEMENT_TYPE = "unknown_element_type"
    MISSING_VECTOR = "missing_vector"
    WRONG_VECTOR_LENGTH = "wrong_vector_length"
    NOT_A_NUMBER = "not_a_number"
    INFINITE = "infinite"
    ALL_ZERO = "all_zero"
    DEGENERATE = "degenerate"
    """The vector is too close to zero, to a constant or to the centre of its embedding."""
    UNUSUAL_NORM = "unusual_norm"
    """The vector's norm is far from those that `neardup centres` measured."""
    VERSION_TOO_HIGH = "version_too_high"
    NEGATIVE_TIME = "negative_time"
    TIME_TOO_LATE = "time_too_late"
    UNKNOWN_RECORD = "unknown_record"
    """A record of the order, of a kind that this version does not know."""
    MISSING_SEARCH_HALF = "missing_search_half"
    """The score half waited for the join's time, and the search half did not come."""
    MISSING_SCORE_HALF = "missing_score_half"
    """The search half waited for the join's time, and the score half did not come."""
    TOO_MANY_VERSIONS = "too_many_versions"
    """More versions of one image are waiting than the join keeps; this was the lowest."""
    REFUSED = "refused"
    """A server refused the image (INVALID_ARGUMENT)."""
    FAULTED = "faulted"
    """A server failed on the image several times."""
    LOST = "lost"
    """Kafka deleted records before they were read. It stands for a range of offsets and has no payload."""


@dataclass(frozen=True, slots=True)
class BadRecord:
    """Why a record is rejected."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a record is in Kafka, and its timestamp in milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as it is read back."""

    reason: Reason
    detail: str
    source: Provenance
    payload: bytes
    payload_bytes: int
    truncated: bool


def dead_letter(
    bad: BadRecord, source: Provenance, payload: bytes | None, limit_bytes: int | None = PAYLOAD_LIMIT_BYTES
) -> bytes:
    """The dead letter of a record, as JSON bytes.

    Args:
        bad: What is wrong with it.
        source: Where it is in Kafka.
        payload: Its bytes. None, a Kafka tombstone, counts as empty.
        limit_bytes: How many of them are kept. None keeps all: for records that passed validation. Their size is
            bounded, and they must stay replayable. A longer one is cut and marked, so that every topic takes it.
    """
    whole = payload or b""
    kept = whole[: _WHOLE_LIMIT_BYTES if limit_bytes is None else limit_bytes]
    dead = {
        "reason": bad.reason.value,
        "detail": bad.detail[:_DETAIL_LIMIT],
        "topic": source.topic,
        "partition": source.partition,
        "offset": source.offset,
        "timestamp_ms": source.timestamp_ms,
        "payload": base64.b64encode(kept).decode("ascii"),
        "payload_bytes": len(whole),
        "truncated": len(kept) < len(whole),
    }
    return json.dumps(dead, separators=(",", ":")).encode("ascii")


def within(raw: bytes, limit_bytes: int) -> bytes:
    """A dead letter of at most `limit_bytes`: the payload of a longer one is cut, and marked as truncated.

    A topic that takes no message of the whole size would refuse it for ever.
    """
    excess = len(raw) - limit_bytes
    if excess <= 0:
        return raw
    found = parse_dead_letter(raw)
    # Four characters of base64 are three bytes. `true` is shorter than `false`, so nothing else grows.
    keep = max(0, (len(base64.b64encode(found.payload)) - excess) // 4 * 3)
    fields = json.loads(raw)
    fields["payload"] = base64.b64encode(found.payload[:keep]).decode("ascii")
    fields["truncated"] = keep < found.payload_bytes
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def parse_dead_letter(raw: bytes) -> DeadLetter:
    """Reads a dead letter back.

    Raises:
        BadInputError: The bytes are not a dead letter of this form.
    """
    try:
        fields = json.loads(raw)
        if not isinstance(fields, dict):
            raise BadInputError("a dead letter is a JSON object")
        return _from_fields(fields)
    except BadInputError:
        raise
    except (ValueError, KeyError, RecursionError) as error:
        raise BadInputError(f"not a dead letter: {type(error).__name__}: {error}") from error


def _from_fields(fields: dict[str, Any]) -> DeadLetter:
    payload = _payload(_text(fields, "payload"))
    length, truncated = _number(fields, "payload_bytes"), fields["truncated"]
    if not isinstance(truncated, bool):
        raise BadInputError("truncated must be true or false")
    if truncated != (len(payload) < length) or len(payload) > length:
        raise BadInputError(f"payload has {len(payload)} bytes, payload_bytes says {length}, truncated {truncated}")
    source = Provenance(
        topic=_text(fields, "topic"),
        partition=_number(fields, "partition"),
        offset=_number(fields, "offset"),
        timestamp_ms=_number(fields, "timestamp_ms"),
    )
    return DeadLetter(
        Reason(_text(fields, "reason")), _text(fields, "detail"), source, payload, length, truncated=truncated
    )


def _payload(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BadInputError(f"payload is not base64: {error}") from error


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise BadInputError(f"{name} must be a string, is {type(value).__name__}")
    return value


def _number(fields: dict[str, Any], name: str) -> int:
    value = fields[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadInputError(f"{name} must be a whole number, is {type(value).__name__}")
    return value
