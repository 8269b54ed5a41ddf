"""To load the state of some moment and to stream what came after it equals streaming everything, in the same order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.access import Right
from core.first_loads import LoadRequest
from manifests.folder import open_folder, read_manifest
from manifests.image_files import ImageRow, Vector
from neardup.errors import NotFoundError
from stream.bootstrap.loading import Servers, until_live
from stream.cli.main import main
from stream.local.resolved import resolved_toml
from tests.support.sequence import Sequenced, joined, servers
from tests.support.stack import Stack, sample_rows

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

IMAGES, BEFORE, NEW_VERSIONS = 420, 300, 40


def an_order(seed: int) -> list[ImageRow]:
    """Photos and their copies in any order; some come again as another photo."""
    dice = random.Random(seed)
    rows = sample_rows(IMAGES)
    dice.shuffle(rows)
    for again in dice.sample(rows, NEW_VERSIONS):
        other = dice.choice(rows)
        at = dice.randrange(rows.index(again) + 1, len(rows) + 1)
        rows.insert(at, replace(again, version=2, search=other.search, score=other.score))
    return rows


def verdicts(stack: Stack, rows: Sequence[ImageRow]) -> dict[str, dict[str, Any]]:
    """What the service says of each image."""
    found = {}
    with stack.api() as api:
        for image_id in {row.image_id for row in rows}:
            try:
                image = api.image(image_id)
            except NotFoundError:
                continue
            found[image_id] = {name: getattr(image, name) for name in ("version", "head", "cause", "score", "matched")}
    return found


def founding_versions(stack: Stack, rows: Sequence[ImageRow]) -> dict[str, int]:
    """The version with which each head founded its cluster: later ones are kept."""
    found = {}
    with stack.api() as api:
        for image_id in {row.image_id for row in rows}:
            for change in api.history(image_id):
                if change.cause != "kept":
                    found[image_id] = change.version
    return found


def export(rows: Sequence[ImageRow], known: dict[str, dict[str, Any]], founding: dict[str, int], path: Path) -> None:
    """What another system might give away: all versions, what became of each image's last one, and which founded."""
    last = {row.image_id: number for number, row in enumerate(rows)}

    def said(name: str) -> list[Any]:
        return [known[row.image_id][name] if last[row.image_id] == at else None for at, row in enumerate(rows)]

    def heads() -> list[str | None]:
        found = said("head")
        for at, row in enumerate(rows):
            if known[row.image_id]["head"] == row.image_id and row.version >= founding[row.image_id]:
                found[at] = row.image_id
        return found

    def vectors(column: list[Vector]) -> pa.Array:
        matrix = np.stack([np.frombuffer(each.data, "<f2") for each in column])
        return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])

    table = pa.table(
        {
            "image_id": [row.image_id for row in rows],
            "image_version": [row.version for row in rows],
            "search": vectors([row.search for row in rows]),
            "score": vectors([row.score for row in rows]),
            "head": pa.array(heads(), pa.string()),
            "cause": pa.array(said("cause"), pa.string()),
            "probability": pa.array(said("score"), pa.float64()),
            "matched": pa.array(said("matched"), pa.string()),
        }
    )
    pq.write_table(table, path)


def test_loading_and_streaming_equals_streaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = an_order(7)
    records, before = [joined(row) for row in rows], rows[:BEFORE]
    with servers(tmp_path / "streamed") as streamed, closing(Sequenced("log", streamed, 32)) as sequence:
        sequence.take(records[:BEFORE], {})
        export(before, verdicts(streamed, before), founding_versions(streamed, before), tmp_path / "export.parquet")
        sequence.take(records[BEFORE:], {})
        expected = verdicts(streamed, rows)
        assert streamed.problems() == []
    assert {"matched", "adopted", "kept", "founded"} <= {each["cause"] for each in expected.values()}

    with servers(tmp_path / "loaded") as loaded:
        file = tmp_path / "neardup.toml"
        file.write_text(resolved_toml(loaded.settings), encoding="utf-8")
        monkeypatch.setenv("NEARDUP_SETTINGS", str(file))
        options = ("--to", str(tmp_path / "old"), "--name", "first")
        assert main(("bootstrap", "convert", str(tmp_path / "export.parquet"), *options)) == 0
        folder = open_folder(str(tmp_path / "old"))
        manifest = read_manifest(folder, "first.json")
        assert manifest.rows == BEFORE
        with closing(Servers(loaded.settings, None, Right.WRITE)) as both:
            request = LoadRequest(folder.uri, "first.json", manifest.id, "another log")
            until_live(request, both.storage, both.search, lambda found: None)
        with closing(Sequenced("another log", loaded, 32, base=BEFORE, epoch=BEFORE)) as sequence:
            sequence.take(records[BEFORE:], {})
        assert verdicts(loaded, rows) == expected
        assert loaded.problems() == []
