"""The scorer of `docs/extending.md`: named in the settings, it is what a real scorer server loads and serves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from core.errors import UnavailableError
from scoring.features import hamming_distances
from scoring.model_folder import ModelFolder
from scoring.serving.client import ScorerClient
from scoring.serving.scorer_pb2 import PairBlock
from tests.support.fake_model import random_codes
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "extending" / "another_scorer.py"
SAMPLE = ROOT / "examples" / "photos"

SETTINGS = """
[signals.photos]
search_embedding = {{ name = "mobilenet_v2_1.0_224", model_version = "1", dimension = 1280 }}
score_embedding = {{ name = "mobilenet_v1_0.75_192", model_version = "1", dimension = 768 }}
centres = "{sample}/centres.npz"
model = "model"
model_class = "another_scorer:HammingModel"
code = {{ projection = "{sample}/projection.npz", bits = 512, signs = true }}
scorer = {{ port = {port}, metrics_port = {page} }}
"""

SERVE = """
import sys
from pathlib import Path
from stream.servers import serve_scorer
from stream.settings import load_settings
serve_scorer(load_settings(Path(sys.argv[1])))
assert "tensorflow" not in sys.modules
"""


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    """The sample's models, with the version that the example adds as the served one."""
    made = ModelFolder(tmp_path / "model")
    shutil.copytree(SAMPLE / "model", made.folder)
    subprocess.run([sys.executable, EXAMPLE, made.folder], env=environment(), check=True, timeout=60)
    made.use("hamming")
    return made


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(EXAMPLE.parent)])}


def test_a_named_class_is_served(tmp_path: Path, folder: ModelFolder) -> None:
    port, page = free_ports(2)
    settings = tmp_path / "neardup.toml"
    settings.write_text(SETTINGS.format(sample=SAMPLE, port=port, page=page))
    process = subprocess.Popen([sys.executable, "-c", SERVE, settings], env=environment())
    client = ScorerClient(f"127.0.0.1:{port}", 10.0, 1 << 22)
    try:
        card = folder.card("hamming")
        left, right = random_codes(2_000, code_bytes=card.code_bytes)
        right[0] = left[0]
        response = asked(client, process, PairBlock(query_code=left[0].tobytes(), candidate_codes=right.tobytes()))
        assert response.model_version == "hamming"
        assert (response.accept, response.head_accept, response.adopt) == (0.8125, 0.75, 0.8125)
        scores = np.frombuffer(response.scores[0], dtype="<f4")
        bits = card.bits // 8
        wanted = 1 - hamming_distances(left[0, :bits], right[:, :bits]) / card.bits
        np.testing.assert_allclose(scores, wanted, rtol=1e-6)
        assert scores[0] == 1.0
        process.terminate()
        assert process.wait(30) == 0
    finally:
        client.close()
        process.kill()
        process.wait()


def asked(client: ScorerClient, process: subprocess.Popen[bytes], block: PairBlock):  # type: ignore[no-untyped-def]
    for _ in range(600):
        try:
            return client.score([block])
        except UnavailableError:
            assert process.poll() is None
            Event().wait(0.1)
    raise AssertionError("the scorer did not come up")
