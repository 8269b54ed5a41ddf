"""What a load is told, and what it tells. The process that serves knows it too, and reads no files of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.first_loads import LoadRequest
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from search.index.settings import IndexSettings

__all__ = ["SPOOL", "LoadTask", "Progress"]

SPOOL = "load.files"
"""The folder for copies of files that lie elsewhere, below that of the generations."""


@dataclass(frozen=True, eq=False)
class LoadTask:
    """All that a load needs to know."""

    request: LoadRequest
    index: Path
    """The folder of the generations."""
    settings: IndexSettings
    signal: str
    """The signal and its embeddings, as files of images name them (`manifests.metadata`)."""
    terms: TermSettings
    code: CodeSettings
    rows_per_s: float = 0.0
    """The most rows in a second; 0 sets no limit."""
    segment_entries: int | None = None
    """Entries of a segment; None: as the builder chooses."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is."""

    rows_done: int
    rows_total: int
    verifying: bool = False
