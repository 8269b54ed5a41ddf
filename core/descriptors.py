"""How many files and sockets this process may have open, and whether that is enough."""

from __future__ import annotations

import resource

from core.errors import SettingsError

__all__ = ["FILES", "raise_descriptor_limit", "reserve_descriptors"]

FILES = 512
"""What a server opens besides the connections that it accepts: files, logs, listeners, clients of its own."""

_ENOUGH = 65_536


def raise_descriptor_limit() -> int:
    """Raises the soft limit to the hard one, or to 65,536 if that is less; returns the limit that holds now.

    Shells and containers often set 1,024, which many connections and the files of a store together exceed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def reserve_descriptors(connections: int) -> None:
    """Raises the limit, and makes sure that callers alone cannot use it up.

    Args:
        connections: The most that the server accepts at once, on all its ports.

    Raises:
        SettingsError: The limit is too low for these connections and `FILES`.
    """
    limit, needed = raise_descriptor_limit(), connections + FILES
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise SettingsError(
            f"this process may have {limit:,} files and sockets open and needs {needed:,}: {connections:,} for"
            f" connections and {FILES:,} for files; raise its hard limit (`ulimit -Hn` shows it; LimitNOFILE of"
            " systemd, ulimits.nofile of a container)"
        )
