"""What a notification must fulfil to enter: its form (`core.notifications`), and the policy of this release.

The policy is checked here alone. Halves that wait in the join, records of the order and stored images were accepted
under the policy of their time and are not judged again, so a rebuild decides them as before.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.dead_letters import BadRecord, Reason
from core.notifications import MAX_IMAGE_VERSION, Half, decode
from core.vector_limits import NormBand, VectorLimits
from core.vectors import vector_values

__all__ = ["KEPT_WHOLE", "PADDING_BYTES", "Admitted", "admit"]

PADDING_BYTES = 1024
"""How much a notification may exceed what its known fields need: room for the fields of later versions."""

KEPT_WHOLE = frozenset({Reason.DEGENERATE, Reason.UNUSUAL_NORM, Reason.VERSION_TOO_HIGH})
"""Reasons of records whose form is right. Their dead letters keep all bytes: with other settings they may enter."""

_FIELD_BYTES = 64
"""More than the tags, lengths and plain numbers of all known fields."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A half that may enter, and where its norm lies among the measured ones."""

    half: Half
    band: NormBand


def admit(payload: bytes, limits: VectorLimits) -> Admitted | BadRecord:
    """Decodes one notification and checks it against the policy. Bytes from outside never make it raise.

    Args:
        payload: The Kafka record's value; a tombstone is empty.
        limits: Of the embedding that its topic carries.
    """
    half = decode(payload, limits.spec)
    if isinstance(half, BadRecord):
        return half
    vector = vector_values(half.element_type, half.vector)
    problem = _padding_problem(payload, half, limits) or _version_problem(half) or limits.problem(vector)
    return Admitted(half, limits.band(vector)) if problem is None else problem


def _version_problem(half: Half) -> BadRecord | None:
    if half.version <= MAX_IMAGE_VERSION:
        return None
    return BadRecord(Reason.VERSION_TOO_HIGH, f"image_version is {half.version}, the limit is {MAX_IMAGE_VERSION}")


def _padding_problem(payload: bytes, half: Half, limits: VectorLimits) -> BadRecord | None:
    texts = (half.image_id, limits.spec.name, limits.spec.model_version)
    needed = len(half.vector) + sum(len(text.encode()) for text in texts) + _FIELD_BYTES
    if len(payload) <= needed + PADDING_BYTES:
        return None
    return BadRecord(
        Reason.OVERSIZED_PAYLOAD,
        f"the record has {len(payload)} bytes, its fields explain {needed} and unknown fields may have {PADDING_BYTES}",
    )
