"""A real scorer in a separate process, for benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UnavailableError
from scoring.serving.client import ScorerClient

__all__ = ["scorer_process"]

_SERVE = """
import sys
from pathlib import Path
from core.rpc import Listen
from scoring.serving.server import ScorerServerSettings, serve
port, page, model, threads, delay = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:]
listen = Listen("127.0.0.1", port, page, 1 << 26)
serve(ScorerServerSettings(listen, model, threads=int(threads), max_delay_ms=float(delay)))
"""


@contextmanager
def scorer_process(folder: Path, threads: int, max_delay_ms: float) -> Iterator[str]:
    """Serves a folder of models; yields the scorer's address once it answers."""
    port, page = _free_ports()
    words = [str(port), str(page), os.fspath(folder), str(threads), str(max_delay_ms)]
    process = subprocess.Popen([sys.executable, "-c", _SERVE, *words])
    client = ScorerClient(f"127.0.0.1:{port}", 5.0, 1 << 26)
    try:
        while True:
            try:
                client.describe()
                break
            except UnavailableError:
                if process.poll() is not None:
                    raise
                time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        client.close()
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
