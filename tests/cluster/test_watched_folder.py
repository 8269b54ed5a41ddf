"""A service loads what appears in its folder of manifests, without a command, under a kill of what watches it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from stream.local.resolved import resolved_toml
from tests.support.moto_s3 import AWS
from tests.support.old_images import OLD, PACED, Run, expected_heads, export, manifest_ends, old_id, rows_done, runner
from tests.support.stack import ROOT, Stack, eventually, running, sample_rows, stack_settings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

S3_PLUGIN = ROOT / "jvm" / "lib" / "plugins" / "s3"


@contextmanager
def watching(tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A running deployment to which nothing was applied, and which watches a folder."""
    with running(stack_settings(tmp_path / "data", {"photos": {**PACED, "manifests": root}})) as stack:
        file = tmp_path / "neardup.toml"
        file.write_text(resolved_toml(stack.settings), encoding="utf-8")
        monkeypatch.setenv("NEARDUP_SETTINGS", str(file))
        yield stack


def test_a_manifest_that_appears_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = tmp_path / "old", runner(capsys.readouterr)
    with watching(tmp_path, str(root), monkeypatch) as stack:
        eventually(lambda: True if waiting(stack) == 1 else None, 60, lambda: "nobody says that the folder is away")
        (root / "manifests").mkdir(parents=True)
        eventually(lambda: True if waiting(stack) == 0 else None, 60, lambda: "nobody says that the folder is there")
        (root / "manifests" / "notes.json").write_text("not a manifest")
        clusters = write_manifest(run, tmp_path, str(root), "first")
        eventually(lambda: True if rows_done(stack) >= OLD // 8 else None, 60, lambda: "nothing is loaded")
        copies = [replace(row, image_id=f"again-{row.image_id}") for row in sample_rows(30)]
        fresh = sample_rows(30, skip=OLD)
        stack.publish([*copies, *fresh])
        stack.deployment.kill("taskmanager")
        await_loaded(stack, clusters)
        found = stack.await_heads([row.image_id for row in copies])
        assert found == {row.image_id: clusters[old_id(row)] for row in copies}
        stack.await_count(OLD + len(copies) + len(fresh))

        # The job was submitted again, and asked once more for all that is there.
        assert manifest_ends(stack) == {"live": 1, "unreadable": 1}
        write_manifest(run, tmp_path, str(root), "second", skip=OLD + 100)
        eventually(
            lambda: manifest_ends(stack).get("refused"), 60, lambda: f"the files ended as {manifest_ends(stack)}"
        )
        stack.publish(later := sample_rows(5, skip=OLD + 50))
        stack.await_heads([row.image_id for row in later])

        # A delta goes through the order; each of its images is a head.
        file = tmp_path / "third.parquet"
        new = export(file, 20, skip=OLD + 200)["image_id"].to_pylist()
        delta = ("--to", str(root), "--name", "third", "--delta", "--previous", "first", "--head", "image_id")
        assert run("bootstrap", "convert", str(file), *delta)[0] == 0
        assert stack.await_heads(new) == {each: each for each in new}
        eventually(
            lambda: True if manifest_ends(stack)["live"] == 2 else None,
            60,
            lambda: f"the files ended as {manifest_ends(stack)}",
        )
        assert stack.problems() == []
        code, said = run("verify", "--against", "index", "--json")
        assert (code, json.loads(said)["index_problems"]) == (0, {})


@pytest.mark.skipif(not S3_PLUGIN.is_dir(), reason="Flink's S3 plugin was not fetched: run `make setup S3=1`")
def test_a_manifest_that_appears_in_s3_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], moto_url: str
) -> None:
    for name, value in {**AWS, "AWS_ENDPOINT_URL": moto_url}.items():
        monkeypatch.setenv(name, value)
    assert httpx.put(f"{moto_url}/watched").status_code == 200
    root, run = "s3://watched/some/old", runner(capsys.readouterr)
    with watching(tmp_path, root, monkeypatch) as stack:
        clusters = write_manifest(run, tmp_path, root, "first")
        await_loaded(stack, clusters)
        assert manifest_ends(stack) == {"live": 1}
        stack.publish(later := sample_rows(5, skip=OLD))
        stack.await_heads([row.image_id for row in later])


def write_manifest(run: Run, tmp_path: Path, root: str, name: str, skip: int = 0) -> dict[str, str]:
    """Makes a manifest of old images; returns the head of each."""
    file = tmp_path / f"{name}.parquet"
    old = export(file, skip=skip)
    code, said = run("bootstrap", "convert", str(file), "--to", root, "--name", name, "--cluster", "group_id")
    assert code == 0, said
    return expected_heads(old)


def await_loaded(stack: Stack, clusters: dict[str, str]) -> None:
    """Waits until old images have the heads that they came with, and the watcher of the job knows it."""
    assert stack.await_heads(list(clusters), timeout_s=180) == clusters
    eventually(lambda: manifest_ends(stack).get("live"), 120, lambda: f"the files ended as {manifest_ends(stack)}")


def waiting(stack: Stack) -> int:
    """How many manifests wait, as the running job says."""
    return sum(count for _, count in samples(stack, "_neardup_manifests_waiting"))


def samples(stack: Stack, metric: str) -> list[tuple[str, int]]:
    """The labels and the value of each series of a metric of the task manager."""
    page = httpx.get(f"http://127.0.0.1:{stack.settings.flink.taskmanager_metrics_port}/metrics").text
    lines = [line.rpartition(" ") for line in page.splitlines() if f"{metric}{{" in line and line[0] != "#"]
    return [(labels, int(float(count))) for labels, _, count in lines]
