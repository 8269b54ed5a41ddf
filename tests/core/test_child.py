"""A process of our own program: it answers, keeps what it inherits, and ends when it is told."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from core.child import Child, socket_of_child


def echo(file: int) -> None:
    """The main function of the process."""
    socket = socket_of_child(file)
    while True:
        socket.send((os.getpid(), socket.recv()))


def test_it_answers_until_it_is_killed(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    child = Child("tests.core.test_child", echo.__name__, [lock])
    os.close(lock)
    child.socket.send("hello")
    assert child.socket.recv() == (child.process.pid, "hello")
    again = os.open(tmp_path / "lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for _ in range(2):
        child.kill()
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(again)
    assert child.process.returncode == -9


def test_it_ends_when_the_other_end_is_closed() -> None:
    child = Child("tests.core.test_child", echo.__name__)
    child.socket.close()
    assert child.process.wait(60) == 1
