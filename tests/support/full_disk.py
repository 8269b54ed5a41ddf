"""Parts of a deployment whose disk is full: each write to a file fails, as the kernel refuses to let files grow."""

from __future__ import annotations

import resource
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from stream.local.supervisor import Deployment

_LOOK_S = 0.2


@contextmanager
def full_disk(deployment: Deployment, parts: Collection[str]) -> Iterator[None]:
    """Within, these parts cannot write, also when the supervisor has started them anew."""
    over = threading.Event()

    def keep_full() -> None:
        while not over.wait(_LOOK_S):
            _limit(deployment, parts, 1)

    keeper = threading.Thread(target=keep_full)
    _limit(deployment, parts, 1)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        _limit(deployment, parts, None)


def _limit(deployment: Deployment, parts: Collection[str], size: int | None) -> None:
    """Sets the largest file that the parts may write, in bytes; None: no limit."""
    for status in deployment.status():
        if status.name in parts and status.pid:
            with suppress(ProcessLookupError):
                _, most = resource.prlimit(status.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(status.pid, resource.RLIMIT_FSIZE, (most if size is None else size, most))
