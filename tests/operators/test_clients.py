"""The clients as the operators open them, and what they must not bring into Flink's process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from operators.clients import open_scorer, open_search, open_storage
from operators.step import ServerAddress

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
import operators.assign, operators.decode, operators.join, operators.score, operators.search
heavy = ("tensorflow", "keras", "numba", "rocksdict", "fastapi", "uvicorn", "kafka")
print(*[name for name in heavy if name in sys.modules])
"""


def test_clients_open_before_their_servers() -> None:
    address = ServerAddress("127.0.0.1:1", 1.0, 1 << 20)
    for client in (open_search(address), open_scorer(address), open_storage(address)):
        assert client.instance_id is None
        client.close()


def test_no_heavy_library_comes_into_the_task_manager() -> None:
    # It would share the JVM's process with Flink, and what it does in native code with it.
    found = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
