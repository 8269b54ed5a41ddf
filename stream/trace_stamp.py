"""What every trace of a signal says of settings and code."""

from __future__ import annotations

import hashlib

from core.build_info import installed_version
from operators.tracing import TraceStamp
from stream.settings import Signal

__all__ = ["trace_stamp"]

_DECIDING = {"search_embedding", "score_embedding", "centres", "model", "model_class", "terms", "code", "index"}
"""The settings that a verdict may depend on."""


def trace_stamp(signal: Signal) -> TraceStamp:
    """A fingerprint of the settings that decide, and the release that is installed here."""
    content = signal.model_dump_json(include=_DECIDING)
    return TraceStamp(hashlib.sha256(content.encode()).hexdigest()[:12], installed_version())
