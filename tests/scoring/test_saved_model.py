"""Files of a model that are refused before anything reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import BadInputError
from scoring.saved_model import GRAPH_FILE, MAX_GRAPH_BYTES, check_saved_model


def test_a_graph_above_the_limit_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / GRAPH_FILE
    with file.open("wb") as sparse:
        sparse.truncate(MAX_GRAPH_BYTES + 1)

    def never(path: Path) -> bytes:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(Path, "read_bytes", never)
    with pytest.raises(BadInputError, match=rf"{GRAPH_FILE} has 268,435,457 bytes, the limit is 268,435,456"):
        check_saved_model(tmp_path)
