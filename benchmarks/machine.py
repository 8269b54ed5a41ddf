"""What a measurement was made with (machine, command, revision), its file, and the memory of the parts."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from stream.local.supervisor import Deployment

__all__ = ["Machine", "command_line", "machine", "measured_with", "resident_mb", "revision", "write_results"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Size and kind of a machine."""

    cores: int
    cpu: str
    memory_gib: float
    system: str
    python: str

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, for JSON."""
        return asdict(self)


def machine() -> Machine:
    """This machine."""
    return Machine(
        cores=psutil.cpu_count() or 0,
        cpu=_cpu_name(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
    )


def command_line(module: str) -> str:
    """The command that repeats this measurement."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def revision() -> str:
    """The commit, with a star if files differ from it; empty outside a checkout."""
    try:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("*" if changed.stdout.strip() else "")


def measured_with(module: str) -> dict[str, Any]:
    """When, at which revision, with which command and on which machine a benchmark runs, for its results."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "command": command_line(module),
        "machine": machine().to_dict(),
    }


def write_results(file: Path, results: Mapping[str, Any]) -> None:
    """Writes the results of a benchmark as JSON, in a folder that need not exist."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def resident_mb(deployment: Deployment) -> dict[str, int]:
    """Resident memory of each running part in MB (1e6 bytes), including its child processes."""
    found = {}
    for part in deployment.status():
        if part.pid is None:
            continue
        try:
            process = psutil.Process(part.pid)
            whole = [process, *process.children(recursive=True)]
            found[part.name] = round(sum(each.memory_info().rss for each in whole) / 1e6)
        except psutil.NoSuchProcess:
            continue
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
