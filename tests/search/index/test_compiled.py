"""The machine code of the inner loops is cached, and never outlives the source that it was made from."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numba

from search.index import compiled
from search.index.compiled import kept_in

ROOT = Path(__file__).parents[3]


def test_any_change_of_a_source_changes_the_folder(tmp_path: Path) -> None:
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


def test_all_kernels_lie_in_the_folder_that_is_hashed() -> None:
    """The digest and set-up's stamp read search/index/*.py alone, so no kernel may call code from elsewhere."""
    kernel = re.compile(r"^@(compiled|borrowing|inlined)$", re.MULTILINE)
    with_kernels = {path for path in (ROOT / "search").rglob("*.py") if kernel.search(path.read_text())}
    assert with_kernels
    assert {path.parent for path in with_kernels} == {ROOT / "search/index"}
    for path in with_kernels:
        names = re.findall(r"^from (?!__future__|search\.index\.)([\w.]+) import (.*)$", path.read_text(), re.MULTILINE)
        ours = {module for module, _ in names if module.partition(".")[0] in ("core", "search", "neardup")}
        assert ours <= {"core.types"}, f"{path.name} imports {ours}"
    assert "digest constraints.txt search/index/*.py" in (ROOT / "deploy/setup.sh").read_text()
