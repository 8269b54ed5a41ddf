"""Conversion between first loads and the messages of `storage.proto`."""

from __future__ import annotations

from core.errors import BadInputError
from core.first_loads import LoadReport, LoadRequest, LoadState
from storage.limits import MAX_TEXT_BYTES
from storage.serving import storage_pb2 as pb

__all__ = ["load_message", "load_of", "load_request_message", "read_load_request"]

_NUMBERS = ("rows_done", "rows_total", "rows_per_s", "images", "clusters", "started_ms", "ended_ms")


def load_message(report: LoadReport | None) -> pb.LoadStatusResponse:
    """How far a load is, as a message; None: there is none."""
    if report is None:
        return pb.LoadStatusResponse()
    return pb.LoadStatusResponse(
        state=report.state,
        detail=report.detail,
        **{name: getattr(report.request, name) for name in LoadRequest.__slots__},
        **{name: getattr(report, name) for name in _NUMBERS},
    )


def load_of(message: pb.LoadStatusResponse) -> LoadReport:
    """How far a load is, from its message."""
    numbers = {name: getattr(message, name) for name in _NUMBERS}
    return LoadReport(_request_of(message), LoadState(message.state), message.detail, **numbers)


def load_request_message(request: LoadRequest) -> pb.LoadRequest:
    """What is asked for, as a message."""
    return pb.LoadRequest(**{name: getattr(request, name) for name in LoadRequest.__slots__})


def read_load_request(message: pb.LoadRequest) -> LoadRequest:
    """What is asked for, from its message.

    Raises:
        BadInputError: A part is missing or too long.
    """
    request = _request_of(message)
    for name in LoadRequest.__slots__:
        if not 1 <= len(getattr(request, name).encode()) <= MAX_TEXT_BYTES:
            raise BadInputError(f"{name} has 1 to {MAX_TEXT_BYTES} bytes: {getattr(request, name)[:64]!r}")
    return request


def _request_of(message: pb.LoadRequest | pb.LoadStatusResponse) -> LoadRequest:
    return LoadRequest(message.folder, message.manifest, message.manifest_id, message.log_id)
