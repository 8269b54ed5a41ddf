"""Processes of a deployment are found by their mark, and only those are ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from stream.local.processes import MARK, end_processes, holder_of_port, marked_processes

_SLEEP = "print('up', flush=True); import time; time.sleep(60)"
_STUBBORN = "import signal; signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True)); " + _SLEEP


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def run(data: Path, code: str = _SLEEP, *more: str) -> subprocess.Popen[bytes]:
        command = (sys.executable, "-S", "-c", code, *more)
        process = subprocess.Popen(command, env={**os.environ, MARK: str(data)}, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_only_the_deployments_own_are_found(tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    mine, other = spawn(tmp_path / "a"), spawn(tmp_path / "b")
    spawn(tmp_path / "aa")
    assert [process.pid for process in marked_processes(tmp_path / "a")] == [mine.pid]
    assert [process.pid for process in marked_processes(tmp_path / "b")] == [other.pid]
    assert marked_processes(tmp_path / "c") == []


def test_a_child_that_lost_its_parent_is_found(tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    fork = f"import os; os.fork() and os._exit(0); {_SLEEP}"
    parent = spawn(tmp_path, fork)
    parent.wait()
    (orphan,) = marked_processes(tmp_path)
    assert orphan.pid != parent.pid
    assert end_processes([orphan], grace_s=5.0) == [orphan.pid]
    assert marked_processes(tmp_path) == []


def test_one_that_does_not_listen_is_killed(tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = spawn(tmp_path, _STUBBORN)
    assert end_processes(marked_processes(tmp_path), grace_s=0.5) == [process.pid]
    assert not psutil.pid_exists(process.pid)
    assert process.stdout is not None
    assert process.stdout.read() == b"asked\n"


def test_the_supervisor_is_ended_first_and_at_once(
    tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]
) -> None:
    spawn(tmp_path)
    supervisor = spawn(tmp_path, _STUBBORN, "supervisor.supervisord")
    found = marked_processes(tmp_path)
    assert found[0].pid == supervisor.pid
    end_processes(found, grace_s=5.0)
    assert not psutil.pid_exists(supervisor.pid)
    assert supervisor.stdout is not None
    assert supervisor.stdout.read() == b""


def test_ending_what_has_ended(tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = spawn(tmp_path)
    found = marked_processes(tmp_path)
    process.kill()
    process.wait()
    assert end_processes(found, grace_s=1.0) == []


def test_the_caller_is_never_among_them(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from stream.local.processes import marked_processes;"
        "print([process.pid for process in marked_processes(Path(sys.argv[1]))])"
    )
    done = subprocess.run(
        (sys.executable, "-c", code, str(tmp_path)),
        env={**os.environ, MARK: str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_who_holds_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        told = holder_of_port(server.getsockname()[1])
    assert str(os.getpid()) in told
    assert psutil.Process().name() in told
