"""One supervisord: its configuration, its start, and calls to it over a unix socket.

Layout below the data folder:

    run/supervisord.conf      names every program; written at every start
    run/start/NAME.sh         starts one part in the foreground, also by hand
    run/supervisord.pid run/supervisor.sock
    log/NAME.log              output of a part, rotated
    log/NAME-crash.txt        the report of the last crash of a JVM
"""

from __future__ import annotations

import hashlib
import http.client
import os
import resource
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from stream.local.errors import DeploymentError
from stream.local.files import write_if_new
from stream.local.parts import Part
from stream.local.processes import MARK

__all__ = ["Daemon", "ProcessInfo", "write_files"]

_SOCKET_PATH_LIMIT = 90
"""A unix socket path has at most 107 bytes, and supervisord appends its process id while it binds."""

_CALL_TIMEOUT_S = 10.0
_START_TIMEOUT_S = 30.0
_OPEN_FILES = 65_536
_FAULT_BAD_NAME = 10
_FAULT_NOT_RUNNING = 70
_FAULT_ALREADY_STARTED = 60


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """What supervisord knows of a program.

    Attributes:
        state: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN.
        pid: 0 without a process.
        exit_status: Of the last ended process.
        uptime_s: Of the running process.
    """

    name: str
    state: str
    pid: int
    exit_status: int
    uptime_s: float
    detail: str


class Daemon:
    """Drives the supervisord of one data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.run = data / "run"
        self.logs = data / "log"
        self.socket = _socket_path(self.run)

    def render(self, parts: Iterable[Part]) -> dict[Path, str]:
        """The files from which supervisord runs these parts."""
        parts = list(parts)
        files = {self.run / "start" / f"{part.name}.sh": self._start_script(part) for part in parts}
        files[self.run / "supervisord.conf"] = self._header() + "".join(_program(part) for part in parts)
        return files

    def start(self, environment: Mapping[str, str]) -> None:
        """Starts supervisord in the background. `start_program` starts the programs.

        Raises:
            DeploymentError: It does not start.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        self._make_socket_folder()
        command = (sys.executable, "-m", "supervisor.supervisord", "-c", str(self.run / "supervisord.conf"))
        try:
            done = subprocess.run(
                command,
                cwd=self.logs,
                env={**environment, MARK: str(self.data)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_START_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeploymentError(f"supervisord did not go to the background in {_START_TIMEOUT_S:.0f} s") from error
        if done.returncode != 0:
            raise DeploymentError(f"supervisord does not start:\n{(done.stdout + done.stderr).strip()}")

    def forget(self) -> None:
        """Removes what an ended supervisord left outside the data folder."""
        if self.socket.parent != self.run:
            shutil.rmtree(self.socket.parent, ignore_errors=True)

    def alive(self) -> bool:
        """Whether supervisord answers."""
        try:
            self._call("supervisor.getState")
        except DeploymentError:
            return False
        return True

    def programs(self) -> dict[str, ProcessInfo]:
        """Every program by name.

        Raises:
            DeploymentError: supervisord does not answer.
        """
        infos = cast(list[dict[str, Any]], self._call("supervisor.getAllProcessInfo"))
        return {
            info["name"]: ProcessInfo(
                name=info["name"],
                state=info["statename"],
                pid=info["pid"],
                exit_status=info["exitstatus"],
                uptime_s=float(info["now"] - info["start"]) if info["pid"] else 0.0,
                detail=info["spawnerr"],
            )
            for info in infos
        }

    def start_program(self, name: str) -> None:
        """Starts a program without waiting for it. A running one is not touched."""
        self._call("supervisor.startProcess", name, False, allowed=_FAULT_ALREADY_STARTED)

    def stop_program(self, name: str) -> None:
        """Asks a program to stop, without waiting for it. An ended one is not touched."""
        self._call("supervisor.stopProcess", name, False, allowed=_FAULT_NOT_RUNNING)

    def shutdown(self) -> None:
        """Asks supervisord to stop, with all its programs."""
        self._call("supervisor.shutdown")

    def _call(self, method: str, *arguments: object, allowed: int | None = None) -> object:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self.socket)) as proxy:
            try:
                answer: object = getattr(proxy, method)(*arguments)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == allowed:
                    return None
                if fault.faultCode == _FAULT_BAD_NAME:
                    raise DeploymentError(f"there is no part {arguments[0]!r} in this deployment") from fault
                raise DeploymentError(f"supervisord refuses {method}: {fault.faultString}") from fault
            except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
                raise DeploymentError(f"supervisord does not answer on {self.socket}: {error}") from error
        return answer

    def _make_socket_folder(self) -> None:
        folder = self.socket.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid():
            raise DeploymentError(f"{folder} belongs to another user; it would hold the socket that controls the parts")

    def _header(self) -> str:
        files = min(_OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        user = f"user={os.getuid()}\n" if os.getuid() == 0 else ""
        return f"""\
; Written at every start; edits are lost.
[unix_http_server]
file={_escaped(self.socket)}
chmod=0700

[supervisord]
logfile={_escaped(self.logs / "supervisord.log")}
logfile_maxbytes=5MB
logfile_backups=2
pidfile=%(here)s/supervisord.pid
childlogdir={_escaped(self.logs)}
minfds={files}
umask=077
{user}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

    def _start_script(self, part: Part) -> str:
        lines = ["#!/bin/bash", f"# Starts {part.name} in the foreground. Written at every start; edits are lost."]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(part.environment.items())]
        lines += [f"export {MARK}={shlex.quote(str(self.data))}"]
        # The log folder is the working folder, so what a part leaves in it is found, and moves with the data.
        lines += [f"cd {shlex.quote(str(self.logs))} || exit 1", f"exec {shlex.join(part.command)}"]
        return "\n".join(lines) + "\n"


def write_files(files: Mapping[Path, str]) -> bool:
    """Writes rendered files for the owner alone, as they may hold secrets. Returns whether any content was new."""
    new = [write_if_new(path, text, mode=0o600) for path, text in files.items()]
    return any(new)


def _program(part: Part) -> str:
    # A part that finishes its work runs again only after a failure. Any other is restarted whatever its exit status,
    # practically without limit. Supervisord waits one second longer before each try.
    return f"""
[program:{part.name}]
command=/bin/bash "%(here)s/start/{part.name}.sh"
autostart=false
autorestart={"unexpected" if part.once else "true"}
startsecs={0 if part.once else 1}
startretries=1000000
stopsignal=TERM
stopwaitsecs={part.stop_wait_s:.0f}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile=%(here)s/../log/{part.name}.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=3
"""


def _escaped(path: Path) -> str:
    """A path inside supervisord's configuration, where a percent sign starts an expansion."""
    return str(path).replace("%", "%%")


def _socket_path(run: Path) -> Path:
    path = run / "supervisor.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"neardup-{os.getuid()}-{digest}" / "supervisor.sock"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_CALL_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connects to the socket file instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        """The one connection there is, whatever the host."""
        return _UnixConnection(self._path)
