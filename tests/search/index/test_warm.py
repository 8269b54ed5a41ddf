"""Set-up leaves the kernels of the index compiled, where a server looks for them."""

from __future__ import annotations

import runpy
from pathlib import Path

import numba
import pytest


@pytest.mark.parametrize("kernel", ["tail._scan", "segment_search.search_segment", "posting_lists."])
def test_the_kernels_are_kept_where_a_server_looks_for_them(kernel: str) -> None:
    runpy.run_module("search.index.warm", run_name="__main__")
    kept = [path.name for path in Path(numba.config.CACHE_DIR).rglob("*.nbi")]
    assert [name for name in kept if name.startswith(kernel)]
