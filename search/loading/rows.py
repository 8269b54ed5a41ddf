"""From rows of a manifest to rows of an index: terms and codes as the file gives them, else made of the embeddings."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from core.notifications import image_id
from core.types import ImageId
from core.vectors import sound_rows, stored_problem
from manifests.clustered_files import IndexBatch
from search.hashing.score_codes import CodeSettings, ScoreCodes
from search.hashing.terms import TermExtractor, TermSettings

__all__ = ["RowMaker"]


class RowMaker:
    """Makes ids, terms and codes of batches of rows."""

    def __init__(self, terms: TermSettings, code: CodeSettings) -> None:
        """Draws no hyperplanes yet: a manifest with terms and codes needs none."""
        self._term_settings = terms
        self._code_settings = code

    def ids(self, batch: IndexBatch) -> list[ImageId]:
        """The ids of a batch.

        Raises:
            BadInputError: One is empty or too long; the message names file and row.
        """
        try:
            return [image_id(text) for text in batch.image_ids]
        except BadInputError:
            for row, text in enumerate(batch.image_ids):
                _check_id(batch, row, text)
            raise

    def terms_and_codes(self, batch: IndexBatch) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        """Terms (n, groups) and codes (n, code bytes) of a batch; each row depends on its own embeddings alone.

        Raises:
            BadInputError: An embedding that is hashed is not finite, or all zero; the message names file and row.
        """
        if batch.vectors is None:
            assert batch.terms is not None
            assert batch.codes is not None
            return batch.terms, batch.codes
        for name, vectors in zip(("search", "score"), batch.vectors, strict=True):
            wrong = np.flatnonzero(~sound_rows(vectors))
            if wrong.size:
                row = int(wrong[0])
                problem = stored_problem(name, vectors[row].tobytes(), vectors.shape[1])
                assert problem is not None
                raise BadInputError(f"{batch.rows.path}: row {batch.rows.first + row}: {problem.detail}")
        search, score = batch.vectors
        terms = self._extractor.terms(search) if batch.terms is None else batch.terms
        codes = self._coder.codes(score, search) if batch.codes is None else batch.codes
        return terms, codes

    @cached_property
    def _extractor(self) -> TermExtractor:
        return self._term_settings.build()

    @cached_property
    def _coder(self) -> ScoreCodes:
        return self._code_settings.build()


def _check_id(batch: IndexBatch, row: int, text: str) -> None:
    try:
        image_id(text)
    except BadInputError as error:
        raise BadInputError(f"{batch.rows.path}: row {batch.rows.first + row}: {error}") from None
