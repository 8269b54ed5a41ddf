"""The scorer over real gRPC: answers, refusals, named versions, deadlines, and the whole server as a process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from core.errors import (
    BadInputError,
    BusyError,
    FaultError,
    MismatchError,
    RefusedError,
    SettingsError,
    UnavailableError,
)
from core.rpc import Listen, RpcServer
from core.types import Thresholds
from scoring.batching import ScoreBatchPolicy
from scoring.card import CARD_FILE, ModelCard, read_card, write_card
from scoring.code_identity import CodeIdentity
from scoring.loaded_models import LoadedModels
from scoring.model_folder import ModelFolder, checksums
from scoring.serving import scorer_pb2_grpc
from scoring.serving.client import ScorerClient
from scoring.serving.engine import ScorerEngine
from scoring.serving.metrics import ScorerMetrics
from scoring.serving.model_watch import ModelWatch
from scoring.serving.scorer_pb2 import PairBlock, ScoreRequest
from scoring.serving.server import PairScorerService, ScorerServerSettings
from stream.model_versions import Change, change_served, roll_back_served
from tests.support.fake_model import FakeModel, expected_scores, random_codes, write_version
from tests.support.ports import free_ports

SAMPLE_MODEL = Path(__file__).parents[3] / "examples" / "photos" / "model"
OTHER_LIMITS = Thresholds(accept=0.875, head_accept=0.25, adopt=0.5)
MESSAGE_BYTES = 1 << 20


@pytest.fixture
def models(tmp_path: Path) -> LoadedModels:
    write_version(tmp_path, "v1")
    write_version(tmp_path, "v2", OTHER_LIMITS, gate=30)
    folder = ModelFolder(tmp_path)
    folder.use("v1")
    return LoadedModels(folder, FakeModel)


@pytest.fixture
def fake(models: LoadedModels) -> Iterator[FakeModel]:
    served = models.served
    assert isinstance(served, FakeModel)
    yield served
    served.gate.set()


@pytest.fixture
def address(models: LoadedModels) -> Iterator[str]:
    port, page = free_ports(2)
    registry = CollectorRegistry()
    metrics = ScorerMetrics(registry)
    engine = ScorerEngine(ScoreBatchPolicy(64, 0.0, 500, 16), metrics)
    service = PairScorerService(models, engine, metrics, max_request_pairs=400)
    server = RpcServer(
        "scorer",
        Listen("127.0.0.1", port, page, MESSAGE_BYTES, workers=8),
        lambda grpc_server: scorer_pb2_grpc.add_PairScorerServicer_to_server(service, grpc_server),
        registry,
    )
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0.1)
    engine.stop()


@pytest.fixture
def watch(models: LoadedModels) -> Iterator[ModelWatch]:
    made = ModelWatch(models, ScorerMetrics(CollectorRegistry()), every_s=3600.0)
    yield made
    made.stop()


@pytest.fixture
def client(address: str) -> Iterator[ScorerClient]:
    made = ScorerClient(address, 5.0, MESSAGE_BYTES)
    yield made
    made.close()


def block(query: np.ndarray, others: np.ndarray) -> PairBlock:
    return PairBlock(query_code=query.tobytes(), candidate_codes=others.tobytes())


def scores_of(packed: bytes) -> np.ndarray:
    return np.frombuffer(packed, dtype="<f4")


def test_each_block_gets_the_scores_of_its_pairs(client: ScorerClient) -> None:
    queries, others = random_codes(30)
    parts = [others[:4], others[4:4], others[4:29]]
    response = client.score([block(query, part) for query, part in zip(queries, parts, strict=False)])
    assert response.model_version == "v1"
    assert (response.accept, response.head_accept, response.adopt) == (0.75, 0.5, 0.625)
    assert len(response.scores) == 3
    for query, part, packed in zip(queries, parts, response.scores, strict=False):
        np.testing.assert_array_equal(scores_of(packed), expected_scores(np.broadcast_to(query, part.shape), part))


def test_the_score_of_a_pair_is_the_same_for_either_order(client: ScorerClient) -> None:
    left, right = random_codes(20)
    one = client.score([block(query, other) for query, other in zip(left, right, strict=True)])
    other = client.score([block(query, other) for query, other in zip(right, left, strict=True)])
    assert one.scores == other.scores


def test_nothing_to_score(client: ScorerClient) -> None:
    query, _ = random_codes(1)
    response = client.score([PairBlock(query_code=query.tobytes())])
    assert (list(response.scores), response.model_version) == ([b""], "v1")


def test_a_request_may_name_its_version(client: ScorerClient) -> None:
    left, right = random_codes(2)
    response = client.score([block(left[0], right)], "v2")
    assert (response.model_version, response.accept, response.head_accept) == ("v2", 0.875, 0.25)
    assert client.score([block(left[0], right)], "v1").model_version == "v1"


def test_the_gate_comes_with_scores_and_description(client: ScorerClient, models: LoadedModels, tmp_path: Path) -> None:
    left, right = random_codes(2)
    assert not client.score([block(left[0], right)]).HasField("gate")
    assert not client.describe().HasField("gate")
    # An answer that was put together from two calls has it too.
    client._max_request_bytes = 60
    response = client.score([block(left[0], right), block(left[1], right)], "v2")
    assert (len(response.scores), response.HasField("gate"), response.gate) == (2, True, 30)
    ModelFolder(tmp_path).use("v2")
    models.refresh()
    assert client.describe().gate == 30


def test_describe_is_of_the_served_version(client: ScorerClient) -> None:
    described = client.describe()
    assert (described.model_version, described.code_fingerprint, described.code_bytes) == ("v1", "code", 8)
    assert (described.accept, described.head_accept, described.adopt) == (0.75, 0.5, 0.625)


@pytest.mark.parametrize(
    ("blocks", "version", "message"),
    [
        ([PairBlock(query_code=b"1234567")], "", "block 0: the query code has 7 bytes, the model takes 8"),
        (
            [PairBlock(query_code=b"12345678"), PairBlock(query_code=b"12345678", candidate_codes=b"x" * 20)],
            "",
            "block 1: the candidate codes have 20 bytes, no multiple of the model's 8",
        ),
        ([PairBlock(query_code=b"12345678", candidate_codes=b"x" * 8 * 401)], "", "at most 400 pairs, not 401"),
        ([], "", "at least one block of a query with its candidates"),
        ([], "v3", "no model version 'v3' in .*; the versions are: v1, v2"),
        ([], "../v1", "cannot name a model version"),
    ],
)
def test_bad_requests_are_refused_with_both_values(
    client: ScorerClient, blocks: list[PairBlock], version: str, message: str
) -> None:
    with pytest.raises(RefusedError, match=message):
        client.score(blocks, version)
    assert len(client.score([block(*random_codes(1))]).scores) == 1


def test_a_damaged_version_is_refused_and_the_served_one_goes_on(client: ScorerClient, tmp_path: Path) -> None:
    one = [block(*random_codes(1))]
    (tmp_path / "v2" / "metadata.json").write_text("{", encoding="utf-8")
    with pytest.raises(RefusedError, match="cannot be read"):
        client.score(one, "v2")
    (tmp_path / "v2" / "metadata.json").unlink()
    with pytest.raises(RefusedError, match=r"the model v2 has no metadata.json"):
        client.score(one, "v2")
    assert client.score(one).model_version == "v1"


def test_a_version_for_other_codes_is_refused_with_both_values(client: ScorerClient, tmp_path: Path) -> None:
    write_version(tmp_path, "other", fingerprint="elsewhere")
    write_version(tmp_path, "longer", bits=128)
    one = [block(*random_codes(1))]
    with pytest.raises(MismatchError, match="other codes: code fingerprint elsewhere instead of code"):
        client.score(one, "other")
    with pytest.raises(MismatchError, match="bits 128 instead of 64"):
        client.score(one, "longer")
    assert client.score(one).model_version == "v1"


def test_the_served_version_changes_while_requests_come(
    client: ScorerClient, tmp_path: Path, watch: ModelWatch
) -> None:
    one, folder = [block(*random_codes(1))], ModelFolder(tmp_path)
    folder.use("v2")
    watch.look()
    response = client.score(one)
    assert (response.model_version, response.accept) == ("v2", OTHER_LIMITS.accept)
    assert client.score(one, "v1").model_version == "v1"
    assert folder.roll_back() == ("v2", "v1")
    watch.look()
    assert client.score(one).model_version == "v1"
    assert client.describe().refusal == ""


def test_a_damaged_version_never_takes_the_place_of_the_served_one(
    client: ScorerClient, tmp_path: Path, watch: ModelWatch
) -> None:
    one, folder = [block(*random_codes(1))], ModelFolder(tmp_path)
    folder.use("v2")
    (tmp_path / "v2" / "metadata.json").unlink()
    watch.look()
    described = client.describe()
    assert (described.model_version, described.refused_version) == ("v1", "v2")
    assert "has no metadata.json" in described.refusal
    assert client.score(one).model_version == "v1"
    (tmp_path / "served").write_text("../v1\n", encoding="utf-8")
    watch.look()
    described = client.describe()
    assert (described.model_version, described.refused_version) == ("v1", "")
    assert "cannot name a model version" in described.refusal
    folder.restore(["v1"])
    watch.look()
    assert client.describe().refusal == ""


def test_large_calls_go_in_several_messages_by_one_version(address: str) -> None:
    small = ScorerClient(address, 5.0, 4096)
    left, right = random_codes(900)
    blocks = [block(left[at], right[at : at + 150]) for at in range(0, 900, 150)]
    response = small.score(blocks, "v2")
    small.close()
    assert response.model_version == "v2"
    assert [len(scores_of(packed)) for packed in response.scores] == [150] * 6


def test_all_messages_of_a_call_go_to_the_version_of_the_first(
    address: str, fake: FakeModel, models: LoadedModels, tmp_path: Path, watch: ModelWatch
) -> None:
    """The pointer moves while the first of two messages is being scored."""
    small = ScorerClient(address, 5.0, 4096)
    left, right = random_codes(600)
    blocks = [block(left[at], right[at : at + 300]) for at in (0, 300)]
    fake.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(small.score, blocks)
        assert fake.entered.wait(5)
        ModelFolder(tmp_path).use("v2")
        watch.look()
        assert models.served.card.version == "v2"
        fake.gate.set()
        response = answer.result()
    small.close()
    second = models.served
    assert isinstance(second, FakeModel)
    assert (sum(fake.batches), sum(second.batches)) == (600, 0)
    assert (response.model_version, response.accept, len(response.scores)) == ("v1", 0.75, 2)


def test_a_block_beyond_any_message_is_named(address: str) -> None:
    small = ScorerClient(address, 5.0, 4096)
    with pytest.raises(BadInputError, match="block 1 has 4032 bytes, a message holds 3072"):
        small.score([PairBlock(), PairBlock(query_code=b"12345678", candidate_codes=b"x" * 4000)])
    small.close()


def test_a_failing_model_is_a_fault_and_a_full_queue_a_reason_to_wait(client: ScorerClient, fake: FakeModel) -> None:
    left, right = random_codes(400)
    fake.error = ZeroDivisionError("a bug")
    with pytest.raises(FaultError, match="a bug"):
        client.score([block(left[0], right)])
    fake.error = None
    fake.gate.clear()
    fake.entered.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.score, [block(left[0], right)])
        assert fake.entered.wait(5)
        with pytest.raises(UnavailableError, match="queue is full") as caught:
            client.score([block(left[0], right)])
        assert caught.value.retry_after_s is not None
        fake.gate.set()
        assert len(first.result().scores[0]) == 1600


def test_the_callers_deadline_holds(address: str, client: ScorerClient, fake: FakeModel) -> None:
    hasty = ScorerClient(address, 0.2, MESSAGE_BYTES)
    left, right = random_codes(3)
    fake.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.score, [block(left[0], right[:1])])
        assert fake.entered.wait(5)
        with pytest.raises(UnavailableError):
            hasty.score([block(left[0], right)])
        fake.gate.set()
        first.result()
    client.score([block(left[0], right[:2])])
    hasty.close()
    assert 3 not in fake.batches


@pytest.mark.parametrize(
    "values",
    [{"max_request_pairs": 500_000}, {"max_request_pairs": 0}, {"threads": 0}, {"max_pairs": 0}, {"watch_s": 0}],
)
def test_settings_must_fit_each_other(values: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        ScorerServerSettings(Listen("127.0.0.1", 1, 2, 1 << 20), Path("model"), **values)


SERVE = """
import sys
from pathlib import Path
from core.rpc import Listen
from scoring.serving.server import ScorerServerSettings, serve
port, page, model = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
serve(ScorerServerSettings(Listen("127.0.0.1", port, page, 1 << 25), model))
"""


def second_version(folder: ModelFolder, version: str) -> str:
    """A copy of the served version under another name; gives the served one."""
    served = folder.served()
    shutil.copytree(folder.path(served), folder.path(version))
    write_card(replace(read_card_as(folder.path(version), served), version=version), folder.path(version))
    return served


def read_card_as(folder: Path, version: str) -> ModelCard:
    with TemporaryDirectory() as named:
        copy = Path(named) / version
        copy.mkdir()
        shutil.copy(folder / CARD_FILE, copy)
        return read_card(copy)


def test_the_sample_model_is_served_by_a_process_changed_while_it_runs_and_stopped(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path / "model")
    shutil.copytree(SAMPLE_MODEL, folder.folder)
    first = second_version(folder, "second")
    port, page = free_ports(2)
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(port), str(page), os.fspath(folder.folder)])
    client = ScorerClient(f"127.0.0.1:{port}", 10.0, 1 << 25)
    try:
        described = wait_for(client, process)
        left, right = random_codes(300, code_bytes=described.code_bytes)
        response = client.score([block(left[0], right), block(left[1], left[1:2])])
        scores = scores_of(response.scores[0])
        assert ((scores >= 0) & (scores <= 1)).all()
        assert scores_of(response.scores[1])[0] > response.accept
        metrics = httpx.get(f"http://127.0.0.1:{page}/metrics").text
        assert "neardup_scorer_pairs_total 301.0" in metrics
        assert f'neardup_scorer_model_info{{version="{described.model_version}"}} 1.0' in metrics
        codes = CodeIdentity.of(folder.card(first))
        assert change_served(folder, "second", codes, client) == Change(first, "second", confirmed=True)
        again = client.score([block(left[0], right)])
        assert (again.model_version, again.scores[0]) == ("second", response.scores[0])
        third = folder.path("third")
        second_version(folder, "third")
        (third / "saved_model.pb").write_bytes(b"damaged")
        write_card(replace(folder.card("third"), files_sha256=checksums(third)), third)
        with pytest.raises(
            BadInputError, match=r"the scorer refused it: .*cannot be opened.*it goes on serving second"
        ):
            change_served(folder, "third", codes, client)
        assert folder.served() == "second"
        assert roll_back_served(folder, codes, client) == Change("second", first, confirmed=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        client.close()
        process.kill()
        process.wait()


def wait_for(client: ScorerClient, process: subprocess.Popen[bytes]):  # type: ignore[no-untyped-def]
    for _ in range(600):
        try:
            return client.describe()
        except UnavailableError:
            assert process.poll() is None
            Event().wait(0.1)
    raise AssertionError("the scorer did not come up")


def test_a_call_over_the_bytes_is_rejected_before_its_codes_are_unpacked(
    models: LoadedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = ScorerMetrics(CollectorRegistry())
    engine = ScorerEngine(ScoreBatchPolicy(64, 0.0, 500, 16), metrics)
    service = PairScorerService(models, engine, metrics, max_request_pairs=400, max_unpacked_bytes=400)
    unpacked: list[int] = []
    monkeypatch.setattr("scoring.serving.server._codes", lambda blocks, *_: unpacked.append(len(blocks)))
    left, right = random_codes(20)
    request = ScoreRequest(blocks=[block(left[0], right)])  # 2 * 20 * 8 bytes
    with service._unpacked.hold(81), pytest.raises(BusyError, match="320 more would exceed 400") as caught:
        service.Score(request, None)  # type: ignore[arg-type]
    assert caught.value.retry_after_s
    assert unpacked == []
    engine.stop()
