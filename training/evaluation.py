"""The quality of a clustering against labels. `clustering.comparison` says what is measured.

Images of one group belong together. A pair with the same non-empty ignore group but different groups is neither right
nor wrong, and no count includes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clustering.comparison import ClusterQuality, quality_of
from core.errors import BadInputError

__all__ = ["evaluate_clusters"]


def evaluate_clusters(
    heads: Sequence[str],
    groups: Sequence[str],
    ignore_groups: Sequence[str] | None = None,
    counted: ArrayLike | None = None,
) -> ClusterQuality:
    """Measures a clustering.

    Args:
        heads: The cluster of each image.
        groups: The group, or true cluster, of each image.
        ignore_groups: The ignore group of each image, "" for none. None: no image has one.
        counted: Whether each image counts (such as those of a held-out split). The other images still matter as members
            of the clusters of counted images; pairwise counts each pair with at least one counted image. None: all
            images count.

    Raises:
        BadInputError: The lengths differ.
    """
    ignored = None if ignore_groups is None else _numbers(ignore_groups)
    mask = None if counted is None else np.asarray(counted, dtype=bool)
    lengths = tuple(len(each) for each in (heads, groups, ignored, mask) if each is not None)
    if len(set(lengths)) > 1:
        raise BadInputError(f"heads, groups, ignore groups and counted differ in length: {lengths}")
    if ignored is not None and ignore_groups is not None:
        ignored[np.array([not name for name in ignore_groups], bool)] = -1
    return quality_of(_numbers(heads), _numbers(groups), ignored, mask)


def _numbers(names: Sequence[str]) -> NDArray[np.int64]:
    known: dict[str, int] = {}
    return np.fromiter((known.setdefault(name, len(known)) for name in names), dtype=np.int64, count=len(names))
