"""Small labelled photographs made up for tests: groups around random centres, with edits that push all alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SEARCH_DIMENSION, SCORE_DIMENSION = 24, 16

_SPLIT_GROUPS = {"train": 14, "val": 10, "test": 6}
_EDITS = 4


def made_up_table(seed: int = 0) -> pa.Table:
    """Each group is a source and four edits, and as many distractors as groups."""
    random = np.random.RandomState(seed)
    push_search = random.standard_normal((_EDITS, SEARCH_DIMENSION)) * 0.25
    push_score = random.standard_normal((_EDITS, SCORE_DIMENSION)) * 0.25
    rows: dict[str, list[object]] = {
        name: []
        for name in ("image_id", "group_id", "kind", "family", "ignore_group", "split", "dataset", "search", "score")
    }
    for split, groups in _SPLIT_GROUPS.items():
        for number in range(2 * groups):
            has_edits = number < groups
            search, score = random.standard_normal(SEARCH_DIMENSION), random.standard_normal(SCORE_DIMENSION)
            for edit in range(-1, _EDITS if has_edits else 0):
                moved = (search, score) if edit < 0 else (search + push_search[edit], score + push_score[edit])
                group = f"g-{split}-{number}"
                rows["image_id"].append(f"{group}-{edit + 1}")
                rows["group_id"].append(group)
                rows["kind"].append("edit" if edit >= 0 else "source" if has_edits else "distractor")
                rows["family"].append("" if edit < 0 else f"push{edit}")
                rows["ignore_group"].append("")
                rows["split"].append(split)
                rows["dataset"].append(f"set{number % 2}")
                rows["search"].append(moved[0].astype(np.float16))
                rows["score"].append(moved[1].astype(np.float16))
    return pa.table(rows)


def write_made_up(path: Path, seed: int = 0) -> Path:
    """The same as a file."""
    pq.write_table(made_up_table(seed), path)
    return path


def with_natural_copies(seed: int = 0) -> pa.Table:
    """The made-up photographs with their sources named, and `g-train-1` joined to the group `g-train-0`."""
    table = made_up_table(seed)
    ids, groups = (table[name].to_pylist() for name in ("image_id", "group_id"))
    joined = ["g-train-0" if group == "g-train-1" else group for group in groups]
    sources = [f"{image.rsplit('-', 1)[0]}-0" for image in ids]
    table = table.set_column(table.column_names.index("group_id"), "group_id", pa.array(joined))
    return table.append_column("source_id", pa.array(sources))
