"""Loads as messages: `search.proto` and `storage.proto` have the same ones, each under its own package."""

from __future__ import annotations

from typing import Any, Protocol

from core.errors import BadInputError
from core.first_loads import LoadReport, LoadRequest, LoadState

__all__ = ["load_fields", "load_of", "read_load_request", "request_fields"]

_NUMBERS = ("rows_done", "rows_total", "rows_per_s", "images", "clusters", "started_ms", "ended_ms")


class _Request(Protocol):
    folder: str
    manifest: str
    manifest_id: str
    log_id: str


class _Status(_Request, Protocol):
    state: str
    detail: str


def load_fields(report: LoadReport | None) -> dict[str, Any]:
    """The fields of a `LoadStatusResponse`; None: there is no load."""
    if report is None:
        return {}
    return {
        "state": report.state,
        "detail": report.detail,
        **request_fields(report.request),
        **{name: getattr(report, name) for name in _NUMBERS},
    }


def load_of(message: _Status) -> LoadReport:
    """How far a load is, from a `LoadStatusResponse`."""
    numbers = {name: getattr(message, name) for name in _NUMBERS}
    return LoadReport(_request_of(message), LoadState(message.state), message.detail, **numbers)


def request_fields(request: LoadRequest) -> dict[str, Any]:
    """The fields of a `LoadRequest` message."""
    return {name: getattr(request, name) for name in LoadRequest.__slots__}


def read_load_request(message: _Request, most_bytes: int, *, deltas: bool = False) -> LoadRequest:
    """What is asked for, from a `LoadRequest` message.

    Args:
        message: What was sent.
        most_bytes: The longest text.
        deltas: Whether it may be a delta.

    Raises:
        BadInputError: A part is missing or too long.
    """
    request = _request_of(message)
    for name in LoadRequest.__slots__:
        if deltas and name == "log_id" and request.is_delta:
            continue
        if not 1 <= len(getattr(request, name).encode()) <= most_bytes:
            raise BadInputError(f"{name} has 1 to {most_bytes} bytes, not {getattr(request, name)[:64]!r}")
    return request


def _request_of(message: _Request) -> LoadRequest:
    return LoadRequest(message.folder, message.manifest, message.manifest_id, message.log_id)
