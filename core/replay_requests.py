"""Requests to decide images again: the records of the topic `replay`.

A record is one JSON object, UTF-8, with the fields of `ReplayRequest` in their order (`docs/schemas`). Fields are only
added. Its key is the image id. Its partition is its *lane*: the requests of a lane are admitted to the order one after
the other, so that the last offset that was applied says which ones are done. Images that somebody named have a lane of
their own, so they never wait for a whole selection.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from core.dead_letters import BadRecord, Reason
from core.errors import BadInputError
from core.known_verdicts import KnownVerdict
from core.notifications import LATEST_TIME_MS, image_id
from core.types import ImageId

__all__ = ["LANES", "MAX_REQUEST_BYTES", "Lane", "ReplayRequest", "encode_request", "parse_request"]

MAX_REQUEST_BYTES = 32_768
"""The largest record of the topic that is read."""

_MAX_NAME = 256
"""Characters of a request id, a model version and an author."""


class Lane(IntEnum):
    """The partitions of the topic."""

    NAMED = 0
    """Images that somebody named."""
    BULK = 1
    """Images of a selection, such as all of a day."""


LANES = tuple(Lane)
"""All of them."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """One image that is to be decided again."""

    request: str
    """Names the request that it belongs to, with all its other images."""
    image_id: ImageId
    force: bool = False
    """Decide also if model and index are those of the last verdict."""
    dry_run: bool = False
    """Decide, but write nothing except a trace."""
    model_version: str = ""
    """Of a dry run: the version that scores; empty: the one that serves."""
    watch: bool = False
    """Each step writes a trace."""
    bulk: bool = False
    """It belongs to a selection."""
    requested_at_ms: int = 0
    """Milliseconds since the epoch."""
    author: str = ""
    before: KnownVerdict | None = None
    """The image's verdict when the request was sent. It is compared with the new one, and the job does not read it."""

    @property
    def lane(self) -> Lane:
        """The partition that it belongs to."""
        return Lane.BULK if self.bulk else Lane.NAMED


def encode_request(request: ReplayRequest) -> bytes:
    """A request as it lies on Kafka."""
    before = None if request.before is None else request.before.as_json()
    return json.dumps({**asdict(request), "before": before}, separators=(",", ":")).encode("ascii")


def parse_request(payload: bytes) -> ReplayRequest | BadRecord:
    """Reads a record of the topic. Unknown keys are ignored, and all keys but `request` and `image_id` may be absent.

    Nothing that somebody sends makes it raise.
    """
    if not payload:
        return BadRecord(Reason.EMPTY_PAYLOAD, "the record has no bytes")
    if len(payload) > MAX_REQUEST_BYTES:
        detail = f"the record has {len(payload)} bytes, the limit is {MAX_REQUEST_BYTES}"
        return BadRecord(Reason.OVERSIZED_PAYLOAD, detail)
    try:
        fields = json.loads(payload)
        return _request(fields if isinstance(fields, dict) else {})
    except (ValueError, RecursionError, BadInputError) as error:
        return BadRecord(Reason.UNPARSABLE, f"not a replay request: {ascii(str(error))[:200]}")


def _request(fields: dict[str, Any]) -> ReplayRequest:
    asked = _text(fields, "request")
    if not asked:
        raise BadInputError("request is missing or empty")
    return ReplayRequest(
        request=asked,
        image_id=image_id(str(fields.get("image_id", ""))),
        force=_flag(fields, "force"),
        dry_run=_flag(fields, "dry_run"),
        model_version=_text(fields, "model_version"),
        watch=_flag(fields, "watch"),
        bulk=_flag(fields, "bulk"),
        requested_at_ms=_time_ms(fields, "requested_at_ms"),
        author=_text(fields, "author"),
        before=None if fields.get("before") is None else KnownVerdict.from_json(fields["before"]),
    )


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise BadInputError(f"{name} is {value!r}, not true or false")
    return value


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str) or len(value) > _MAX_NAME:
        raise BadInputError(f"{name} is no text of at most {_MAX_NAME} characters")
    value.encode()  # a lone surrogate has no UTF-8 form
    return value


def _time_ms(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LATEST_TIME_MS:
        raise BadInputError(f"{name} is {value!r}, not a time in milliseconds")
    return value
