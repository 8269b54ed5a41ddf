"""The cut-over of the operations page: an old system's state is loaded, both are compared, and readers switch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.access import Right
from manifests.image_files import ImageRow, Vector
from neardup.client import ApiClient
from neardup.errors import NotFoundError
from stream.access import credentials
from stream.local.resolved import resolved_toml
from tests.support.stack import PHOTOS, ROOT, Stack, running, sample_rows, stack_settings
from tests.support.written_session import WrittenSession, commands_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

TITLE = "Cut-over from another system"

BEFORE, BETWEEN, AFTER = 160, 20, 60
"""Images that the old system alone was sent, that both were sent before the export, and that came after it."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A deployment of the old service and the new one."""
    with running(stack_settings(tmp_path_factory.mktemp("cut-over"), {"photos": PHOTOS, "old": PHOTOS})) as stack:
        yield stack


@pytest.fixture
def session(two: Stack, tmp_path: Path) -> Iterator[WrittenSession]:
    """The commands of the page."""
    file = tmp_path / "neardup.toml"
    file.write_text(resolved_toml(two.settings), encoding="utf-8")
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    with WrittenSession(commands_of(page, TITLE), file) as session:
        yield session


def export(rows: Sequence[ImageRow], heads: dict[str, str], path: Path) -> None:
    """What the old system gives away, in its own words."""

    def vectors(column: list[Vector]) -> pa.Array:
        matrix = np.stack([np.frombuffer(each.data, "<f2") for each in column])
        return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])

    names = [row.image_id for row in rows]
    table = {
        "photo": names,
        "original": [heads[name] for name in names],
        "search": vectors([row.search for row in rows]),
        "score": vectors([row.score for row in rows]),
    }
    pq.write_table(pa.table(table), path)


def test_readers_switch_to_the_new_service_and_back(two: Stack, session: WrittenSession, tmp_path: Path) -> None:
    rows = sample_rows(BEFORE + BETWEEN + AFTER)
    before, between, after = rows[:BEFORE], rows[BEFORE : BEFORE + BETWEEN], rows[-AFTER:]
    file, folder = str(tmp_path / "export.parquet"), str(tmp_path / "cutover")
    session.stands_for = {"export.parquet": file, "/data/cutover": folder}
    two.publish(before, "old")
    two.await_heads([row.image_id for row in before], "old")
    session.run("alias set live old")
    with reader(two, "photos") as api:
        assert api.image(rows[0].image_id).head == rows[0].image_id

    session.run("job stop")
    for signal in ("old", "photos"):
        two.publish(between, signal)
    heads = two.await_heads([row.image_id for row in (*before, *between)], "old")
    export([*before, *between], heads, Path(file))
    session.run("bootstrap convert")
    session.run("bootstrap check")
    assert "live: 180 images" in session.run("bootstrap load")
    session.run("bootstrap verify")
    session.run("job start")

    for signal in ("old", "photos"):
        two.publish(after, signal)
    ids = [row.image_id for row in rows]
    assert two.await_heads(ids, "photos") == two.await_heads(ids, "old")
    (alone,) = [replace(row, image_id="seen-by-the-new-one-alone") for row in rows[:1]]
    two.publish([alone], "photos")
    assert two.await_heads([alone.image_id], "photos") == {alone.image_id: heads[rows[0].image_id]}
    assert re.search(r"^BCubed +1\.000000 +1\.000000 +1\.000000$", session.run("compare"), re.MULTILINE)

    def seen() -> list[bool]:
        """Whether the image of the new service is found by the alias, at either signal's API; the topic says so too."""
        told = json.loads(two.records(two.settings.kafka.aliases_topic)[-1])["signal"]
        return [told == "photos", *(is_found(two, signal, alone.image_id) for signal in ("old", "photos"))]

    assert seen() == [False] * 3
    session.run("alias set live photos")
    assert seen() == [True] * 3
    session.run("alias back")
    assert seen() == [False] * 3
    session.run("alias back")
    assert seen() == [True] * 3
    assert session.left == []
    assert two.problems("old") == two.problems("photos") == []


def is_found(stack: Stack, signal: str, image_id: str) -> bool:
    """Whether somebody finds an image who asks this signal's API for the alias."""
    with reader(stack, signal) as api:
        try:
            return api.image(image_id).image_id == image_id
        except NotFoundError:
            return False


def reader(stack: Stack, signal: str) -> ApiClient:
    """Somebody who asks this signal's API for the alias."""
    key = (credentials(stack.settings, Right.READ).authorization() or "").removeprefix("Bearer ")
    address = stack.settings.signal(signal)[1].api
    return ApiClient(f"http://127.0.0.1:{address.port}/v1/aliases/live", key=key)
