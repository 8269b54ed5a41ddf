"""A deployment on one machine: started, watched, queried, stopped.

Every part runs under one supervisord, which restarts what is killed. If supervisord itself is killed, its parts run on.
`status` shows them as orphaned, and the next `up` or `down` ends them first.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import cached_property
from itertools import groupby
from pathlib import Path

import psutil

from stream.access import make_keys
from stream.data_folders import claim_topics, require_plain_path
from stream.flink_tls import WARN_DAYS
from stream.local.certificates import ensure_certificate
from stream.local.daemon import Daemon, ProcessInfo, write_files
from stream.local.errors import DeploymentError, PartFailedError, PortTakenError
from stream.local.files import tail
from stream.local.parts import Part, deployment_parts
from stream.local.processes import end_processes, holder_of_port, marked_processes
from stream.local.resolved import resolved_files
from stream.local.status import PartStatus, State, part_status
from stream.log_lines import FORMAT_VARIABLE, LEVEL_VARIABLE
from stream.settings import SETTINGS_FILE_VARIABLE, Settings

__all__ = ["Deployment", "PartStatus", "Progress"]

Progress = Callable[[str, State, str], None]
"""Called at each change with the part's name, its new state, and a detail that may be empty."""

_LOGGING = (LEVEL_VARIABLE, FORMAT_VARIABLE)
"""Variables that the parts inherit although they are not settings."""

_POLL_S = 0.1
_START_POLL_S = 0.25
"""Longer than `_POLL_S`: checks cost processor time, which is scarce at a start."""
_LEFTOVER_GRACE_S = 10.0
_DAEMON_END_S = 15.0
_STARTS_TO_GIVE_UP = 4
"""A part that ended so often before it served will not serve at the next try either."""


class Deployment:
    """The deployment of one settings object, in one data folder."""

    def __init__(self, settings: Settings, parts: Sequence[Part] | None = None) -> None:
        """Keeps the settings; nothing is started yet.

        Args:
            settings: Of all parts, with the data folder.
            parts: Other parts than those of the settings.
        """
        self.settings = settings
        self.data: Path = settings.data_dir
        self._given = tuple(parts) if parts is not None else None
        self._daemon = Daemon(self.data)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """All parts.

        Raises:
            MissingPieceError: A piece that set-up fetches is missing.
        """
        return self._given if self._given is not None else deployment_parts(self.settings)

    @property
    def settings_file(self) -> Path:
        """The complete settings that the parts read, written at each start."""
        return self.data / "run" / "settings.toml"

    def log(self, name: str) -> Path:
        """The log of a part."""
        return self._daemon.logs / f"{name}.log"

    def up(self, progress: Progress | None = None) -> None:
        """Starts every part that does not run, and returns when all are ready.

        A deployment with other settings is stopped first, and so are orphaned processes.

        Raises:
            MissingPieceError: A piece that set-up fetches is missing.
            PortTakenError: Another process holds a port that is needed.
            PartFailedError: A part does not become ready; the others are left running, for a look at them.
            DeploymentError: Another start or stop is under way, or supervisord does not start.
            MismatchError: The data folder belongs to other topics.
            SettingsError: The path of the data folder has characters that a part reads differently.
        """
        require_plain_path(self.settings)
        tell = progress or _silent
        with self._locked():
            # Embeddings, ids and secrets: for the owner alone, also below a folder that an earlier release made.
            self.data.chmod(0o700)
            for name in self.settings.signals:
                claim_topics(self.settings, name)
            files = self._daemon.render(self.parts)
            files |= resolved_files(self.settings)
            changed = _changed(files)
            if self._daemon.alive() and changed:
                self._stop_all(tell)
            if not self._daemon.alive():
                self._end_leftovers(tell)
                self._check_ports()
                make_keys(self.settings)
                ensure_certificate(self.settings, least_days=WARN_DAYS)
                write_files(files)
                self._prepare()
                self._daemon.start(self._environment())
            self._start_all(tell)

    def down(self, progress: Progress | None = None) -> None:
        """Stops every part, then supervisord, and returns when no process is left.

        Raises:
            DeploymentError: Another start or stop is under way, or a process does not end.
        """
        tell = progress or _silent
        with self._locked():
            if self._daemon.alive():
                self._stop_all(tell)
            self._end_leftovers(tell)
            left = marked_processes(self.data)
            if left:
                raise DeploymentError(f"these processes do not end: {', '.join(str(process.pid) for process in left)}")
            self._daemon.forget()

    def status(self) -> list[PartStatus]:
        """The state of every part; runs each readiness check, which takes a moment."""
        if self._daemon.alive():
            programs = self._daemon.programs()
            return [part_status(part, programs.get(part.name)) for part in self.parts]
        orphans = ", ".join(str(process.pid) for process in marked_processes(self.data))
        state: State = "orphaned" if orphans else "stopped"
        detail = f"supervisord is gone, processes {orphans} are left" if orphans else ""
        return [PartStatus(part.name, state, None, 0.0, detail) for part in self.parts]

    def kill(self, name: str) -> int:
        """Kills a part's process (SIGKILL), and returns the process id. The supervisor restarts it.

        Raises:
            DeploymentError: The part is unknown, or has no process.
        """
        pid = self._program(name).pid
        if pid == 0:
            raise DeploymentError(f"{name} does not run")
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop(self, name: str) -> None:
        """Stops one part until `start`.

        Raises:
            DeploymentError: The part is unknown, or the deployment does not run.
        """
        self._daemon.stop_program(name)
        self._wait_ended(self._part(name))

    def start(self, name: str) -> None:
        """Starts one part again, and returns when it is ready.

        Raises:
            PartFailedError: It does not become ready.
            DeploymentError: The part is unknown, or the deployment does not run.
        """
        part = self._part(name)
        self._daemon.start_program(name)
        self.wait_ready([part.name])

    def wait_ready(self, names: Sequence[str] | None = None, timeout_s: float = 120.0) -> None:
        """Returns when the named parts are ready; all parts without names.

        Raises:
            PartFailedError: One is not ready in time.
            DeploymentError: supervisord does not answer.
        """
        waiting = [part for part in self.parts if names is None or part.name in names]
        deadline = time.monotonic() + timeout_s
        while waiting:
            programs = self._daemon.programs()
            statuses = [(part, part_status(part, programs.get(part.name))) for part in waiting]
            waiting = [part for part, status in statuses if not status.ok]
            if waiting and time.monotonic() > deadline:
                part, status = next((part, status) for part, status in statuses if not status.ok)
                raise self._failed(part, f"{status.state} after {timeout_s:.0f} s; {status.detail}")
            if waiting:
                time.sleep(_START_POLL_S)

    def _part(self, name: str) -> Part:
        for part in self.parts:
            if part.name == name:
                return part
        raise DeploymentError(f"there is no part {name!r}; the parts are {', '.join(part.name for part in self.parts)}")

    def _program(self, name: str) -> ProcessInfo:
        part = self._part(name)
        programs = self._daemon.programs()
        if part.name not in programs:
            raise DeploymentError(f"the running deployment has no part {name!r}")
        return programs[part.name]

    def _failed(self, part: Part, reason: str) -> PartFailedError:
        return PartFailedError(part.name, reason, tail(self.log(part.name)))

    def _environment(self) -> dict[str, str]:
        """The caller's environment without settings: the parts read the written file alone."""
        inherited = {
            key: value for key, value in os.environ.items() if key in _LOGGING or not key.upper().startswith("NEARDUP_")
        }
        return {**inherited, SETTINGS_FILE_VARIABLE: str(self.settings_file), "PYTHONUNBUFFERED": "1"}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One start or stop at a time. A crash releases the lock."""
        self._daemon.run.mkdir(parents=True, exist_ok=True)
        with (self._daemon.run / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DeploymentError(f"another start or stop is under way in {self.data}") from error
            yield

    def _check_ports(self) -> None:
        for part in self.parts:
            for listener in part.listeners:
                with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        probe.bind((listener.host, listener.port))
                    except OSError as error:
                        raise PortTakenError(
                            f"{part.name} cannot listen on {listener.host}:{listener.port} ({listener.setting}):"
                            f" {error.strerror}; the port is held by {holder_of_port(listener.port)}"
                        ) from error

    def _prepare(self) -> None:
        """Runs in parallel, as some preparations wait for Java. A preparation that parts share runs once."""
        tasks = dict.fromkeys(part.prepare for part in self.parts if part.prepare is not None)
        with ThreadPoolExecutor(max(1, len(tasks))) as pool:
            for done in [pool.submit(task) for task in tasks]:
                done.result()

    def _end_leftovers(self, tell: Progress) -> None:
        leftovers = marked_processes(self.data)
        if leftovers:
            ended = end_processes(leftovers, _LEFTOVER_GRACE_S)
            tell("leftovers", "stopped", f"ended {len(ended)} orphaned processes")

    def _start_all(self, tell: Progress) -> None:
        """Starts each part when those before it are ready; several start in parallel."""
        waiting = {part.name: part for part in self.parts}
        started: dict[str, float] = {}
        seen: dict[str, set[int]] = {name: set() for name in waiting}
        done: set[str] = set()
        while waiting:
            for name, part in waiting.items():
                if name not in started and done.issuperset(part.after):
                    self._daemon.start_program(name)
                    started[name] = time.monotonic()
                    tell(name, "starting", "")
            programs = self._daemon.programs()
            for name in [name for name in waiting if name in started]:
                part, info = waiting[name], programs[name]
                status = part_status(part, info)
                age = time.monotonic() - started[name]
                if status.ok:
                    done.add(name)
                    del waiting[name]
                    tell(name, status.state, f"{age:.1f} s")
                    continue
                if info.pid:
                    seen[name].add(info.pid)
                if len(seen[name]) >= _STARTS_TO_GIVE_UP:
                    raise self._failed(part, f"it ended {len(seen[name]) - 1} times before it served; {status.detail}")
                if age > part.ready_timeout_s:
                    raise self._failed(part, f"{status.state} after {age:.0f} s; {status.detail}")
            if waiting:
                time.sleep(_START_POLL_S)

    def _stop_all(self, tell: Progress) -> None:
        """Stops the parts wave by wave, then supervisord.

        The running parts may come from other settings, so supervisord is asked. Unknown parts stop first.
        """
        known = {part.name: part for part in self.parts}
        running = [
            known.get(info.name) or Part(name=info.name, command=(), stop_wave=0)
            for info in self._daemon.programs().values()
            if info.pid or info.state == "BACKOFF"
        ]
        for _, wave in groupby(sorted(running, key=_stop_wave), key=_stop_wave):
            parts = list(wave)
            for part in parts:
                tell(part.name, "stopping", "")
                self._daemon.stop_program(part.name)
            for part in parts:
                self._wait_ended(part)
                tell(part.name, "stopped", "")
        supervisors = [process for process in marked_processes(self.data) if process.pid == self._daemon_pid()]
        self._daemon.shutdown()
        psutil.wait_procs(supervisors, timeout=_DAEMON_END_S)

    def _daemon_pid(self) -> int:
        try:
            return int((self._daemon.run / "supervisord.pid").read_text())
        except (OSError, ValueError):
            return 0

    def _wait_ended(self, part: Part) -> None:
        """Waits until the part has no process. Supervisord kills it after its stop time."""
        deadline = time.monotonic() + part.stop_wait_s + _LEFTOVER_GRACE_S
        while True:
            info = self._daemon.programs().get(part.name)
            if info is None or (info.pid == 0 and info.state in ("STOPPED", "EXITED", "FATAL")):
                return
            if time.monotonic() > deadline:
                raise self._failed(part, "it does not end")
            time.sleep(_POLL_S)


def _silent(name: str, state: State, detail: str) -> None:
    """Reports no progress."""


def _stop_wave(part: Part) -> int:
    return part.stop_wave


def _changed(files: Mapping[Path, str]) -> bool:
    return any(not path.is_file() or path.read_text(encoding="utf-8") != text for path, text in files.items())
