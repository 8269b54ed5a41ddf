"""Gives the store of a signal the score codes that the settings say now, from the vectors that it keeps."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from core.errors import BadInputError, MismatchError, ServiceError
from core.vectors import stored_problem, vector_rows
from scoring.model_folder import ModelFolder
from search.hashing.score_codes import ScoreCodes
from storage.new_codes import Recode
from storage.records import EmbeddingRecord
from storage.rocks.converting import CodeChange, ConvertedCodes, convert_codes, stored_identity
from stream.data_folders import runs
from stream.errors import NoStoreError
from stream.hashing import code_identity, code_settings
from stream.servers import store_identity
from stream.settings import Settings

__all__ = ["convert_store", "recoder"]

_OURS = "rocksdb"
"""The only kind of store that can be converted."""

_BITS = re.compile(r" bits (\d+)")


def convert_store(
    settings: Settings, signal_name: str | None, on_progress: Callable[[int, int], None] | None = None
) -> ConvertedCodes | None:
    """Makes all codes in the store of a signal anew. The service must be stopped.

    Args:
        settings: With the new codes, and a model for them.
        signal_name: The signal; None: the default one.
        on_progress: Called with the number of images and clusters that are done, and with that of all.

    Returns:
        What was written; None: the store has these codes already.

    Raises:
        ServiceError: The service runs.
        BadInputError: The store is of another kind, or an image has no vectors.
        MismatchError: The served model compares other codes, or the store was made for other embeddings.
        NoStoreError: There is no store.
        StorageError: A server has the store open, it is damaged, or the disk is full.
    """
    name, signal = settings.signal(signal_name)
    if runs(settings):
        raise ServiceError(f"the service in {settings.data_dir} runs: run `neardup job stop` and `neardup down` first")
    if signal.store_class != _OURS:
        raise BadInputError(f"the store of {name} is {signal.store_class!r}: only {_OURS!r} can be converted")
    models = ModelFolder(settings.path(signal.model))
    code_identity(settings, signal).check(models.card(models.served()))
    folder = settings.signal_dir(name, "store")
    before, after = stored_identity(folder), store_identity(settings, name)
    if before is None:
        raise NoStoreError(f"there is no store in {folder}")
    _check_embeddings(folder, before, after)
    coder = code_settings(settings, signal).build()
    recode = recoder(coder, signal.search_embedding.dimension)
    return convert_codes(folder, CodeChange(before, after, _bits(before), recode), on_progress)


def recoder(coder: ScoreCodes, search_dimension: int) -> Recode:
    """Makes codes from stored embeddings."""

    def recode(records: Sequence[EmbeddingRecord]) -> Sequence[bytes]:
        search, searchable = vector_rows([one.search_vector for one in records], search_dimension)
        score, scorable = vector_rows([one.score_vector for one in records], coder.dimension)
        for row in np.flatnonzero(~(searchable & scorable)).tolist():
            raise _unfit(records[row], search_dimension, coder.dimension)
        return [row.tobytes() for row in coder.codes(score, search)]

    return recode


def _unfit(record: EmbeddingRecord, search_dimension: int, score_dimension: int) -> BadInputError:
    problems = (
        stored_problem("search_vector", record.search_vector, search_dimension),
        stored_problem("score_vector", record.score_vector, score_dimension),
    )
    details = "; ".join(problem.detail for problem in problems if problem is not None)
    return BadInputError(f"image {record.image_id!r} at place {record.place}: {details}")


def _check_embeddings(folder: Path, before: str, after: str) -> None:
    """Other embeddings cannot be computed from those that are stored."""
    (stored, _, _), (wanted, _, _) = before.rpartition("; codes "), after.rpartition("; codes ")
    if stored != wanted:
        raise MismatchError(
            f"the store in {folder} was made for {stored!r}, the settings say {wanted!r}: only the codes of the same "
            "embeddings can be made anew"
        )


def _bits(identity: str) -> int:
    """The bits of a store's codes."""
    found = _BITS.search(identity.rpartition("; codes ")[2])
    return int(found[1]) if found is not None else 0
