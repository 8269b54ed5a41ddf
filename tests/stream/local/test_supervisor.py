"""Deployments of dummy parts under a real supervisord: order, restarts, faults, and nothing left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from core.errors import MismatchError
from stream.local.errors import DeploymentError, PartFailedError, PortTakenError
from stream.local.parts import Part
from stream.local.processes import marked_processes
from stream.local.status import PartStatus
from stream.local.supervisor import Deployment
from stream.settings import Settings, load_settings

Deploy = Callable[..., Deployment]
Dummy = Callable[..., Part]


def _by_name(deployment: Deployment) -> dict[str, PartStatus]:
    return {status.name: status for status in deployment.status()}


def _until(holds: Callable[[], bool], patience_s: float = 30.0) -> None:
    """Polls; the patience only ends a test that fails."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.05)


def test_up_then_down_in_the_stated_orders(deploy: Deploy, dummy: Dummy, tmp_path: Path) -> None:
    deployment = deploy(
        dummy("base", stop_wave=2),
        dummy("middle", stop_wave=1, after=("base",)),
        dummy("top", stop_wave=0, after=("base", "middle")),
    )
    assert [status.state for status in deployment.status()] == ["stopped"] * 3
    told: list[tuple[str, str]] = []
    deployment.up(lambda name, state, detail: told.append((name, state)))
    assert told == [(name, state) for name in ("base", "middle", "top") for state in ("starting", "ready")]
    assert all(status.ok and status.pid and not status.detail for status in deployment.status())
    assert "base serves" in deployment.log("base").read_text()

    deployment.down()

    assert (tmp_path / "order").read_text().split() == ["top", "middle", "base"]
    assert not deployment._daemon.socket.exists()
    assert marked_processes(deployment.data) == []
    assert [status.state for status in deployment.status()] == ["stopped"] * 3


def test_up_and_down_may_be_repeated(deploy: Deploy, dummy: Dummy) -> None:
    deployment = deploy(dummy("one"))
    deployment.up()
    pid = _by_name(deployment)["one"].pid
    deployment.up()
    assert _by_name(deployment)["one"].pid == pid
    deployment.down()
    deployment.down()
    deployment.up()
    assert _by_name(deployment)["one"].ok
    deployment.down()


def test_data_is_for_its_owner_alone(deploy: Deploy, dummy: Dummy) -> None:
    deployment = deploy(dummy("alone"))
    deployment.data.mkdir(parents=True, exist_ok=True, mode=0o755)
    deployment.data.chmod(0o755)  # as an earlier release made it
    deployment.up()
    assert deployment.data.stat().st_mode & 0o777 == 0o700
    assert deployment.log("alone").stat().st_mode & 0o077 == 0  # written by what the supervisor started


def test_what_is_killed_comes_back(deploy: Deploy, dummy: Dummy) -> None:
    deployment = deploy(dummy("one"), dummy("other"))
    deployment.up()
    before = _by_name(deployment)
    assert deployment.kill("one") == before["one"].pid
    _until(lambda: _by_name(deployment)["one"].pid not in (None, before["one"].pid))
    deployment.wait_ready()
    assert _by_name(deployment)["other"].pid == before["other"].pid


def test_a_part_can_be_kept_away(deploy: Deploy, dummy: Dummy) -> None:
    deployment = deploy(dummy("one"))
    deployment.up()
    deployment.stop("one")
    assert _by_name(deployment)["one"] == PartStatus("one", "stopped", None, 0.0, "")
    with pytest.raises(DeploymentError, match="does not run"):
        deployment.kill("one")
    deployment.start("one")
    assert _by_name(deployment)["one"].ok


def test_a_part_that_ends_by_itself_goes_before_those_that_need_it(
    deploy: Deploy, dummy: Dummy, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    # Fails once, as a step does whose server has only just come up; it is tried again.
    step = Part(
        name="step",
        command=("/bin/sh", "-c", f"test -e {made} && exit 0; touch {made}; exit 1"),
        stop_wave=0,
        once=True,
    )
    deployment = deploy(step, dummy("top", after=("step",)))
    deployment.up()
    assert made.exists()
    assert _by_name(deployment)["step"].state == "done"
    assert _by_name(deployment)["top"].ok


def test_a_part_that_does_not_come_is_named_with_its_log(deploy: Deploy, dummy: Dummy) -> None:
    command = ("/bin/sh", "-c", "echo there is no model; sleep 1.5; exit 7")
    deployment = deploy(dummy("good"), dummy("bad", command=command), dummy("late", after=("bad",)))
    with pytest.raises(PartFailedError, match="bad is not ready: it ended 3 times") as failure:
        deployment.up()
    assert failure.value.part == "bad"
    assert "there is no model" in str(failure.value)
    status = _by_name(deployment)
    assert status["good"].ok
    assert status["late"].state == "stopped"
    deployment.down()
    assert marked_processes(deployment.data) == []


def test_a_part_that_never_answers_is_given_up(deploy: Deploy, dummy: Dummy) -> None:
    deployment = deploy(dummy("mute", command=("/bin/sleep", "60"), ready_timeout_s=0.5))
    with pytest.raises(PartFailedError, match="refused"):
        deployment.up()


def test_a_part_that_ignores_the_request_to_end_is_killed_with_its_children(deploy: Deploy, dummy: Dummy) -> None:
    command = ("/bin/sh", "-c", "trap '' TERM; sleep 61 & sleep 62; sleep 63")
    deployment = deploy(dummy("deaf", command=command, ready=lambda: None, stop_wait_s=1.0))
    deployment.up()
    _until(lambda: len(marked_processes(deployment.data)) >= 4)
    deployment.down()
    assert marked_processes(deployment.data) == []


def test_parts_that_lost_their_supervisor_are_seen_and_replaced(deploy: Deploy, dummy: Dummy) -> None:
    deployment = deploy(dummy("one"))
    deployment.up()
    orphan = _by_name(deployment)["one"].pid
    assert orphan is not None
    supervisor = int((deployment.data / "run" / "supervisord.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    _until(lambda: not psutil.pid_exists(supervisor))
    lost = _by_name(deployment)["one"]
    assert lost.state == "orphaned"
    assert str(orphan) in lost.detail

    told: list[tuple[str, str]] = []
    deployment.up(lambda name, state, detail: told.append((name, state)))

    assert told[0] == ("leftovers", "stopped")
    assert not psutil.pid_exists(orphan)
    assert _by_name(deployment)["one"].ok


def test_down_ends_what_lost_its_supervisor(deploy: Deploy, dummy: Dummy) -> None:
    deployment = deploy(dummy("one"))
    deployment.up()
    os.kill(int((deployment.data / "run" / "supervisord.pid").read_text()), signal.SIGKILL)
    deployment.down()
    assert marked_processes(deployment.data) == []


def test_a_data_folder_may_lie_deep(dummy: Dummy, settings: Settings, tmp_path: Path) -> None:
    deep = settings.model_copy(update={"data": tmp_path / ("d" * 100) / "data"})
    deployment = Deployment(deep, (dummy("one"),))
    try:
        deployment.up()
        assert _by_name(deployment)["one"].ok
    finally:
        deployment.down()
    assert not deployment._daemon.socket.parent.exists()


def test_new_settings_restart_what_runs(deploy: Deploy, dummy: Dummy, settings: Settings) -> None:
    part = dummy("one")
    deploy(part).up()
    before = _by_name(deploy(part))["one"].pid
    changed = settings.model_copy(update={"join": settings.join.model_copy(update={"timeout_s": 99.0})})
    deployment = deploy(part, settings=changed)
    deployment.up()
    assert _by_name(deployment)["one"].pid != before
    assert load_settings(deployment.settings_file).join.timeout_s == 99.0


def test_parts_read_the_written_settings_and_no_others(
    deploy: Deploy, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARDUP_JOIN__TIMEOUT_S", "3")
    monkeypatch.setenv("NEARDUP_LOG_FORMAT", "json")
    code = "from stream.settings import load_settings as load; from stream.log_lines import log_format as form;"
    code += "print('timeout', load().join.timeout_s, load().data_dir, form())"
    deployment = deploy(Part(name="ask", command=(sys.executable, "-c", code), stop_wave=0, once=True))
    deployment.up()
    assert f"timeout {settings.join.timeout_s} {settings.data_dir} json" in deployment.log("ask").read_text()


def test_data_of_other_topics_is_refused_before_anything_starts(
    deploy: Deploy, dummy: Dummy, settings: Settings
) -> None:
    (settings.signal_dir("photos", "job") / "checkpoints").mkdir(parents=True)
    deployment = deploy(dummy("one"))
    with pytest.raises(MismatchError, match='topic_prefix = ""'):
        deployment.up()
    assert marked_processes(deployment.data) == []


def test_a_port_in_use_is_named_before_anything_starts(deploy: Deploy, dummy: Dummy) -> None:
    part = dummy("one")
    (listener,) = part.listeners
    deployment = deploy(dummy("first"), part)
    with (
        socket.create_server(("127.0.0.1", listener.port)),
        pytest.raises(PortTakenError, match=rf"one cannot listen .*:{listener.port} \(one.port\).*{os.getpid()}"),
    ):
        deployment.up()
    assert marked_processes(deployment.data) == []


def test_two_at_a_time_are_refused(deploy: Deploy, dummy: Dummy) -> None:
    deployment = deploy(dummy("one"))
    (deployment.data / "run").mkdir(parents=True)
    with (deployment.data / "run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for action in (deployment.up, deployment.down):
            with pytest.raises(DeploymentError, match="another start or stop"):
                action()


def test_what_is_prepared_is_there_before_the_first_part_starts(deploy: Deploy, dummy: Dummy, tmp_path: Path) -> None:
    file = tmp_path / "prepared"
    step = Part(name="step", command=("/usr/bin/test", "-e", str(file)), stop_wave=0, once=True)
    deployment = deploy(step, dummy("one", prepare=file.touch))
    deployment.up()
    assert _by_name(deployment)["step"].state == "done"


def test_unknown_parts_are_named_with_the_known_ones(deploy: Deploy, dummy: Dummy) -> None:
    deployment = deploy(dummy("one"))
    for action in (deployment.kill, deployment.stop, deployment.start):
        with pytest.raises(DeploymentError, match=r"no part|does not answer"):
            action("nonsense")
