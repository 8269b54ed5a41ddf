"""Machine code of the inner loops is kept, and never outlives the source that it was made from."""

from __future__ import annotations

import os
from pathlib import Path

import numba

from search.index import compiled
from search.index.compiled import kept_in


def test_any_change_of_a_source_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "outer.py").write_text("a = 1")
    (tmp_path / "inner.py").write_text("b = 1")
    before = kept_in(tmp_path)
    assert kept_in(tmp_path) == before
    (tmp_path / "inner.py").write_text("b = 2")
    changed = kept_in(tmp_path)
    (tmp_path / "inner.py").rename(tmp_path / "moved.py")
    assert len({before, changed, kept_in(tmp_path)}) == 3


def test_it_is_where_numba_keeps_it() -> None:
    own = str(kept_in(Path(compiled.__file__).parent))
    assert os.environ.get("NUMBA_CACHE_DIR", own) == numba.config.CACHE_DIR
