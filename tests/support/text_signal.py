"""A second signal for tests: text vectors of other dimensions, in synthetic groups, with a small model of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from manifests.image_files import ImageFile, ImageRow
from stream.hashing import code_settings, term_settings
from tests.support.stack import stack_settings

SEARCH_DIMENSION = 96
SCORE_DIMENSION = 64
GROUPS = 90
COPIES = 4
"""Of each original, by small changes."""


@dataclass(frozen=True, slots=True)
class TextSignal:
    """Settings of the signal, some rows, and which of them are near-duplicates."""

    settings: dict[str, Any]
    rows: list[ImageRow]
    twins: list[tuple[str, str]]


def make_text_signal(folder: Path) -> TextSignal:
    """Makes labelled vectors, trains a model on two thirds of the groups, gives the rest as rows."""
    from training.train import train
    from training.training_settings import Effort, NetworkSettings, TrainSettings

    settings = {
        "search_embedding": {"name": "sentences", "model_version": "3", "dimension": SEARCH_DIMENSION},
        "score_embedding": {"name": "words", "model_version": "7", "dimension": SCORE_DIMENSION},
        "model": str(folder / "model"),
        "topic_prefix": "text.",
        "terms": {"bits": 256, "groups": 32, "bits_per_group": 10, "candidates": 50},
        "code": {"bits": 256},
    }
    labelled, fresh = folder / "labelled.parquet", folder / "fresh.parquet"
    ids = _write(labelled, fresh)
    stack = stack_settings(folder, {"text": settings})
    _, signal = stack.signal("text")
    train(
        TrainSettings(
            photos=labelled,
            model=folder / "model",
            terms=term_settings(stack, signal),
            code=code_settings(stack, signal),
            embedding_name="words",
            embedding_version="7",
            ranking=signal.terms.ranking,
            effort=Effort(rounds=2, steps_per_round=100, patience=2),
            compact=NetworkSettings(hidden=(32, 8), seeds=24, look_alikes=6, dropout=0.05, learning_rate=1e-2),
            orders=1,
        )
    )
    rows = list(ImageFile(fresh, SEARCH_DIMENSION, SCORE_DIMENSION))
    return TextSignal(settings, rows, [(ids[n], ids[n + 1]) for n in range(0, len(ids), 2)])


def _write(labelled: Path, fresh: Path) -> list[str]:
    """Writes both files; returns the ids of the second, original and copy in turn."""
    random = np.random.default_rng(17)
    columns: dict[str, list[Any]] = {name: [] for name in ("image_id", "group_id", "kind", "split", "search", "score")}
    for group in range(GROUPS):
        search, score = random.standard_normal(SEARCH_DIMENSION), random.standard_normal(SCORE_DIMENSION)
        for copy in range(1 + COPIES):
            columns["image_id"].append(f"text-{group}-{copy}")
            columns["group_id"].append(f"group-{group}")
            columns["kind"].append("source" if copy == 0 else "edit")
            columns["split"].append("train" if group % 3 else "val")
            columns["search"].append(_near(search, random))
            columns["score"].append(_near(score, random))
    pq.write_table(pa.table(columns), labelled)
    ids, searches, scores = [], [], []
    for pair in range(20):
        search, score = random.standard_normal(SEARCH_DIMENSION), random.standard_normal(SCORE_DIMENSION)
        for name, noise in (("first", 0.0), ("second", 0.02)):
            ids.append(f"fresh-{pair}-{name}")
            searches.append(_near(search, random, noise))
            scores.append(_near(score, random, noise))
    pq.write_table(pa.table({"image_id": ids, "search": searches, "score": scores}), fresh)
    return ids


def _near(vector: NDArray[np.float64], random: np.random.Generator, noise: float = 0.15) -> NDArray[np.float32]:
    return (vector + noise * random.standard_normal(len(vector))).astype(np.float32)
