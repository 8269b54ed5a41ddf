"""The number of threads that the matrix products of a server or a long command use."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec

__all__ = ["use_one_blas_thread"]

log = logging.getLogger(__name__)


def use_one_blas_thread() -> None:
    """Runs the matrix products of this process on the calling thread: of a server, or of a command that hashes much.

    The products of a micro-batch take milliseconds. BLAS threads wait for each other by spinning, which costs far more
    than it saves on a busy machine. Measured with two busy cores, for the terms and codes of 64 images: 163 ms on two
    threads, 18 ms on one. The resulting bits are the same.
    """
    if find_spec("threadpoolctl") is None:
        log.warning("threadpoolctl is not installed: set OPENBLAS_NUM_THREADS=1 for this server")
        return
    import_module("threadpoolctl").threadpool_limits(limits=1, user_api="blas")
