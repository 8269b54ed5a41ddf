"""Names for requests of people, for the people, and what they ask for when images are decided again."""

from __future__ import annotations

import getpass
import secrets
import time
from typing import Any

from core.replay_requests import ReplayRequest
from core.types import ImageId

__all__ = ["new_request", "replay_of", "user_name"]


def new_request(kind: str, now_s: float | None = None) -> str:
    """A name that no other request has, such as `replay-20270131-120000-5f3a9c`; its time is UTC."""
    at = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_s))
    return f"{kind}-{at}-{secrets.token_hex(3)}"


def replay_of(request: str, **wanted: Any) -> ReplayRequest:
    """What this user asks for now, for images that are named later; `wanted` are other fields of `ReplayRequest`."""
    now_ms = time.time_ns() // 10**6
    return ReplayRequest(request, ImageId(""), requested_at_ms=now_ms, author=user_name(), **wanted)


def user_name() -> str:
    """Who runs this process; "" if the machine does not know."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
