"""Whether the content of a load is whole and sound, before anybody is served from it: exact counts, and a sample. Pure.

`neardup verify` checks all of it at any time; that takes longer than the load.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from storage.errors import CorruptedError
from storage.interfaces import StoreView
from storage.loading.interfaces import LoadCursor
from storage.records import FirstLoad
from storage.verify import verify_image

__all__ = ["COUNTED", "check_counts", "check_sample"]

SAMPLE = 2_500
"""Images that are looked at."""

COUNTED = ("images", "clusters", "history")
"""Families whose records are counted. Edges were counted when the clusters were made."""


def check_counts(found: Mapping[str, int], load: FirstLoad, cursor: LoadCursor) -> None:
    """Compares how many records there are with how many there should be.

    Args:
        found: By family.
        load: What was loaded, as the first pass over the manifest counted it.
        cursor: What was written.

    Raises:
        CorruptedError: A count differs.
    """
    wanted = {
        "rows": load.rows,
        "images": load.images,
        "edges": load.images,
        "history": load.images,
        "clusters": load.clusters,
    }
    for name, there in {"rows": cursor.rows, "edges": cursor.members, **found}.items():
        if there != wanted[name]:
            raise CorruptedError(f"{wanted[name]:,} records of {name} should be there, and {there:,} are")


def check_sample(view: StoreView, load: FirstLoad, on_image: Callable[[int], None], sample: int = SAMPLE) -> None:
    """Reads some images in the ordinary way, chosen at random, and checks all that belongs to each.

    Args:
        view: The content.
        load: What it was loaded from.
        on_image: Told how many images were looked at. What it raises ends the check.
        sample: How many images are looked at.

    Raises:
        CorruptedError: Something does not fit.
    """
    chosen = random.Random(load.manifest_id).sample(range(1, load.images + 1), min(sample, load.images))
    for done, number in enumerate(sorted(chosen)):
        on_image(done)
        entry = view.history_entry(number)
        if entry is None:
            raise CorruptedError(f"history entry {number} is missing")
        if (problem := next(verify_image(view, entry.image_id), None)) is not None:
            raise CorruptedError(problem.text)
