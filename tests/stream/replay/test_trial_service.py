"""The codes of images that were never scored are those that the index would give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.rpc import CALLER
from core.types import Cause, ImageId, Versions
from storage.records import EmbeddingRecord, ImageRecord
from storage.selecting import SelectedImage
from storage.serving.client import StorageClient
from stream.hashing import code_settings
from stream.replay.trial_service import TrialService
from tests.support.stack import sample_rows, stack_settings


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_a_code_is_computed_from_the_stored_vectors(tmp_path: Path, dtype: str) -> None:
    settings = stack_settings(tmp_path)
    name, signal = settings.signal()
    [row] = sample_rows(1)
    search, score = (np.frombuffer(vector.data, "<f2").astype(dtype) for vector in (row.search, row.score))
    image = ImageRecord(
        ImageId("a"), 1, 0, ImageId("a"), None, None, Cause.UNSCORED, 0, 0, 0, Versions(), 1, unscored=True
    )
    one = SelectedImage(image, True, EmbeddingRecord(0, image.image_id, 1, b"", search.tobytes(), score.tobytes()))
    coder = code_settings(settings, signal).build()
    storage = StorageClient("127.0.0.1:1", 1.0, 1 << 20)
    with TrialService(settings, name, storage, "") as trial:
        code = trial._settings.code(one)
        assert (CALLER, "replay") in trial._servers.search._metadata  # type: ignore[attr-defined]
    storage.close()
    assert code == bytes(coder.codes([score.astype("<f4")], [search.astype("<f4")])[0])
    assert len(code) == coder.code_bytes
