"""Manifests of a few images, and what loads them. Terms and codes are what the test says, or follow from vectors."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.first_loads import LoadRequest
from manifests.folder import MANIFESTS
from manifests.manifest import Kind, Manifest, ManifestFile
from manifests.metadata import FileMetadata
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from search.index.folder import Identity
from search.index.interface import Insert
from search.index.settings import IndexSettings
from search.loading.load_task import LoadTask
from search.ranking import Ranking
from tests.search.index.index_oracle import index_settings, insert

SIGNAL = "photos; search s 1 of 24; score c 1 of 12"
NAME = "first.json"
LOG = "topic-of-joined"
TERMS = TermSettings(24, seed=1, bits=64, groups=4, bits_per_group=2)
CODE = CodeSettings(12, bits=16, seed=2)
BY_DISTANCE = Ranking(4, depth=9)


def settings(ranking: Ranking | None = None, **options: Any) -> IndexSettings:
    identity = Identity(TERMS.fingerprint, CODE.build().fingerprint, {})
    return replace(index_settings(ranking=ranking or BY_DISTANCE, **options), identity=identity)


def images(count: int, seed: int) -> list[Insert]:
    """Records of few terms; a fifth of them are later versions of images before them."""
    chance = random.Random(seed)
    versions: dict[str, int] = {}
    records = []
    for place in range(count):
        again = versions and chance.random() < 0.2
        image_id = chance.choice(sorted(versions)) if again else f"image-{place}"
        versions[image_id] = versions.get(image_id, 0) + chance.randint(1, 3)
        records.append(insert(place, image_id, versions[image_id], [chance.randrange(4) for _ in range(4)]))
    return records


def table(records: Sequence[Insert], given: bool = True) -> pa.Table:
    """The rows of a file; `given`: with terms and codes."""
    chance = np.random.default_rng(records[0].offset if records else 0)
    columns: dict[str, Any] = {
        "image_id": pa.array([str(each.image_id) for each in records], pa.string()),
        "image_version": pa.array([each.version for each in records], pa.int64()),
        "head": pa.array([str(each.image_id) for each in records], pa.string()),
    }
    for name, size in (("search", 24), ("score", 12)):
        vectors = chance.standard_normal((len(records), size)).astype(np.float16)
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), size)
    if given:
        columns["terms"] = pa.array([each.terms.tolist() for each in records], pa.list_(pa.uint32()))
        columns["code"] = pa.array([each.code for each in records], pa.binary(2))
    made = FileMetadata(SIGNAL, terms=TERMS.fingerprint, code=CODE.build().fingerprint)
    return pa.table(columns).replace_schema_metadata(made.encoded())


def write(root: Path, files: Sequence[pa.Table], kind: Kind = Kind.SNAPSHOT) -> Manifest:
    """A folder with one manifest of these files."""
    (root / MANIFESTS).mkdir(parents=True, exist_ok=True)
    (root / "data").mkdir(exist_ok=True)
    listed = []
    for number, content in enumerate(files):
        path = root / "data" / f"part-{number}.parquet"
        pq.write_table(content, path, row_group_size=7)
        data = path.read_bytes()
        listed.append(ManifestFile(f"data/{path.name}", len(content), len(data), hashlib.sha256(data).hexdigest()))
    manifest = Manifest(kind, listed, previous="0" * 32 if kind is Kind.DELTA else None)
    (root / MANIFESTS / NAME).write_bytes(manifest.encoded())
    return manifest


def files_of(records: Sequence[Insert], size: int, given: bool = True) -> list[pa.Table]:
    return [table(records[first : first + size], given) for first in range(0, len(records), size)]


def request(root: Path, manifest: Manifest, log_id: str = LOG) -> LoadRequest:
    return LoadRequest(str(root), NAME, manifest.id, log_id)


@dataclass(frozen=True)
class Given:
    """A folder of images, and an empty folder of generations."""

    root: Path
    manifest: Manifest
    index: Path

    def task(self, told: IndexSettings | None = None, **options: Any) -> LoadTask:
        return LoadTask(
            request(self.root, self.manifest), self.index, told or settings(), SIGNAL, TERMS, CODE, **options
        )

    def rewrite(self, files: Sequence[pa.Table]) -> Given:
        return replace(self, manifest=write(self.root, files))


def given(folder: Path, records: Sequence[Insert], size: int = 20, with_terms: bool = True) -> Given:
    root = folder / "root"
    return Given(root, write(root, files_of(records, size, with_terms)), folder / "index")
