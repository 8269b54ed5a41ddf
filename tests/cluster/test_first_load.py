"""A service begins with images of another system: converted, checked, loaded under kills; the stream; a delta."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.access import Right
from core.first_loads import LoadState
from core.manifest_rows import RowResult
from storage.loading.delta_report import DeltaReport
from stream.bootstrap.loading import Servers, load_request, until_all_entered, until_live
from stream.cli.exits import Exit
from stream.local.resolved import resolved_toml
from tests.support.old_images import OLD, PACED, Run, expected_heads, export, old_id, rows_done, runner
from tests.support.stack import Stack, eventually, running, sample_rows, stack_settings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running deployment to which nothing was applied."""
    with running(stack_settings(tmp_path_factory.mktemp("empty"), {"photos": PACED})) as stack:
        yield stack


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the manifests lie."""
    return str(tmp_path_factory.mktemp("old"))


@pytest.fixture
def run(empty: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; gives its exit code, and its output or its complaint."""
    file = tmp_path / "neardup.toml"
    file.write_text(resolved_toml(empty.settings), encoding="utf-8")
    monkeypatch.setenv("NEARDUP_SETTINGS", str(file))
    return runner(capsys.readouterr)


def test_a_service_begins_with_old_images(empty: Stack, run: Run, old: str, tmp_path: Path) -> None:
    file = tmp_path / "export.parquet"
    rows = export(file)
    named = ("--to", old, "--name", "first", "--cluster", "group_id")
    code, said = run("bootstrap", "convert", str(file), *named, "--json")
    assert (code, json.loads(said)["rows"]) == (0, OLD)
    code, said = run("bootstrap", "check", old, "first", "--json")
    checked = json.loads(said)
    assert (code, checked["images"], checked["fault_count"]) == (0, OLD, 0)
    clusters = expected_heads(rows)
    assert checked["clusters"] == len(set(clusters.values()))

    # New images come while it runs, copies of old ones and others; both servers are killed meanwhile.
    copies = [replace(row, image_id=f"again-{row.image_id}") for row in sample_rows(30)]
    fresh = sample_rows(30, skip=OLD)
    with ThreadPoolExecutor(1) as beside:
        loaded = beside.submit(load, empty, old)
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


def test_a_delta_follows_while_new_images_come(empty: Stack, run: Run, old: str, tmp_path: Path) -> None:
    file = tmp_path / "export.parquet"
    first, rows = export(file), export(file, 200, skip=OLD + 30)
    clusters = expected_heads(first)
    groups = dict(zip(first["group_id"].to_pylist(), map(clusters.get, first["image_id"].to_pylist()), strict=True))
    said = expected_heads(rows, {group: head for group, head in groups.items() if head is not None})
    assert set(said.values()) & set(clusters.values())
    member = next(at for at, (image_id, head) in enumerate(clusters.items()) if image_id != head)
    kept, lost = first.slice(member, 1), first.slice(8, 1).set_column(0, "image_id", [["lost"]])
    known = clusters[kept["image_id"][0].as_py()]
    whole = pa.concat_tables([rows, kept, lost])
    pq.write_table(whole.append_column("head", [[*said.values(), known, "nobody"]]), file)
    named = ("--to", old, "--name", "second", "--delta", "--previous", "first", "--head", "head")
    assert run("bootstrap", "convert", str(file), *named)[0] == 0

    # Copies of old images come while it runs; storage is killed meanwhile.
    copies = [replace(row, image_id=f"later-{row.image_id}") for row in sample_rows(30)]
    with ThreadPoolExecutor(1) as beside:
        entered = beside.submit(load_delta, empty, old)
        eventually(lambda: True if delta_rows(empty) >= 40 else None, 60, lambda: "no row has entered")
        empty.publish(copies)
        empty.deployment.kill("photos-storage")
        report = entered.result(timeout=240)

    founded = sum(image_id == head for image_id, head in said.items())
    assert report.counts == {
        RowResult.JOINED: len(said) - founded,
        RowResult.FOUNDED: founded,
        RowResult.KEPT: 1,
        RowResult.ELSEWHERE_HEAD_GONE: 1,
    }
    assert [(each.row, each.result) for each in report.examples] == [
        (len(said), RowResult.KEPT),
        (len(said) + 1, RowResult.ELSEWHERE_HEAD_GONE),
    ]
    found = empty.await_heads([*said, "lost", *(row.image_id for row in copies)], timeout_s=180)
    assert {each: found[each] for each in said} == said
    assert found["lost"] == "lost"
    assert [found[row.image_id] for row in copies] == [clusters[row.image_id.removeprefix("later-")] for row in copies]
    with empty.api() as api:
        assert {api.image(each).cause for each in said} <= {"bootstrapped", "founded"}
    assert empty.problems() == []
    code, told = run("verify", "--against", "index", "--json")
    assert (code, json.loads(told)["index_problems"]) == (0, {})
    code, told = run("bootstrap", "status", "--json")
    (delta,) = json.loads(told)["deltas"]
    assert (code, delta["state"], delta["counts"]["kept"]) == (0, "live", 1)
    code, told = run("bootstrap", "load", old, "second", "--json")
    assert (code, json.loads(told)) == (0, delta)
    code, told = run("bootstrap", "abort", delta["request"]["manifest_id"])
    assert (code, "all of its rows have entered" in told) == (Exit.MISMATCH, True)


def test_a_service_that_has_begun_takes_no_first_load(empty: Stack, run: Run, tmp_path: Path) -> None:
    file, folder = tmp_path / "export.parquet", str(tmp_path / "other")
    export(file, 10, skip=OLD)
    assert run("bootstrap", "convert", str(file), "--to", folder, "--name", "a", "--cluster", "group_id")[0] == 0
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


def load_delta(stack: Stack, folder: str) -> DeltaReport:
    """What `neardup bootstrap load` does with a delta."""
    with closing(Servers(stack.settings, None, Right.WRITE)) as both:
        request = load_request(stack.settings, None, folder, "second")
        return until_all_entered(request, both.storage, lambda found: None)


def delta_rows(stack: Stack) -> int:
    """How many rows of the delta are applied."""
    with stack.storage() as storage:
        return sum(each.load.rows_done for each in storage.deltas())
