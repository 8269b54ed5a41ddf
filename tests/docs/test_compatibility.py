"""The promise of `docs/compatibility.md`: a field of the notifications keeps its number, name and type for ever."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor as Field

from neardup import events_pb2 as pb

PROMISED = {
    (1, "image_id", Field.TYPE_STRING),
    (2, "image_version", Field.TYPE_UINT64),
    (3, "embedding", Field.TYPE_STRING),
    (4, "model_version", Field.TYPE_STRING),
    (5, "element_type", Field.TYPE_ENUM),
    (6, "vector", Field.TYPE_BYTES),
    (7, "created_at_ms", Field.TYPE_INT64),
    (8, "trace", Field.TYPE_BOOL),
}
"""Add new fields here; never change or remove a line."""


def test_notifications_keep_their_fields() -> None:
    message = pb.EmbeddingNotification.DESCRIPTOR
    assert message.full_name == "neardup.events.v1.EmbeddingNotification"
    assert {(field.number, field.name, field.type) for field in message.fields} == PROMISED


def test_element_types_keep_their_numbers() -> None:
    assert dict(pb.ElementType.items()) == {"ELEMENT_TYPE_UNSPECIFIED": 0, "FLOAT16": 1, "FLOAT32": 2}
