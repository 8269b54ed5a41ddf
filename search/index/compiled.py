"""How the inner loops are compiled (numba, without the GIL), and three processor instructions that Python lacks.

numba counts references to each array that a function takes, gets in a tuple or slices, with atomic instructions. In a
function of a few nanoseconds that costs more than the work. So functions that make no arrays of their own are compiled
without reference counts, and small ones are inlined.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["borrowing", "compiled", "inlined", "kept_in", "load64", "ones", "prefetch", "whole"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def kept_in(folder: Path) -> Path:
    """The cache folder for the machine code of a folder's sources; it changes when any of them changes.

    numba itself only checks the file of the outermost function. It would keep using old code of functions in other
    files.
    """
    digest = hashlib.sha256()
    for source in sorted(folder.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return folder / "__pycache__" / f"kernels-{digest.hexdigest()[:16]}"


if not numba.config.CACHE_DIR:
    numba.config.CACHE_DIR = str(kept_in(Path(__file__).parent))


def _compiled(function: _Function, **options: bool) -> _Function:
    try:
        return cast(_Function, numba.njit(nogil=True, cache=True, boundscheck=False, **options)(function))
    except RuntimeError:  # there is no folder to cache the machine code in: compile at each start
        return cast(_Function, numba.njit(nogil=True, boundscheck=False, **options)(function))


def compiled(function: _Function) -> _Function:
    """Compiles at the first call, caches the machine code (`kept_in`), and runs without the GIL."""
    return _compiled(function, _nrt=True)


def borrowing(function: _Function) -> _Function:
    """As `compiled`, for functions that make no arrays of their own."""
    return _compiled(function, _nrt=False)


def inlined(function: _Function) -> _Function:
    """As `borrowing`, for small functions; they are inlined into their callers."""
    return _compiled(function, _nrt=False, forceinline=True)


@inlined
def _whole(value: Any) -> Any:
    return np.int64(value)


whole: Callable[[Any], int] = _whole
"""For compiled code: a number of any type as a signed 64-bit number, so that differences may be negative."""


def _pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


def _load64(_: Any, data: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature, args)
        word = builder.load(builder.bitcast(pointer, ir.IntType(64).as_pointer()))
        word.align = 1
        return word

    return types.uint64(data, types.int64), generate


def _ones(_: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


def _prefetch(_: Any, data: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        pointer = builder.bitcast(_pointer(context, builder, signature, args), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [pointer, ir.Constant(number, 0), ir.Constant(number, 3), ir.Constant(number, 1)])
        return context.get_dummy_value()

    return types.void(data, types.int64), generate


load64: Callable[[NDArray[np.uint8], int], np.uint64] = intrinsic(_load64)
"""For compiled code: 8 bytes of a byte array as a little-endian number, at any alignment."""

ones: Callable[[np.uint64], np.uint64] = intrinsic(_ones)
"""For compiled code: how many bits of a 64-bit number are set."""

prefetch: Callable[[NDArray[Any], int], None] = intrinsic(_prefetch)
"""For compiled code: loads the cache line of an array's element without waiting for it."""
