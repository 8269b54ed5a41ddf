"""Makers of what lies on Kafka: notifications, good and broken, halves and joined records."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core.dead_letters import Provenance, Reason
from core.notifications import EmbeddingSpec, Half, decode, decode_joined, encode_member, joined_record
from core.protos.joined_pb2 import JoinedImage, JoinedMember, JoinedRecord
from neardup.events_pb2 import FLOAT16, FLOAT32, ElementType, EmbeddingNotification
from operators.pairing import ArrivedHalf, Side

SEARCH_SPEC = EmbeddingSpec("search-net", "1", 16)
"""A small search embedding."""

SCORE_SPEC = EmbeddingSpec("score-net", "7", 8)
"""A small score embedding."""

MANIFEST = "0f" * 16
"""The content id of a manifest."""

_DTYPES = {FLOAT16: "<f2", FLOAT32: "<f4"}


def vector_bytes(spec: EmbeddingSpec, seed: int = 0, element_type: ElementType.ValueType = FLOAT16) -> bytes:
    """A random vector of the spec's dimension, the same for a seed."""
    values = np.random.default_rng(seed).standard_normal(spec.dimension)
    return values.astype(_DTYPES[element_type]).tobytes()


def notification(spec: EmbeddingSpec, image_id: str = "image-1", version: int = 1, **fields: Any) -> bytes:
    """The bytes of a valid notification; `fields` replace fields of the message."""
    values: dict[str, Any] = {
        "image_id": image_id,
        "image_version": version,
        "embedding": spec.name,
        "model_version": spec.model_version,
        "element_type": FLOAT16,
        "vector": vector_bytes(spec),
        "created_at_ms": 1_700_000_000_000,
    }
    return EmbeddingNotification(**{**values, **fields}).SerializeToString(deterministic=True)


def half(spec: EmbeddingSpec, image_id: str = "image-1", version: int = 1, **fields: Any) -> Half:
    """A decoded half."""
    decoded = decode(notification(spec, image_id, version, **fields), spec)
    assert isinstance(decoded, Half), decoded
    return decoded


def joined(image_id: str = "image-1", version: int = 1, seed: int = 0, arrived_at_ms: int = 1_700_000_000_500) -> bytes:
    """The bytes of a joined record of `SEARCH_SPEC` and `SCORE_SPEC`."""
    return joined_record(
        half(SEARCH_SPEC, image_id, version, vector=vector_bytes(SEARCH_SPEC, 2 * seed)),
        half(SCORE_SPEC, image_id, version, vector=vector_bytes(SCORE_SPEC, 2 * seed + 1)),
        Provenance("embeddings.search", 0, 2 * seed, arrived_at_ms - 500),
        Provenance("embeddings.score", 0, 2 * seed + 1, arrived_at_ms),
    )


def as_member(record: bytes, head: str, row: int, **fields: Any) -> bytes:
    """A record of an image as that of a row of a manifest, which names a head."""
    image = JoinedRecord.FromString(record).image
    image.ClearField("search_origin")
    image.ClearField("score_origin")
    return encode_member(JoinedMember(**{"image": image, "head": head, "manifest_id": MANIFEST, "row": row, **fields}))


def some_as_members(records: Iterable[bytes], seed: int) -> list[bytes]:
    """Three of ten images come as rows that name any image so far as head; the other records stay as they are."""
    dice, made, heads = random.Random(seed), list[bytes](), list[str]()
    for row, record in enumerate(records):
        content = decode_joined(record)
        if isinstance(content, JoinedImage):
            heads.append(content.image_id)
            if dice.random() < 0.3:
                record = as_member(record, dice.choice(heads[-6:]), row)
        made.append(record)
    return made


def arrived(side: Side, version: int = 1, at_ms: int = 0, payload: bytes | None = None, offset: int = 0) -> ArrivedHalf:
    """A half as the join takes it in."""
    source = Provenance(f"embeddings.{side}", 0, offset, at_ms)
    return ArrivedHalf(side, version, source, payload if payload is not None else f"{side}-{version}".encode())


@dataclass(frozen=True)
class BadPayload:
    """A broken notification: what is wrong, its bytes, and the reason its dead letter must give."""

    name: str
    payload: bytes
    reason: Reason


def bad_payloads(spec: EmbeddingSpec, too_large_bytes: int) -> list[BadPayload]:
    """One broken notification per kind, for a topic that carries `spec`."""
    good = notification(spec)
    numbers = np.frombuffer(vector_bytes(spec), dtype="<f2")

    def with_number(value: float, at: int) -> bytes:
        values = numbers.copy()
        values[at] = value
        return notification(spec, vector=values.tobytes())

    other_length = replace(spec, dimension=spec.dimension + 1)
    return [
        BadPayload("no bytes", b"", Reason.EMPTY_PAYLOAD),
        BadPayload("oversized", good + b"\xf2\x07" + b"\x00" * too_large_bytes, Reason.OVERSIZED_PAYLOAD),
        BadPayload("text instead of protobuf", b'{"image_id": "image-1"}', Reason.UNPARSABLE),
        BadPayload("cut in the middle", good[:-3], Reason.UNPARSABLE),
        BadPayload("id is not UTF-8", b"\x0a\x02\xff\xfe" + good, Reason.UNPARSABLE),
        BadPayload("no id", notification(spec, image_id=""), Reason.MISSING_ID),
        BadPayload("id of 257 bytes", notification(spec, image_id="i" * 257), Reason.ID_TOO_LONG),
        BadPayload("id of 129 characters, 258 bytes", notification(spec, image_id="é" * 129), Reason.ID_TOO_LONG),
        BadPayload("other embedding", notification(spec, embedding="other-net"), Reason.UNKNOWN_EMBEDDING),
        BadPayload("other model version", notification(spec, model_version="2.0"), Reason.WRONG_MODEL_VERSION),
        BadPayload("no element type", notification(spec, element_type=0), Reason.UNKNOWN_ELEMENT_TYPE),
        BadPayload("element type of the future", notification(spec, element_type=9), Reason.UNKNOWN_ELEMENT_TYPE),
        BadPayload("no vector", notification(spec, vector=b""), Reason.MISSING_VECTOR),
        BadPayload(
            "one number too many", notification(spec, vector=vector_bytes(other_length)), Reason.WRONG_VECTOR_LENGTH
        ),
        BadPayload("half a number", notification(spec, vector=vector_bytes(spec)[:-1]), Reason.WRONG_VECTOR_LENGTH),
        BadPayload("element type does not fit", notification(spec, element_type=FLOAT32), Reason.WRONG_VECTOR_LENGTH),
        BadPayload("not a number", with_number(np.nan, 3), Reason.NOT_A_NUMBER),
        BadPayload("infinite", with_number(-np.inf, 5), Reason.INFINITE),
        BadPayload("all zero", notification(spec, vector=bytes(2 * spec.dimension)), Reason.ALL_ZERO),
        BadPayload("before the epoch", notification(spec, created_at_ms=-1), Reason.NEGATIVE_TIME),
        BadPayload("after the year 9999", notification(spec, created_at_ms=253_402_300_800_000), Reason.TIME_TOO_LATE),
    ]
