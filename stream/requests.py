"""Names for requests of people, and for the people."""

from __future__ import annotations

import getpass
import secrets
import time

__all__ = ["new_request", "user_name"]


def new_request(kind: str, now_s: float | None = None) -> str:
    """A name that no other request has, such as `replay-20270131-120000-5f3a9c`; its time is UTC."""
    at = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_s))
    return f"{kind}-{at}-{secrets.token_hex(3)}"


def user_name() -> str:
    """Who runs this process; "" if the machine does not know."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
