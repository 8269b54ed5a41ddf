"""A server's products stay on one thread, and a missing package is no more than a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core import blas

ROOT = Path(__file__).parents[3]
PROGRAM = """
import numpy
from threadpoolctl import threadpool_info
from core.blas import use_one_blas_thread
use_one_blas_thread()
numpy.ones((300, 300)) @ numpy.ones((300, 300))
pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
assert pools and set(pools) == {1}, pools
"""


def test_products_use_one_thread() -> None:
    # In a process of its own: the limit holds for the whole process.
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, check=True, timeout=120)


def test_without_the_package_the_server_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blas, "find_spec", lambda name: None)
    blas.use_one_blas_thread()
    assert "OPENBLAS_NUM_THREADS=1" in caplog.text
