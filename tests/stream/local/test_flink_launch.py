"""How the two processes of Flink start: one argument file each, with the sizes that Flink itself calculates."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stream.local.certificates import ensure_certificate
from stream.local.errors import DeploymentError
from stream.local.flink_home import flink_command, prepare_flink
from stream.local.flink_launch import ROLES, argument_file
from stream.settings import Settings


def _conf(settings: Settings) -> Path:
    return settings.data_dir / "flink" / "conf"


def _words(settings: Settings, role: str) -> list[str]:
    text = argument_file(_conf(settings), role).read_text()  # type: ignore[arg-type]
    return [line.removeprefix('"').removesuffix('"') for line in text.splitlines()]


def test_java_accepts_the_files_and_each_role_has_its_sizes_and_its_metrics_port(settings: Settings) -> None:
    ensure_certificate(settings)
    prepare_flink(settings)
    ports = (settings.flink.jobmanager_metrics_port, settings.flink.taskmanager_metrics_port)
    for role, port in zip(ROLES, ports, strict=True):
        java, at_file = flink_command(settings, role)[-2:]
        read = subprocess.run((java, "-version", at_file), capture_output=True, text=True, timeout=60, check=False)
        assert read.returncode == 0, read.stderr
        words = _words(settings, role)
        assert words[-2:] == ["-D", f"metrics.reporter.prom.port={port}"]
        assert words[-3] == f"io.tmp.dirs={settings.data_dir / 'flink' / 'tmp' / role}"
        assert f"-XX:ErrorFile={settings.data_dir / 'log' / role}-crash.txt" in words
        assert any(word.startswith("-Xmx") for word in words)
        assert "--add-opens=java.base/java.lang=ALL-UNNAMED" in words
    assert any("taskmanager.memory.managed.size=" in word for word in _words(settings, "taskmanager"))
    assert any("jobmanager.memory.heap.size=" in word for word in _words(settings, "jobmanager"))


def test_the_calculation_is_asked_again_when_the_sizes_change(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_certificate(settings)
    prepare_flink(settings)
    before = _words(settings, "jobmanager")
    with monkeypatch.context() as nothing_may_start:
        nothing_may_start.setattr(subprocess, "Popen", None)
        prepare_flink(settings)
    flink = settings.flink.model_copy(update={"jobmanager_memory_mb": settings.flink.jobmanager_memory_mb + 512})
    prepare_flink(settings.model_copy(update={"flink": flink}))
    assert _words(settings, "jobmanager") != before


def test_sizes_that_flink_refuses_are_refused_with_its_words(settings: Settings) -> None:
    ensure_certificate(settings)
    flink = settings.flink.model_copy(update={"taskmanager_memory_mb": 300})
    with pytest.raises(DeploymentError, match="memory"):
        prepare_flink(settings.model_copy(update={"flink": flink}))
    assert not argument_file(_conf(settings), "taskmanager").exists()


def test_a_start_removes_what_dead_processes_left_and_nothing_of_a_living_one(settings: Settings) -> None:
    folder = settings.data_dir / "flink" / "tmp" / "taskmanager"
    (folder / "tm_dead" / "state").mkdir(parents=True)
    other = folder.with_name("jobmanager") / "jm_other"
    other.mkdir(parents=True)
    *start, _, _ = flink_command(settings, "taskmanager")

    # Each takes the place of Java. The first one lives until its input ends.
    living = subprocess.Popen((*start, "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert living.stdin is not None
    assert living.stdout is not None
    living.stdin.write(b"lives\n")
    living.stdin.flush()
    assert living.stdout.readline() == b"lives\n"
    assert list(folder.iterdir()) == []
    (folder / "tm_living").mkdir()
    subprocess.run((*start, "true"), check=True)
    assert list(folder.iterdir()) == [folder / "tm_living"]

    living.kill()
    living.communicate()
    subprocess.run((*start, "true"), check=True)
    assert list(folder.iterdir()) == []
    assert other.is_dir()


def test_a_folder_that_cannot_be_emptied_stops_no_start(settings: Settings) -> None:
    *start, _, _ = flink_command(settings, "taskmanager")
    done = subprocess.run((*start, "echo", "started"), capture_output=True, text=True, check=True)
    assert done.stdout == "started\n"
    assert "taskmanager.lock" in done.stderr
