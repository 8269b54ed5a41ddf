"""A Python process of our own program, which is killed with its parent and talks to it over a socket.

It shares no lock of Python with the threads of its parent, and has its own memory. Its main function takes the number
of an open file: its end of the socket.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe

__all__ = ["Child", "socket_of_child"]

_KILLED_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


class Child:
    """A process that was started. On Linux it is killed with the thread that started it."""

    def __init__(self, module: str, function: str, inherited: Sequence[int] = ()) -> None:
        """Starts it.

        Args:
            module: The module of its main function.
            function: The main function; takes the number of the open file of its socket.
            inherited: Other open files that it keeps open while it lives.
        """
        self.socket, theirs = Pipe()
        with theirs:
            main = f"import sys; from {module} import {function}; {function}(int(sys.argv[1]))"
            # It must find the same modules as this process.
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            self.process = subprocess.Popen(
                [sys.executable, "-c", main, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *inherited),
                env=environment,
            )

    def kill(self) -> None:
        """Ends it, whatever it is doing; may be called again."""
        self.process.kill()
        self.process.wait()
        self.socket.close()


def socket_of_child(file: int) -> Connection:
    """For the main function of the process: its end of the socket.

    From then on it is killed with its parent, and an interrupt from a terminal is left to the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_KILLED_WITH_PARENT, signal.SIGKILL)
    return Connection(file)
