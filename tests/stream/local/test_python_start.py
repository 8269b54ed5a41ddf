"""A task manager that can start no Python is ended once for each such failure, and by no other one."""

from __future__ import annotations

import pytest

from stream.local.errors import DeploymentError
from stream.local.python_start import PythonStart

LOST = """java.lang.Error: java.lang.InterruptedException
	at pemja.core.PythonInterpreter$MainInterpreter.initialize(PythonInterpreter.java:406)
	at pemja.core.PythonInterpreter.initialize(PythonInterpreter.java:144)
Caused by: java.lang.InterruptedException"""
OTHER = "pemja.core.PythonException: <class 'core.errors.LogGapError'>"


class World:
    """A clock, and how often the task manager was ended."""

    def __init__(self) -> None:
        self.now_ms = 1000
        self.ended = 0
        self.start = PythonStart(self.end, lambda: self.now_ms)

    def end(self) -> None:
        self.ended += 1


def test_a_task_manager_that_starts_no_python_is_ended_once() -> None:
    world = World()
    world.now_ms = 2000
    assert world.start.look([(1900, OTHER), (1800, LOST)])
    world.now_ms = 3000
    assert not world.start.look([(2900, OTHER), (1900, OTHER), (1800, LOST)]), "the history keeps what is over"
    assert world.start.look([(2950, LOST)]), "the next one has the same illness"
    assert world.ended == 2


def test_other_failures_and_those_of_another_time_end_nothing() -> None:
    world = World()
    assert not world.start.look([(1900, OTHER)])
    assert not world.start.look([(900, LOST)])
    assert not world.start.look([])
    assert world.ended == 0


def test_where_no_supervisor_is_the_log_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise DeploymentError("no supervisor runs in /data")

    assert not PythonStart(refuse, lambda: 1000).look([(1900, LOST)])
    assert "restart it (no supervisor runs in /data)" in caplog.text
