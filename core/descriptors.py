"""How many files and sockets this process may have open."""

from __future__ import annotations

import resource

__all__ = ["raise_descriptor_limit"]

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
