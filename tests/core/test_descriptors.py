"""The limit of open files, raised in a process of its own."""

from __future__ import annotations

import subprocess
import sys

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
