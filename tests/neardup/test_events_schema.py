"""The promise to producers: notifications may gain fields, and nothing of theirs is changed or removed.

`docs/schemas/events.txt` lists every message, field and enum value that was released, one a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from neardup.events_pb2 import DESCRIPTOR

RELEASED = Path(__file__).parents[2] / "docs" / "schemas" / "events.txt"


def described(file: FileDescriptor) -> Iterator[str]:
    """One line for the package and each message, field and enum value."""
    yield f"package {file.package}"
    for enum in file.enum_types_by_name.values():
        for value in enum.values:
            yield f"enum {enum.name} {value.number} {value.name}"
    for message in file.message_types_by_name.values():
        for field in message.fields:
            yield f"message {message.name} {field.number} {field.name} {type_of(field)}"


def type_of(field: FieldDescriptor) -> str:
    """The type of a field as a .proto says it."""
    named = field.message_type or field.enum_type
    scalar = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    repeated = "repeated " if field.label == FieldDescriptor.LABEL_REPEATED else ""
    return repeated + (named.full_name if named is not None else scalar)


def released() -> list[str]:
    """The committed lines."""
    return RELEASED.read_text(encoding="utf-8").splitlines()


def test_nothing_that_was_released_is_changed_or_removed() -> None:
    gone = set(released()) - set(described(DESCRIPTOR))
    assert not gone, "producers send these: give a new field a new number instead"


def test_what_was_added_is_listed() -> None:
    new = [line for line in described(DESCRIPTOR) if line not in released()]
    assert new == [], f"add these lines to {RELEASED.name}"


def test_a_changed_number_or_type_is_seen() -> None:
    lines = set(described(DESCRIPTOR))
    assert "message EmbeddingNotification 6 vector bytes" in lines
    assert "message EmbeddingNotification 5 element_type neardup.events.v1.ElementType" in lines
    assert "enum ElementType 2 FLOAT32" in lines
