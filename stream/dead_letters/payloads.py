"""What is in the payload of a dead letter, decoded as far as it goes, as plain data to show."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor
from numpy.typing import NDArray

from core.dead_letters import DeadLetter
from core.protos.joined_pb2 import JoinedRecord
from neardup.events_pb2 import EmbeddingNotification
from stream.dead_letters.wire import PartialMessage, read_as_far_as_it_goes

__all__ = ["DecodedPayload", "decode_payload"]

_SHOWN_BYTES = 32
_SHOWN_ELEMENTS = 8
_SHOWN_TEXT = 200
_TYPE_OF = {"vector": "element_type", "search_vector": "search_type", "score_vector": "score_type"}
"""The field with the element type of a vector."""
_DTYPES = {"FLOAT16": "<f2", "FLOAT32": "<f4"}


@dataclass(frozen=True, slots=True)
class DecodedPayload:
    """What could be read of a payload."""

    form: str
    """The message that it should be."""
    fields: Mapping[str, Any]
    """JSON values by name. A vector is its length, norm, extremes and first elements; other bytes are hexadecimal."""
    problem: str
    """Where and why decoding ended; empty: all was read."""

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"form": self.form, "fields": self.fields, "problem": self.problem}


def decode_payload(
    dead: DeadLetter, half_topics: Collection[str], joined_topic: str, replay_topic: str
) -> DecodedPayload:
    """The payload of a dead letter.

    Args:
        dead: The dead letter.
        half_topics: The topics of notifications.
        joined_topic: The topic of the order.
        replay_topic: The topic of requests to decide images again.
    """
    if not dead.payload:
        return DecodedPayload("nothing", {}, "the payload has no bytes")
    kind: Descriptor | None = None
    if dead.source.topic in half_topics:
        kind = EmbeddingNotification.DESCRIPTOR
    elif dead.source.topic == joined_topic:
        kind = JoinedRecord.DESCRIPTOR
    elif dead.source.topic == replay_topic:
        return _decoded_request(dead.payload)
    if kind is None:
        return DecodedPayload(
            "bytes", _shown_bytes(dead.payload), f"the topic {dead.source.topic} is none of the signal's"
        )
    found = read_as_far_as_it_goes(dead.payload, kind)
    fields = _shown(found)
    if found.problem:
        fields["rest"] = _shown_bytes(dead.payload[found.read_bytes :])
    return DecodedPayload(kind.name, fields, _problems(found))


def _decoded_request(payload: bytes) -> DecodedPayload:
    """JSON is read as a whole or not at all; of a record that is none, the beginning is shown as text."""
    form = "ReplayRequest"
    try:
        fields = json.loads(payload, parse_constant=str)
    except (ValueError, RecursionError) as error:
        begins = payload[:_SHOWN_TEXT].decode("utf-8", errors="backslashreplace")
        return DecodedPayload(form, {"bytes": len(payload), "begins": begins}, f"no JSON: {error}")
    return DecodedPayload(form, fields, "") if isinstance(fields, dict) else DecodedPayload(form, {}, "no JSON object")


def _problems(found: PartialMessage) -> str:
    if found.problem:
        return found.problem
    inner = {name: _problems(each) for name, each in found.fields.items() if isinstance(each, PartialMessage)}
    return "; ".join(f"{name}: {problem}" for name, problem in inner.items() if problem)


def _shown(found: PartialMessage) -> dict[str, Any]:
    return {name: _shown_value(name, value, found.fields) for name, value in found.fields.items()}


def _shown_value(name: str, value: Any, beside: Mapping[str, Any]) -> Any:
    if isinstance(value, PartialMessage):
        return _shown(value)
    if not isinstance(value, bytes):
        return value
    dtype = _DTYPES.get(str(beside.get(_TYPE_OF.get(name, ""))))
    if dtype is None or not value or len(value) % np.dtype(dtype).itemsize:
        return _shown_bytes(value)
    return _shown_vector(np.frombuffer(value, dtype))


def _shown_bytes(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "first": data[:_SHOWN_BYTES].hex()}


def _shown_vector(vector: NDArray[np.float16 | np.float32]) -> dict[str, Any]:
    wide = vector.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    about: dict[str, Any] = {"elements": len(wide), "not_finite": len(wide) - len(finite)}
    if len(finite):
        figures = {"norm": np.linalg.norm(finite), "min": finite.min(), "max": finite.max()}
        about |= {name: round(float(figure), 6) for name, figure in figures.items()}
    # JSON has no NaN and no infinity: those are words.
    shown = wide[:_SHOWN_ELEMENTS].tolist()
    return about | {"first": [round(each, 6) if np.isfinite(each) else str(each) for each in shown]}
