"""The served graph: equal to the oracle, and the same bits for a pair in every shape, at every position of a batch."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from core.errors import BadInputError, MismatchError
from scoring import tf_model
from scoring.card import read_card, write_card
from scoring.features import PairInputs
from scoring.model import PairModel
from scoring.model_folder import ModelFolder, checksums
from scoring.saved_model import GRAPH_FILE
from scoring.tf_model import OUTPUT, SHAPES, SIGNATURE, TfPairModel, padded_slices
from tests.support.fake_model import card, random_codes
from training import export as export_module
from training.branches import first_layer_mask
from training.exact_network import Calibration, ExactNetwork, quantise
from training.export import export, pair_graph

BITS = 256
SAMPLE = Path(__file__).parents[2] / "examples" / "photos"


VALUED = PairInputs(bits=64, values=40)


def make_valued_network() -> ExactNetwork:
    """A network that looks at bits and values."""
    random = np.random.RandomState(1)
    weights = [random.standard_normal(shape).astype(np.float32) / shape[0] for shape in ((VALUED.size, 32), (32, 1))]
    weights[0][: VALUED.bits] *= 64
    return quantise(weights, [np.zeros(32, np.float32), np.zeros(1, np.float32)], Calibration(0.5, -0.3), VALUED)


def make_network(bits: int = BITS, hidden: tuple[int, ...] = (48, 16)) -> ExactNetwork:
    random = np.random.RandomState(1)
    sizes = (bits, *hidden, 1)
    weights = [(random.standard_normal(shape) * (2 / shape[0]) ** 0.5).astype(np.float32) for shape in pairwise(sizes)]
    biases = [(0.1 * random.standard_normal(size)).astype(np.float32) for size in sizes[1:]]
    return quantise(weights, biases, Calibration(1.7, -0.3))


@pytest.fixture(scope="module")
def network() -> ExactNetwork:
    return make_network()


@pytest.fixture(scope="module")
def models(network: ExactNetwork, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    folder = ModelFolder(tmp_path_factory.mktemp("models"))
    export(network, card(bits=BITS), folder)
    folder.use("v1")
    return folder


@pytest.fixture(scope="module")
def model(models: ModelFolder) -> PairModel:
    return models.load("v1", TfPairModel)


@pytest.fixture(scope="module")
def sample_model() -> PairModel:
    folder = ModelFolder(SAMPLE / "model")
    made = folder.load(folder.served(), TfPairModel)
    made.warm_up()
    return made


@pytest.mark.parametrize("pairs", [0, 1, 15, 16, 17, 128, 129, 1000, 1024, 1025, 3000])
def test_equals_the_oracle(model: PairModel, network: ExactNetwork, pairs: int) -> None:
    left, right = random_codes(pairs, pairs, BITS // 8)
    scores = model.score(left, right)
    assert (scores.dtype, scores.shape) == (np.float32, (pairs,))
    # The last step, the sigmoid, is not ours: one unit in the last place is allowed. All before it is exact.
    np.testing.assert_array_max_ulp(scores, network.probabilities(left, right), 1)


def test_values_equal_the_oracle_in_every_batch(models: ModelFolder) -> None:
    network = make_valued_network()
    written = export(network, card("valued", bits=VALUED.bits), models)
    assert (written.bits, written.values, written.code_bytes) == (64, 40, 48)
    model = models.load("valued", TfPairModel)
    left, right = random_codes(1500, 0, VALUED.code_bytes)
    scores = model.score(left, right)
    np.testing.assert_array_max_ulp(scores, network.probabilities(left, right), 1)
    assert len(np.unique(scores)) > 700
    cuts = [1, 17, 100, 900, 1037]
    for one, other, expected in zip(*(np.split(array, cuts) for array in (left, right, scores)), strict=True):
        np.testing.assert_array_equal(model.score(one, other), expected)
        np.testing.assert_array_equal(model.score(other, one), expected)


def make_branches(hidden: tuple[int, ...] = (32, 8)) -> ExactNetwork:
    """A network whose first layer has branches."""
    inputs = PairInputs(bits=64, values=48, xor=False)
    random = np.random.RandomState(2)
    sizes = (inputs.size, *hidden, 1)
    weights = [(random.standard_normal(shape) / shape[0]).astype(np.float32) for shape in pairwise(sizes)]
    weights[0] *= first_layer_mask(inputs, hidden[0])
    biases = [(0.1 * random.standard_normal(size)).astype(np.float32) for size in sizes[1:]]
    return quantise(weights, biases, Calibration(0.5, -0.3), inputs)


def products(network: ExactNetwork) -> list[tuple[int, ...]]:
    """The weights of the graph's matrix products, by their shapes."""
    graph = pair_graph(network).get_concrete_function().graph
    return [tuple(one.inputs[1].shape) for one in graph.get_operations() if one.type == "MatMul"]


@pytest.mark.parametrize("hidden", [(32, 8), (32,)])
def test_each_tower_is_a_product_of_its_own_and_equals_the_oracle(
    models: ModelFolder, monkeypatch: pytest.MonkeyPatch, hidden: tuple[int, ...]
) -> None:
    network = make_branches(hidden)
    later = [*pairwise((*hidden, 1))]
    assert products(network) == [(48, 16), (48, 16), *later]
    name = f"branches{len(hidden)}"
    export(network, card(f"{name}-apart", bits=64), models)
    monkeypatch.setattr(export_module, "has_branches", lambda weights, inputs: False)
    assert products(network) == [(96, 32), *later]
    export(network, card(f"{name}-whole", bits=64), models)
    left, right = random_codes(1500, 0, network.inputs.code_bytes)
    apart, whole = (models.load(f"{name}-{kind}", TfPairModel) for kind in ("apart", "whole"))
    assert isinstance(apart, TfPairModel)
    assert isinstance(whole, TfPairModel)
    assert apart.operations("MatMul") == whole.operations("MatMul") + 1 == len(hidden) + 2
    apart.warm_up()
    scores = apart.score(left, right)
    assert len(np.unique(scores)) > 700
    np.testing.assert_array_equal(scores, whole.score(left, right))
    np.testing.assert_array_max_ulp(scores, network.probabilities(left, right), 1)
    cuts = [1, 17, 100, 900, 1037]
    for one, other, expected in zip(*(np.split(array, cuts) for array in (left, right, scores)), strict=True):
        np.testing.assert_array_equal(apart.score(other, one), expected)


def test_every_row_of_every_shape_gives_identical_bits(sample_model: PairModel) -> None:
    """Each pair visits every shape and, over the rotations, rows all through it, among ever other neighbours."""
    assert isinstance(sample_model, TfPairModel)
    rows = SHAPES[-1]
    left, right = random_codes(rows, 5, sample_model.card.code_bytes)
    right[::3] = left[::3] ^ (right[::3] & right[1::3][: len(right[::3])].mean(axis=0).astype(np.uint8) & 7)
    expected = sample_model._run(left, right)
    assert len(np.unique(expected)) > rows // 2
    for shape in SHAPES:
        for shift in {0, 1, 2, 3, 7, shape // 2, shape - 1}:
            one, other = np.roll(left, shift, axis=0), np.roll(right, shift, axis=0)
            for start in range(0, rows, shape):
                stop = start + shape
                scores = sample_model._run(one[start:stop], other[start:stop])
                np.testing.assert_array_equal(scores, np.roll(expected, shift)[start:stop])


def test_any_split_into_batches_gives_identical_bits(sample_model: PairModel) -> None:
    left, right = random_codes(2500, 6, sample_model.card.code_bytes)
    expected = sample_model.score(left, right)
    random = np.random.RandomState(0)
    for _ in range(10):
        cuts = np.sort(random.choice(2500, 12, replace=False))
        parts = [
            sample_model.score(one, other)
            for one, other in zip(np.split(left, cuts), np.split(right, cuts), strict=True)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_the_score_is_symmetric(sample_model: PairModel) -> None:
    left, right = random_codes(700, 7, sample_model.card.code_bytes)
    np.testing.assert_array_equal(sample_model.score(left, right), sample_model.score(right, left))


def test_threads_may_score_at_once(model: PairModel) -> None:
    left, right = random_codes(900, 8, BITS // 8)
    expected = model.score(left, right)
    start = threading.Barrier(4)

    def score() -> np.ndarray:
        start.wait()
        return model.score(left, right)

    with ThreadPoolExecutor(4) as pool:
        for answer in [pool.submit(score) for _ in range(4)]:
            np.testing.assert_array_equal(answer.result(), expected)


def test_codes_of_another_length_are_refused(model: PairModel) -> None:
    with pytest.raises(BadInputError, match=r"\(n, 32\) uint8 were expected, not \(3, 31\)"):
        model.score(*random_codes(3, code_bytes=31))
    with pytest.raises(BadInputError, match="3 codes cannot be paired with 2"):
        model.score(random_codes(3, code_bytes=32)[0], random_codes(2, code_bytes=32)[0])


@pytest.mark.parametrize("pairs", [0, 1, 16, 17, 128, 129, 1023, 1024, 1025, 2048, 5000])
def test_padded_slices_cover_every_pair_once(pairs: int) -> None:
    slices = padded_slices(pairs)
    assert [row for start, stop, _ in slices for row in range(start, stop)] == list(range(pairs))
    assert all(0 < stop - start <= rows and rows in SHAPES for start, stop, rows in slices)


def test_compiled_and_plain_graphs_give_the_same_bits(models: ModelFolder, model: PairModel) -> None:
    compiled = models.load("v1", TfPairModel)
    compiled.warm_up()
    assert isinstance(compiled, TfPairModel)
    assert isinstance(model, TfPairModel)
    assert (sorted(compiled._compiled), model._compiled) == (list(SHAPES), {})
    left, right = random_codes(2100, 10, BITS // 8)
    np.testing.assert_array_equal(compiled.score(left, right), model.score(left, right))


def test_a_large_network_is_not_compiled(models: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf_model, "COMPILED_PARAMETERS", 1000)
    plain = models.load("v1", TfPairModel)
    plain.warm_up()
    assert isinstance(plain, TfPairModel)
    assert plain._compiled == {}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What TensorFlow is told: no test may change it for the ones that follow."""
    found: dict[str, object] = {}
    config = tf_model.tf.config
    monkeypatch.setattr(
        config.experimental, "enable_tensor_float_32_execution", lambda on: found.update(mixed_precision=on)
    )
    monkeypatch.setattr(tf_model, "_limit", lambda within, between: found.update(within=within, between=between))
    return found


def test_on_a_graphics_card_products_run_in_mixed_precision_and_the_log_says_what_that_costs(
    told: dict[str, object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cards = [tf_model.tf.config.PhysicalDevice(f"/physical_device:GPU:{number}", "GPU") for number in (0, 1)]
    monkeypatch.setattr(tf_model.tf.config, "list_physical_devices", lambda kind: cards if kind == "GPU" else [])
    TfPairModel.configure(3)
    assert told == {"within": 1, "between": 3, "mixed_precision": True}
    assert "scores come from 2 graphics card(s), in mixed precision: they may change with the batch" in caplog.text


def test_without_a_graphics_card_precision_is_left_alone(
    told: dict[str, object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tf_model.tf.config, "list_physical_devices", lambda kind: ["a CPU"] if kind == "CPU" else [])
    TfPairModel.configure(2)
    assert told == {"within": 1, "between": 2}
    assert caplog.text == ""


def test_shapes_fill_vector_registers() -> None:
    assert list(SHAPES) == sorted(SHAPES)
    assert all(rows % 16 == 0 for rows in SHAPES)


def test_a_graph_for_other_codes_than_its_card_says_is_refused(models: ModelFolder) -> None:
    export(make_network(bits=128), card("v2", bits=128), models)
    path = models.path("v2")
    stored = read_card(path)
    write_card(replace(card("v2", bits=BITS), files_sha256=stored.files_sha256), path)
    with pytest.raises(MismatchError, match=r"takes codes of 16 bytes \(left\), its card says 32"):
        models.load("v2", TfPairModel)
    write_card(stored, path)
    models.load("v2", TfPairModel)


def test_a_damaged_model_file_is_refused(models: ModelFolder, network: ExactNetwork) -> None:
    export(network, card("v3", bits=BITS), models)
    file = models.path("v3") / "saved_model.pb"
    content = file.read_bytes()
    file.write_bytes(content[:1000] + b"\0" + content[1001:])
    with pytest.raises(BadInputError, match=r"saved_model\.pb of the model v3 is damaged"):
        models.load("v3", TfPairModel)
    file.write_bytes(b"nothing")
    with pytest.raises(BadInputError, match=r"v3.* cannot be opened"):
        TfPairModel.load(models.path("v3"), read_card(models.path("v3")))


def test_a_version_that_is_there_is_not_written_again(models: ModelFolder, network: ExactNetwork) -> None:
    written = export(network, card("v4", bits=BITS), models)
    assert (written.bits, written.hidden, written.parameters) == (BITS, (48, 16), network.parameters)
    assert abs(datetime.fromisoformat(written.exported_at) - datetime.now(UTC)) < timedelta(hours=1)
    stored = (models.path("v4") / "metadata.json").read_bytes()
    with pytest.raises(BadInputError, match="the version v4 exists already"):
        export(network, replace(written, metrics={"other": 1.0}), models)
    assert (models.path("v4") / "metadata.json").read_bytes() == stored
    # What a killed export left behind is in nobody's way.
    partial = models.path("v5").with_name(".v5.partial")
    partial.mkdir()
    (partial / "left over").touch()
    export(network, card("v5", bits=BITS), models)
    assert not (models.path("v5") / "left over").exists()
    assert models.served() == "v1"


def test_the_sample_model_is_for_the_samples_codes(sample_model: PairModel) -> None:
    from stream.hashing import code_embedding, code_settings
    from stream.settings import load_settings

    settings = load_settings(SAMPLE.parents[1] / "neardup.toml")
    _, signal = settings.signal("photos")
    code = code_settings(settings, signal)
    assert sample_model.card.code_fingerprint == code.build().fingerprint
    assert (sample_model.card.embedding_name, sample_model.card.embedding_version) == code_embedding(signal, code)


def listed(path: Path) -> None:
    """Makes the card list the files as they are now: an attacker can write a card too."""
    write_card(replace(read_card(path), files_sha256=checksums(path)), path)


def test_a_graph_that_writes_a_file_is_refused_before_it_runs(models: ModelFolder, tmp_path: Path) -> None:
    tf = tf_model.tf
    target = tmp_path / "written"
    width = tf.TensorSpec((None, BITS // 8), tf.uint8)

    @tf.function(input_signature=[width, width], autograph=False)
    def score(left: Any, right: Any) -> Any:
        del right
        with tf.control_dependencies([tf.io.write_file(str(target), tf.constant("loaded"))]):
            return {OUTPUT: tf.cast(left[:, 0], tf.float32)}

    path = models.path("v9")
    module = tf.Module()
    module.score = score
    tf.saved_model.save(module, str(path), signatures={SIGNATURE: score})
    write_card(card("v9", bits=BITS), path)
    listed(path)
    with pytest.raises(BadInputError, match=r"saved_model\.pb: the operation 'WriteFile' .* is not allowed"):
        models.load("v9", TfPairModel)
    assert not target.exists()


def changed_graph(models: ModelFolder, network: ExactNetwork, change: Callable[[Any], None]) -> None:
    """Exports a version `v9` and changes its graph behind its back."""
    path = models.path("v9")
    shutil.rmtree(path, ignore_errors=True)
    export(network, card("v9", bits=BITS), models)
    saved = SavedModel.FromString((path / GRAPH_FILE).read_bytes())
    change(saved)
    (path / GRAPH_FILE).write_bytes(saved.SerializeToString())
    listed(path)


def add_operation(saved: Any) -> None:
    saved.meta_graphs[0].graph_def.node.add(name="odd", op="ReadFile")


def add_operation_in_a_function(saved: Any) -> None:
    saved.meta_graphs[0].graph_def.library.function[0].node_def.add(name="odd", op="PyFunc")


def call_the_saver_from_a_function(saved: Any) -> None:
    library = saved.meta_graphs[0].graph_def.library.function
    saver = next(one.signature.name for one in library if any(node.op == "SaveV2" for node in one.node_def))
    scoring = next(one for one in library if any(node.op == "MatMul" for node in one.node_def))
    scoring.node_def.add(name="odd", op="PartitionedCall").attr["f"].func.name = saver


def offer_the_saver(saved: Any) -> None:
    graph = saved.meta_graphs[0]
    library = graph.graph_def.library.function
    saver = next(one.signature.name for one in library if any(node.op == "SaveV2" for node in one.node_def))
    graph.object_graph_def.nodes.add().bare_concrete_function.concrete_function_name = saver


def add_an_asset(saved: Any) -> None:
    saved.meta_graphs[0].object_graph_def.nodes.add().asset.asset_file_def_index = 0


def take_the_objects_away(saved: Any) -> None:
    saved.meta_graphs[0].ClearField("object_graph_def")


def add_a_graph(saved: Any) -> None:
    saved.meta_graphs.add()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add_operation, "operation 'ReadFile'"),
        (add_operation_in_a_function, "operation 'PyFunc'"),
        (call_the_saver_from_a_function, "'odd' calls .* reads or writes files"),
        (offer_the_saver, "offered to callers"),
        (add_an_asset, "object of the kind 'asset'"),
        (take_the_objects_away, "one graph with its objects"),
        (add_a_graph, "it holds 2"),
    ],
)
def test_a_graph_that_does_more_than_compute_is_refused(
    models: ModelFolder, network: ExactNetwork, change: Callable[[Any], None], message: str
) -> None:
    changed_graph(models, network, change)
    with pytest.raises(BadInputError, match=message):
        models.load("v9", TfPairModel)
