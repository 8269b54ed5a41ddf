"""The limit of open files, raised and checked in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from core.descriptors import FILES

SCRIPT = """
import resource
from core.descriptors import raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(raise_descriptor_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def raised(soft: int, hard: int) -> list[int]:
    command = (sys.executable, "-c", SCRIPT.format(soft=soft, hard=hard))
    return [int(word) for word in subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()]


def test_the_soft_limit_is_raised_to_the_hard_one_and_never_lowered() -> None:
    assert raised(100, 700) == [700, 700, 700]
    assert raised(700, 700) == [700, 700, 700]


RESERVE = """
import resource
from core.descriptors import reserve_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 1024))
reserve_descriptors({connections})
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def reserved(connections: int) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-c", RESERVE.format(connections=connections))
    return subprocess.run(command, capture_output=True, check=False, text=True)


def test_connections_that_leave_too_little_for_files_are_refused() -> None:
    assert reserved(1024 - FILES).stdout == "1024 1024\n"
    refused = reserved(1025 - FILES)
    assert "may have 1,024 files and sockets open and needs 1,025: 513 for connections and 512" in refused.stderr
    assert refused.returncode == 1
