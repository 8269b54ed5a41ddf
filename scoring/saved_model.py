"""Checks what a SavedModel would do before TensorFlow loads it.

A graph may read and write files, start a server or call back into Python. Of the operations here none does: they
compute, or read the model's own variables. Any other is refused by name.

TensorFlow adds two functions of its own to every SavedModel, which save and restore its variables. They hold operations
on files. So they may be called by the two nodes that the saver names, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from core.errors import BadInputError

__all__ = ["GRAPH_FILE", "MAX_GRAPH_BYTES", "OPERATIONS", "check_saved_model"]

GRAPH_FILE = "saved_model.pb"
"""The file of the graph in a SavedModel's folder."""

MAX_GRAPH_BYTES = 256 << 20
"""The largest graph that is read."""

_COMPUTING = """
Abs Add AddN AddV2 All Any ArgMax ArgMin BatchMatMul BatchMatMulV2 BiasAdd Bitcast BitwiseAnd BitwiseOr BitwiseXor
BroadcastTo Cast Ceil ClipByValue ConcatV2 Const Div DivNoNan Einsum Elu Equal Erf Exp ExpandDims Fill Floor FloorDiv
FloorMod FusedBatchNormV3 GatherV2 Greater GreaterEqual Identity IdentityN Invert L2Loss LeakyRelu LeftShift Less
LessEqual Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul Max Maximum Mean Min Minimum Mul Neg NoOp
NotEqual OneHot OnesLike Pack Pad PadV2 PartitionedCall Placeholder PlaceholderWithDefault PopulationCount Pow Prod
Range ReadVariableOp RealDiv Reciprocal Relu Relu6 Reshape RightShift Round Rsqrt Select SelectV2 Selu Shape Sigmoid
Sign Slice Softmax Softplus Softsign Split SplitV Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall
StopGradient StridedSlice Sub Sum Tanh Tile Transpose Unpack VarHandleOp Where ZerosLike
"""

OPERATIONS = frozenset(_COMPUTING.split())
"""What a graph may do anywhere."""

_SAVER_OPERATIONS = frozenset(
    {
        "AssignVariableOp",
        "MergeV2Checkpoints",
        "RestoreV2",
        "SaveV2",
        "ShardedFilename",
        "StaticRegexFullMatch",
        "StringJoin",
    }
)
"""What the functions that save and restore variables may do besides."""

_OBJECTS = frozenset({"user_object", "function", "bare_concrete_function", "variable", "constant"})
"""Kinds of objects that run nothing while they are loaded; assets and resources do."""


def check_saved_model(folder: Path) -> None:
    """Checks a SavedModel without running any of it.

    Raises:
        BadInputError: It cannot be read, is too large, or holds an operation or an object that is not allowed.
    """
    path = folder / GRAPH_FILE
    graph = _read(path)
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    saving = {name for name, nodes in functions.items() if any(node.op in _SAVER_OPERATIONS for node in nodes)}
    saver = graph.saver_def
    may_save = {saver.save_tensor_name.partition(":")[0], saver.restore_op_name}
    for node in graph.graph_def.node:
        _check_node(path, node, OPERATIONS, set() if node.name in may_save else saving)
    for name, nodes in functions.items():
        allowed = OPERATIONS | _SAVER_OPERATIONS if name in saving else OPERATIONS
        for node in nodes:
            _check_node(path, node, allowed, saving)
    for called in _loaded_functions(path, graph.object_graph_def):
        if called in saving:
            raise BadInputError(f"{path}: the function {called!r} is offered to callers and writes files")


def _read(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MAX_GRAPH_BYTES:
            raise BadInputError(f"{path} has {size:,} bytes, the limit is {MAX_GRAPH_BYTES:,}")
        graphs = SavedModel.FromString(path.read_bytes()).meta_graphs
    except OSError as error:
        raise BadInputError(f"{path} cannot be opened: {error.strerror or error}") from error
    except DecodeError as error:
        raise BadInputError(f"{path} cannot be opened: it is no SavedModel ({error})") from error
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        # TensorFlow would load the graph by its older way, which runs an operation that the file names.
        raise BadInputError(f"{path} cannot be opened: it must hold one graph with its objects, it holds {len(graphs)}")
    return graphs[0]


def _check_node(path: Path, node: Any, allowed: frozenset[str], forbidden_functions: Iterable[str]) -> None:
    if node.op not in allowed:
        raise BadInputError(f"{path}: the operation {node.op!r} (node {node.name!r}) is not allowed in a model")
    for name in _called(node):
        if name in forbidden_functions:
            raise BadInputError(f"{path}: the node {node.name!r} calls {name!r}, which reads or writes files")


def _called(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        for function in value.list.func:
            yield function.name


def _loaded_functions(path: Path, objects: Any) -> Iterator[str]:
    """The functions that become callable when the objects are loaded."""
    for item in objects.nodes:
        kind = item.WhichOneof("kind")
        if kind not in _OBJECTS:
            raise BadInputError(f"{path}: an object of the kind {kind!r} is not allowed in a model")
        if kind == "function":
            yield from item.function.concrete_functions
        elif kind == "bare_concrete_function":
            yield item.bare_concrete_function.concrete_function_name
        for saveable in item.saveable_objects.values():
            raise BadInputError(f"{path}: an object with its own way of saving is not allowed in a model: {saveable}")
