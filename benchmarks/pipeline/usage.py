"""What a deployment has used so far: processor time by part, and bytes by hop.

All of it is read from counters that run on: `/proc`, the kernel's counters of each TCP connection (`ss`), and Flink's
counters of what its operators hand on. Two readings and a number of images give a cost for each image.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from core.errors import UnavailableError
from stream.settings import Settings

__all__ = ["Reading", "connection_bytes", "operator_bytes", "per_image"]

_OPERATOR_BYTES = "flink_taskmanager_job_task_numBytesOut"
_SENT = re.compile(r"\bbytes_sent:(\d+)")
_RECEIVED = re.compile(r"\bbytes_received:(\d+)")
_SOURCE_PREFIX = re.compile(r"^Source: .*\.|-[0-9a-f]{32}|-v\d+$")
"""What is left out of the name of a source: its database, the submission, the format."""

_CALL_S = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters at one moment."""

    processor_s: Mapping[str, float]
    """Seconds in user and system mode, by part."""
    hop_bytes: Mapping[str, int] = field(default_factory=dict)
    """By hop."""


def per_image(
    before: Mapping[str, float], after: Mapping[str, float], images: int, scale: float = 1.0
) -> dict[str, float]:
    """The difference of two readings, divided by a number of images, largest first."""
    found = {name: scale * (value - before.get(name, 0)) / images for name, value in after.items()}
    return {name: round(value, 4) for name, value in sorted(found.items(), key=lambda item: -item[1])}


class UsageMeter:
    """Reads the counters of one running deployment."""

    def __init__(self, settings: Settings, pids: Mapping[str, int]) -> None:
        """Takes what it reads.

        Args:
            settings: Of the deployment, for its ports.
            pids: The process of each part that is counted.
        """
        self._pids = dict(pids)
        _, signal = settings.signal()
        self._ports = {settings.kafka.port: "broker"}
        for role, server in (("search", signal.search), ("scorer", signal.scorer), ("storage", signal.storage)):
            self._ports[server.port] = role
        flink = settings.flink
        self._page = f"http://{flink.host}:{flink.taskmanager_metrics_port}/metrics"

    def read(self) -> Reading:
        """All counters now.

        Raises:
            UnavailableError: A part was started again since, so that its counters are lost.
        """
        hops = dict(connection_bytes(_connections(), self._ports))
        if "taskmanager" in self._pids:
            hops |= operator_bytes(_metrics(self._page))
        return Reading({name: _processor_s(name, pid) for name, pid in self._pids.items()}, hops)


def _processor_s(part: str, pid: int) -> float:
    try:
        main = psutil.Process(pid)
        times = [each.cpu_times() for each in (main, *main.children(recursive=True))]
    except psutil.NoSuchProcess as error:
        raise UnavailableError(f"the part {part} was started again, so its processor time is not known") from error
    return sum(each.user + each.system for each in times)


def _connections() -> str:
    """The kernel's list of TCP connections, one a line; empty where the machine has no `ss`."""
    if shutil.which("ss") is None:
        return ""
    return subprocess.run(("ss", "-tniHO"), capture_output=True, text=True, check=True).stdout


def connection_bytes(listed: str, servers: Mapping[int, str]) -> Counter[str]:
    """Bytes that servers have received and sent over the connections that are open.

    Args:
        listed: The output of `ss -tniHO`.
        servers: Their names by port.
    """
    found: Counter[str] = Counter()
    for line in listed.splitlines():
        words = line.split(maxsplit=5)
        if len(words) < 5:
            continue
        port = words[3].rpartition(":")[2]
        name = servers.get(int(port)) if port.isdigit() else None
        if name is None:
            continue
        for direction, pattern in (("requests", _RECEIVED), ("answers", _SENT)):
            match = pattern.search(line)
            found[f"{name} {direction}"] += int(match[1]) if match else 0
    return found


def _metrics(url: str) -> str:
    try:
        answer = httpx.get(url, timeout=_CALL_S, trust_env=False)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise UnavailableError(f"{url}: {error or type(error).__name__}") from error
    return answer.text


def operator_bytes(page: str) -> dict[str, int]:
    """Bytes that each chain of the job has handed on to others, by the name of its first operator.

    Args:
        page: Of Flink's Prometheus reporter.
    """
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        if family.name != _OPERATOR_BYTES:
            continue
        for sample in family.samples:
            first = _SOURCE_PREFIX.sub("", sample.labels["task_name"].partition(" -> ")[0])
            found[f"{first} hands on"] += int(sample.value)
    return dict(found)
