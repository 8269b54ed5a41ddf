"""Free ports for servers that tests start.

They lie below those that the system gives to connections and to whoever asks for any port. Each process of tests takes
a range of its own, so what one of them is about to listen on is given to no other.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from functools import cache
from itertools import cycle

__all__ = ["free_ports"]

FIRST, END = 20_000, 32_768
"""The system's own begin at 32,768 (`net.ipv4.ip_local_port_range`)."""

RANGE = 500
"""Ports of one process: far more than are given and not yet listened on."""

_locks: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on. They are given to nobody else soon."""
    ports = _own(os.getpid())
    return [next(port for port in ports if _is_free(port)) for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@cache
def _own(process: int) -> Iterator[int]:
    """The range of a process, over and over, so that a port that was given comes again last.

    The process holds the range until it ends, by a name that the system gives to one at a time.
    """
    for first in range(FIRST, END - RANGE, RANGE):
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(f"\0neardup-test-ports-{first}")
        except OSError:
            lock.close()
            continue
        _locks.append(lock)
        return cycle(range(first, first + RANGE))
    raise AssertionError(f"too many processes take ports of {FIRST} to {END}")
