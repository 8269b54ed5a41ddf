"""A service begins with the images of another system: converted, checked, loaded under kills, then the stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.access import Right
from core.first_loads import LoadState
from manifests.image_files import ImageRow
from stream.bootstrap.loading import Servers, load_request, until_live
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.local.resolved import resolved_toml
from tests.support.stack import PHOTOS, SAMPLE, Stack, eventually, running, sample_rows, stack_settings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

OLD, ROWS_PER_S = 400, 40.0
"""How many images are loaded, and how fast, so that there is time to kill what loads them."""

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running deployment to which nothing was applied."""
    pace = {"load_rows_per_s": ROWS_PER_S}
    photos = {**PHOTOS, "index": pace, "storage": pace}
    with running(stack_settings(tmp_path_factory.mktemp("empty"), {"photos": photos})) as stack:
        yield stack


@pytest.fixture
def run(empty: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; gives its exit code, and its output or its complaint."""
    file = tmp_path / "neardup.toml"
    file.write_text(resolved_toml(empty.settings), encoding="utf-8")
    monkeypatch.setenv("NEARDUP_SETTINGS", str(file))

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        return code, said.out if code == 0 else said.err

    return run


def test_a_service_begins_with_old_images(empty: Stack, run: Run, tmp_path: Path) -> None:
    export, folder = tmp_path / "export.parquet", str(tmp_path / "old")
    old = pq.read_table(SAMPLE, columns=["image_id", "group_id", "search", "score"]).slice(0, OLD)
    pq.write_table(old, export)
    named = ("--to", folder, "--name", "first", "--cluster", "group_id")
    code, said = run("bootstrap", "convert", str(export), *named, "--json")
    assert (code, json.loads(said)["rows"]) == (0, OLD)
    code, said = run("bootstrap", "check", folder, "first", "--json")
    checked = json.loads(said)
    assert (code, checked["images"], checked["fault_count"]) == (0, OLD, 0)
    clusters = expected_heads(old)
    assert checked["clusters"] == len(set(clusters.values()))

    # New images come while it runs, copies of old ones and others; both servers are killed meanwhile.
    copies = [replace(row, image_id=f"again-{row.image_id}") for row in sample_rows(30)]
    fresh = sample_rows(30, skip=OLD)
    with ThreadPoolExecutor(1) as beside:
        loaded = beside.submit(load, empty, folder)
        eventually(lambda: True if rows_done(empty) >= OLD // 8 else None, 60, lambda: "nothing is loaded")
        empty.publish([*copies, *fresh])
        for part in ("photos-storage", "photos-search"):
            empty.deployment.kill(part)
        assert loaded.result(timeout=240) == (OLD, len(set(clusters.values())))

    found = empty.await_heads([*clusters, *(row.image_id for row in copies)], timeout_s=180)
    assert {each: found[each] for each in clusters} == clusters
    assert [found[row.image_id] for row in copies] == [clusters[old_id(row)] for row in copies]
    empty.await_count(OLD + len(copies) + len(fresh))

    told = empty.assignments()
    assert (told[0]["history_number"], told[0]["image_id"]) == (OLD, ""), told[0]
    assert [each["history_number"] for each in told[1:]] == list(range(OLD + 1, OLD + len(told)))
    with empty.api() as api:
        head, members = max(
            ((head, [each for each in clusters if clusters[each] == head]) for head in set(clusters.values())),
            key=lambda item: len(item[1]),
        )
        assert set(members) <= set(api.members(head))
        assert api.image(members[-1]).cause == "bootstrapped"
    assert empty.problems() == []
    code, said = run("verify", "--against", "index", "--json")
    assert (code, json.loads(said)["index_problems"]) == (0, {})
    code, said = run("bootstrap", "status", "--json")
    assert (code, json.loads(said)["state"]) == (0, "live")
    code, said = run("bootstrap", "abort", json.loads(said)["storage"]["request"]["manifest_id"])
    assert code != 0
    assert "live" in said


def test_a_service_that_has_begun_takes_no_first_load(empty: Stack, run: Run, tmp_path: Path) -> None:
    export, folder = tmp_path / "export.parquet", str(tmp_path / "other")
    pq.write_table(pq.read_table(SAMPLE).slice(OLD, 10), export)
    assert run("bootstrap", "convert", str(export), "--to", folder, "--name", "a", "--cluster", "group_id")[0] == 0
    code, said = run("bootstrap", "load", folder, "a")
    assert code == Exit.MISMATCH
    assert "the store began with" in said
    assert empty.problems() == []


def load(stack: Stack, folder: str) -> tuple[int, int]:
    """What `neardup bootstrap load` does, which belongs to the main thread."""
    with closing(Servers(stack.settings, None, Right.WRITE)) as both:
        request = load_request(stack.settings, None, folder, "first")
        found = until_live(request, both.storage, both.search, lambda found: None)
    assert found.state is LoadState.LIVE
    assert found.storage is not None
    return found.storage.images, found.storage.clusters


def rows_done(stack: Stack) -> int:
    """How many rows both servers have."""
    with closing(Servers(stack.settings, None, Right.READ)) as both:
        return min(each.rows_done if each else 0 for each in (both.storage.load_status(), both.search.load_status()))


def expected_heads(rows: pa.Table) -> dict[str, str]:
    """The head of each image: the first row of its group."""
    first: dict[str, str] = {}
    return {
        image: first.setdefault(group, image)
        for image, group in zip(rows["image_id"].to_pylist(), rows["group_id"].to_pylist(), strict=True)
    }


def old_id(row: ImageRow) -> str:
    """Of which old image this is a copy."""
    return row.image_id.removeprefix("again-")
