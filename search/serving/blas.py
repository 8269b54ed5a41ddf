"""How many threads the matrix products of a server use."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec

__all__ = ["use_one_blas_thread"]

log = logging.getLogger(__name__)


def use_one_blas_thread() -> None:
    """Keeps the matrix products of this process on the thread that asks for them.

    The products of a micro-batch take milliseconds; the threads of a BLAS wait for each other by spinning, which on a
    busy machine costs far more than it saves (measured with two cores, both busy: 163 ms for the terms and codes of
    64 images on two threads, 18 ms on one). The results are the same bits either way.
    """
    if find_spec("threadpoolctl") is None:
        log.warning("threadpoolctl is not installed: set OPENBLAS_NUM_THREADS=1 for this server")
        return
    import_module("threadpoolctl").threadpool_limits(limits=1, user_api="blas")
