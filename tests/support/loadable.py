"""Small manifests of clustered images, and stores that are loaded from them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.first_loads import LoadRequest
from core.notifications import EmbeddingSpec
from core.types import Cause, ImageId
from core.vector_limits import VectorLimits
from manifests.clustered_files import Signal
from manifests.manifest import Kind, Manifest, ManifestFile
from manifests.metadata import FileMetadata
from manifests.value_checks import ValueChecks
from storage.loading.kept import KeptLoad
from storage.loading.rows import Codes
from storage.loading.run import LoadSettings
from storage.rocks.database import Database
from storage.rocks.marker import read_marker
from storage.rocks.options import FAMILIES, META
from tests.support.store_writer import SMALL

__all__ = [
    "CHECKS",
    "LOADED_LOG",
    "NAME",
    "SIGNAL",
    "STARTED_MS",
    "InterruptedLoadError",
    "LoadableRow",
    "Patient",
    "content_of",
    "kept_load",
    "load_request",
    "load_settings",
    "made_codes",
    "random_rows",
    "write_manifest",
]

SIGNAL = Signal("photos", 4, 6, terms="T", groups=2, bits_per_group=4, code="C", code_bytes=3)
CHECKS = ValueChecks(VectorLimits(EmbeddingSpec("s", "1", 4)), VectorLimits(EmbeddingSpec("c", "1", 6)))
NAME = "old.json"
LOADED_LOG = "joined-id"
STARTED_MS = 1_700_000_000_000
_MADE = FileMetadata("photos", terms="T", code="C", model="m1", rule="by hand")


@dataclass(frozen=True, slots=True)
class LoadableRow:
    """One row of a manifest. Its vectors follow from the id and the version."""

    image_id: ImageId
    head: ImageId | None
    version: int = 1
    cause: Cause | None = None
    score: float | None = None
    matched: ImageId | None = None
    founding: bytes | None = None
    created_at_ms: int = 5

    @property
    def vectors(self) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        """Of search and of score."""
        dice = np.random.default_rng([*self.image_id.encode(), self.version])
        return dice.standard_normal(4).astype(np.float16), dice.standard_normal(6).astype(np.float32)

    @property
    def code(self) -> bytes:
        """As `made_codes` makes it."""
        search, score = self.vectors
        return made_codes(search.astype(np.float32)[None], score[None])[0].tobytes()


def made_codes(search: NDArray[np.float32], score: NDArray[np.float32]) -> Codes:
    """Codes of three bytes."""
    bits = np.concatenate([search, score], axis=1).view(np.uint32)
    return np.stack([(bits[:, at] & 0xFF).astype(np.uint8) for at in (0, 4, 5)], axis=1)


def load_settings(rows_per_s: float = 0.0) -> LoadSettings:
    """What a server is told that takes these manifests."""
    return LoadSettings(SIGNAL, made_codes, CHECKS, rows_per_s)


def write_manifest(
    root: Path,
    rows: Sequence[LoadableRow],
    *,
    codes: bool = True,
    per_file: int = 40,
    name: str = NAME,
    previous: str | None = None,
) -> Manifest:
    """Writes files and manifest; with the id of a previous one, it is a delta."""
    for folder in ("data", "manifests"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    files = []
    for at in range(0, len(rows), per_file):
        path = root / "data" / f"{'part' if name == NAME else Path(name).stem}-{at:06}.parquet"
        pq.write_table(_table(rows[at : at + per_file], codes), path, row_group_size=16)
        content = path.read_bytes()
        files.append(
            ManifestFile(
                f"data/{path.name}", len(rows[at : at + per_file]), len(content), hashlib.sha256(content).hexdigest()
            )
        )
    manifest = Manifest(Kind.SNAPSHOT if previous is None else Kind.DELTA, files, previous)
    (root / "manifests" / name).write_bytes(manifest.encoded())
    return manifest


def load_request(root: Path, manifest: Manifest) -> LoadRequest:
    """What asks for it."""
    return LoadRequest(str(root), NAME, manifest.id, LOADED_LOG)


def random_rows(seed: int, count: int, again: float = 0.1) -> list[LoadableRow]:
    """Rows that fit together. Some members have another row before their last one."""
    dice = random.Random(seed)
    heads: list[ImageId] = []
    rows: list[LoadableRow] = []
    for number in range(count):
        image_id = ImageId(f"{dice.choice(['cat', 'dog/ä', 'x'])}-{number}")
        created = dice.randrange(100)
        if not heads or dice.random() < 0.4:
            heads.append(image_id)
            founding = dice.randbytes(3) if dice.random() < 0.3 else None
            cause = dice.choice([Cause.FOUNDED, None])
            rows.append(LoadableRow(image_id, image_id, 1, cause, founding=founding, created_at_ms=created))
            continue
        head = dice.choice(heads)
        version = 1
        if dice.random() < again:
            version = 3
            rows.insert(
                dice.randrange(len(rows) + 1),
                LoadableRow(image_id, dice.choice([None, head]), 2, created_at_ms=created),
            )
        matched = dice.choice([head, ImageId("cat-0 of long ago"), None])
        score = dice.choice([None, 0.5, 0.93])
        rows.append(LoadableRow(image_id, head, version, Cause.MATCHED, score, matched, None, created))
    return rows


def _table(rows: Sequence[LoadableRow], codes: bool) -> pa.Table:
    columns = {
        "image_id": pa.array([row.image_id for row in rows]),
        "image_version": pa.array([row.version for row in rows]),
        "created_at": pa.array([row.created_at_ms for row in rows]),
        "search": pa.array([row.vectors[0] for row in rows], pa.list_(pa.float16())),
        "score": pa.array([row.vectors[1] for row in rows], pa.list_(pa.float32())),
        "head": pa.array([row.head for row in rows], pa.string()),
        "cause": pa.array([row.cause for row in rows], pa.string()),
        "probability": pa.array([row.score for row in rows], pa.float64()),
        "matched": pa.array([row.matched for row in rows], pa.string()),
        "founding_code": pa.array([row.founding for row in rows], pa.binary()),
    }
    if codes:
        columns["code"] = pa.array([row.code for row in rows], pa.binary())
    return pa.table(columns).replace_schema_metadata(_MADE.encoded())


class Patient:
    """A `LoadWatch` that ends a load after so many steps."""

    def __init__(self, kept: KeptLoad, steps: int = 10**9) -> None:
        self.kept = kept
        self.left = steps
        self.said: list[tuple[str, int]] = []

    def did(self, doing: str, rows: int) -> None:
        """See `LoadWatch.did`."""
        self.said.append((doing, rows))
        self.left -= 1
        if not self.left:
            raise InterruptedLoadError

    def counted(self, rows: int, images: int, clusters: int) -> KeptLoad:
        """See `LoadWatch.counted`."""
        self.kept = replace(self.kept, rows=rows, images=images, clusters=clusters)
        return self.kept

    def pause(self, seconds: float) -> None:
        """See `LoadWatch.pause`."""

    def clock(self) -> float:
        """See `LoadWatch.clock`."""
        return 0.0

    def now_ms(self) -> int:
        """See `LoadWatch.now_ms`."""
        return STARTED_MS + 60_000


class InterruptedLoadError(Exception):
    """Somebody has ended the load."""


def kept_load(root: Path, manifest: Manifest) -> KeptLoad:
    """A load that has just begun."""
    return KeptLoad(load_request(root, manifest), STARTED_MS)


def content_of(folder: Path) -> dict[str, list[tuple[bytes, bytes]]]:
    """All keys and values of a store that nobody has open, by family."""
    marker = read_marker(folder)
    assert marker is not None
    database = Database(folder / marker.database, SMALL, create=False)
    try:
        return {family: database.rows(family, b"", 10**9) for family in (META, *FAMILIES)}
    finally:
        database.close()
