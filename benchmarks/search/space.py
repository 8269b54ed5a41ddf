"""Bytes an image by part: on disk, in memory, and beside two plain ways to keep the same posting lists."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.search.bench import FEW_LONG, MANY_SHORT, Bench
from benchmarks.search.corpus import Shape
from benchmarks.search.engine import image_id, index_settings, opened
from benchmarks.search.results import table

__all__ = ["list_bytes", "measure"]


def measure(bench: Bench) -> dict[str, Any]:
    """Both shapes of the ordinary corpus."""
    found = {shape.name: _shape(bench, shape) for shape in (FEW_LONG, MANY_SHORT)}
    for name, each in found.items():
        plain = each["uncompressed"]
        rows = [[part, value, plain.get(part, "")] for part, value in each["on_disk"].items()]
        table(f"Bytes an image on disk, {bench.images:,} images, {name}", ["part", "ours", "uncompressed"], rows)
        table(
            f"Posting lists, {name}, bytes an image",
            ["ours", "variable-byte, one entry an image", "variable-byte, equal images share", "ours by the first"],
            [[each["on_disk"]["postings"], each["variable_byte"], each["variable_byte_shared"], each["ratio"]]],
        )
        memory = ", ".join(f"{kind} {value:,.0f}" for kind, value in each["in_memory"].items())
        print(f"in memory after 4,096 searches, bytes an image: {memory}")
    return {"images": bench.images, "shapes": found}


def _shape(bench: Bench, shape: Shape) -> dict[str, Any]:
    terms = bench.terms(shape)
    folder = bench.index(shape)
    with opened(folder, index_settings(shape)) as index:
        stats = index.stats()
    on_disk = {part: round(value / bench.images, 2) for part, value in asdict(stats.bytes).items()}
    on_disk["total"] = round(stats.bytes.total / bench.images, 2)
    plain = list_bytes(terms, shape) / bench.images
    shared = list_bytes(terms[_first_of_equals(terms)], shape) / bench.images
    uncompressed = {
        "postings": 4.0 * shape.groups,
        "dictionary": round(8.0 * (shape.groups << shape.bits_per_group) / bench.images, 2),
        "terms": 4.0 * shape.groups,
        "codes": float(bench.corpus.codes.shape[1]),
        "ids": float(len(image_id(0)) + 8),
        "places": 16.0,
    }
    uncompressed["total"] = round(sum(uncompressed.values()), 2)
    return {
        "segments": stats.segments,
        "term_sets": stats.term_sets,
        "on_disk": on_disk,
        "uncompressed": uncompressed,
        "variable_byte": round(plain, 2),
        "variable_byte_shared": round(shared, 2),
        "ratio": round(on_disk["postings"] / plain, 3),
        "in_memory": _memory(bench, shape, folder),
    }


def _first_of_equals(terms: NDArray[np.uint32]) -> NDArray[np.int64]:
    """The first image of each set of terms, in order of age; sets are told apart by a 64-bit hash."""
    hashes = np.zeros(len(terms), np.uint64)
    for column in terms.T:
        hashes = (hashes ^ column) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return np.sort(np.unique(hashes, return_index=True)[1])


def list_bytes(terms: NDArray[np.uint32], shape: Shape) -> int:
    """Bytes of all posting lists in variable-byte coding: gaps of seven bits a byte, the first from place 0."""
    last = np.full(shape.groups << shape.bits_per_group, -1, np.int64)
    return int(_coded(terms, shape.bits_per_group, last))


@numba.njit(cache=True)
def _coded(terms: NDArray[np.uint32], bits_per_group: int, last: NDArray[np.int64]) -> int:
    coded = 0
    for image in range(terms.shape[0]):
        for group in range(terms.shape[1]):
            term = (group << bits_per_group) + terms[image, group]
            gap = image - last[term] - 1
            last[term] = image
            coded += 1
            while gap >= 128:
                gap >>= 7
                coded += 1
    return coded


_PROBE = """
import sys
from pathlib import Path
import numpy as np, psutil
from benchmarks.search.corpus import Shape
from benchmarks.search.engine import index_settings, opened
folder, groups, bits, queries = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), np.load(sys.argv[4])
shape = Shape(groups, bits)
before = psutil.Process().memory_full_info()
with opened(folder, index_settings(shape)) as index:
    for first in range(0, len(queries), 64):
        index.rank(queries[first : first + 64], 100)
    after = psutil.Process().memory_full_info()
    print(after.uss - before.uss, (after.rss - after.uss) - (before.rss - before.uss))
"""


def _memory(bench: Bench, shape: Shape, folder: Path) -> dict[str, float]:
    """Of a process of its own: what is its alone, and what of the mapped files it has touched."""
    queries = bench.folder / "queries.npy"
    np.save(queries, bench.terms(shape)[bench.corpus.queries(4096)])
    command = [sys.executable, "-c", _PROBE, str(folder), str(shape.groups), str(shape.bits_per_group), str(queries)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    own, mapped = (int(word) / bench.images for word in said)
    return {"own": round(own, 1), "mapped files": round(mapped, 1)}
