"""A model with thresholds that every pair reaches, and texts that it decides in another way than the good model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.types import Thresholds
from scoring.card import write_card
from scoring.model_folder import ModelFolder
from tests.support.text_signal import SCORE_DIMENSION, SEARCH_DIMENSION

__all__ = ["Texts", "loose_version", "make_texts"]

LOOSE = 1e-9
"""A threshold that every pair reaches."""

PAIRS = 8
"""Texts with a copy. The last four have a look-alike too: it is found by their terms, and scores low."""

ALONE = 4
"""Texts without mates."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What is sent before the bad model serves, meanwhile, and afterwards."""

    folder: Path
    first_ids: list[str]
    more_ids: list[str]
    same_as: dict[str, str]
    """The copies of `more`, with the text that each is a copy of; all others of `more` are like none."""
    late_as: dict[str, str]
    """The same for `late`, which has nothing else."""

    @property
    def first(self) -> Path:
        """The file that is sent before."""
        return self.folder / "first.parquet"

    @property
    def more(self) -> Path:
        """The file that is sent meanwhile."""
        return self.folder / "more.parquet"

    @property
    def late(self) -> Path:
        """The file that is sent afterwards."""
        return self.folder / "late.parquet"


def make_texts(folder: Path, prefix: str, seed: int) -> Texts:
    """Writes the files; ids begin with the prefix.

    first  0 .. 3: text, copy           4 .. 7: text, copy, look-alike   alone 0 .. 3
    more   0 .. 3: copy, look-alike     4 .. 7: copy                     look-alikes of these
    late   0 .. 7: the same vectors again
    """
    random = np.random.default_rng(seed)
    rows: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {"first": [], "more": [], "late": []}
    same_as: dict[str, str] = {}
    late_as: dict[str, str] = {}

    def vectors() -> tuple[np.ndarray, np.ndarray]:
        return random.standard_normal(SEARCH_DIMENSION), random.standard_normal(SCORE_DIMENSION)

    def near(vector: np.ndarray) -> np.ndarray:
        return vector + 0.02 * random.standard_normal(len(vector))

    def add(file: str, name: str, search: np.ndarray, score: np.ndarray) -> str:
        rows[file].append((name, search.astype(np.float32), score.astype(np.float32)))
        return name

    for n in range(PAIRS):
        search, score = vectors()
        text = add("first", f"{prefix}-{n}", search, score)
        add("first", f"{prefix}-{n}-copy", near(search), near(score))
        same_as[add("more", f"{prefix}-{n}-late", near(search), near(score))] = text
        add("more" if n < PAIRS // 2 else "first", f"{prefix}-{n}-like", near(search), vectors()[1])
        late_as[add("late", f"{prefix}-{n}-last", search, score)] = text
    for n in range(ALONE):
        search, score = vectors()
        add("first", f"{prefix}-alone-{n}", search, score)
        add("more", f"{prefix}-alone-{n}-like", near(search), vectors()[1])
    for name, found in rows.items():
        columns = dict(zip(("image_id", "search", "score"), zip(*found, strict=True), strict=True))
        pq.write_table(pa.table({key: list(values) for key, values in columns.items()}), folder / f"{name}.parquet")
    ids = {name: [each[0] for each in found] for name, found in rows.items()}
    return Texts(folder, ids["first"], ids["more"], same_as, late_as)


@contextmanager
def loose_version(models: Path, version: str) -> Iterator[None]:
    """A version with the network of the served one, without its gate, and with thresholds that every pair reaches."""
    folder = ModelFolder(models)
    before = folder.served_since()
    shutil.copytree(folder.path(before[0]), folder.path(version))
    limits = Thresholds(*(float(np.float32(LOOSE)),) * 3)
    card = replace(folder.card(before[0]), version=version, thresholds=limits, gate=None)
    write_card(card, folder.path(version))
    yield
    if folder.served() == version:
        folder.restore(before)
