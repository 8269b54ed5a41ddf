"""Would the entrance take these images? Asked of many rows at once: their ids and their embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from core.notifications import image_id
from core.vector_limits import VectorLimits
from core.vectors import sound_rows, vector_problem
from neardup.events_pb2 import FLOAT16, FLOAT32

__all__ = ["ValueChecks"]


class ValueChecks:
    """The limits of a signal."""

    def __init__(self, search: VectorLimits, score: VectorLimits) -> None:
        """Those of its two embeddings."""
        self._limits = {"search": search, "score": score}

    def vectors(self, search: NDArray[Any], score: NDArray[Any]) -> Iterator[tuple[int, str, str]]:
        """What is wrong with the embeddings of n images.

        Args:
            search: (n, dimension) float16 or float32.
            score: The same.

        Returns:
            Rows, each with the name of the column and its problem.
        """
        for name, rows in (("search", search), ("score", score)):
            sound = sound_rows(rows)
            for row in np.flatnonzero(~sound).tolist():
                found = vector_problem(name, FLOAT16 if rows.itemsize == 2 else FLOAT32, rows[row].tobytes())
                assert found is not None
                yield row, name, f"is refused: {found.detail}"
            wide = np.where(sound[:, None], rows, 1).astype(np.float32) if not sound.all() else rows.astype(np.float32)
            for row, problem in self._limits[name].problems(wide).items():
                if sound[row]:
                    yield row, name, f"is refused: {problem.detail}"

    @staticmethod
    def ids(ids: Sequence[str | None]) -> Iterator[tuple[int, str]]:
        """What is wrong with n ids: rows, each with its problem. None is no id and is passed."""
        for row, text in enumerate(ids):
            if text is not None:
                try:
                    image_id(text)
                except BadInputError as error:
                    yield row, f"is refused: {error}"
