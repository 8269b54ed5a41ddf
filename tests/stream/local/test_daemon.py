"""What is written for supervisord survives odd paths and values."""

from __future__ import annotations

import configparser
import os
import subprocess
from pathlib import Path

import pytest

from stream.local.daemon import Daemon, write_files
from stream.local.errors import DeploymentError
from stream.local.parts import Part
from stream.local.processes import MARK


def test_a_part_is_told_its_environment_and_arguments(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "a b" / "d'ata")
    odd = """a b;c %d "q" 'q' $HOME `id` \\ #"""
    part = Part(name="echo", command=("/usr/bin/env", "printf", r"%s\n", odd), stop_wave=0, environment={"ODD": odd})
    show = Part(name="show", command=("/usr/bin/env",), stop_wave=0, environment={"ODD": odd})
    write_files(daemon.render([part, show]))
    daemon.logs.mkdir()

    def run(name: str) -> str:
        script = daemon.run / "start" / f"{name}.sh"
        return subprocess.run(("/bin/bash", str(script)), capture_output=True, text=True, check=True).stdout

    assert run("echo") == odd + "\n"
    assert f"ODD={odd}\n" in run("show")
    assert f"{MARK}={daemon.data}\n" in run("show")


def test_every_part_is_a_program_that_comes_back(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    parts = [
        Part(name="stays", command=("true",), stop_wave=0),
        Part(name="ends", command=("true",), stop_wave=0, once=True),
    ]
    config = configparser.RawConfigParser()
    config.read_string(daemon.render(parts)[daemon.run / "supervisord.conf"])
    assert config["program:stays"]["autorestart"] == "true"
    assert config["program:ends"]["autorestart"] == "unexpected"
    for name in ("stays", "ends"):
        program = config[f"program:{name}"]
        assert program["autostart"] == "false"
        assert program["stopasgroup"] == program["killasgroup"] == "true"
        assert program["stdout_logfile_maxbytes"] == "20MB"


def test_rendering_twice_writes_nothing_new_and_only_for_the_owner(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    files = daemon.render([Part(name="one", command=("true",), stop_wave=0)])
    assert write_files(files)
    assert not write_files(files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_a_socket_path_never_exceeds_what_the_system_takes(tmp_path: Path) -> None:
    assert Daemon(Path("/srv/x")).socket == Path("/srv/x/run/supervisor.sock")
    deep = [Daemon(tmp_path / ("d" * 200) / name).socket for name in ("a", "b")]
    assert deep[0] != deep[1]
    assert all(len(os.fsencode(path)) < 100 for path in deep)


def test_nobody_there(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    assert not daemon.alive()
    with pytest.raises(DeploymentError, match="does not answer"):
        daemon.programs()


def test_a_configuration_that_is_refused_is_explained(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    write_files({daemon.run / "supervisord.conf": "[supervisord]\nloglevel=nonsense\n"})
    with pytest.raises(DeploymentError, match="nonsense"):
        daemon.start(os.environ)
