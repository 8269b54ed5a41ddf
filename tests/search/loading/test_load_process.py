"""The process that loads: it tells how it ended, and is gone when it should be."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.apart import WorkStopped
from core.errors import BadInputError, UnavailableError
from search.index.generations import IndexGenerations
from search.loading.load_process import load_apart
from search.loading.load_task import Progress
from tests.search.index.test_housekeeping import until
from tests.search.loading.manifest_of import given, images


def nobody(_: Progress) -> None:
    """Takes the progress."""


def children() -> list[int]:
    return [each.pid for each in psutil.Process().children() if "load_process" in " ".join(each.cmdline())]


def test_it_loads_and_tells_so(tmp_path: Path) -> None:
    source, told = given(tmp_path, images(50, 1)), list[Progress]()
    assert load_apart(source.task(), told.append, threading.Event()) == len({one.image_id for one in images(50, 1)})
    assert told[-1] == Progress(50, 50, verifying=True)
    assert children() == []


def test_it_tells_what_it_waits_for_and_why_it_failed(tmp_path: Path) -> None:
    source = given(tmp_path, images(5, 1))
    with IndexGenerations(source.index).building(), pytest.raises(UnavailableError, match="another process builds"):
        load_apart(source.task(), nobody, threading.Event())
    request = source.task().request
    for asked, error, said in (
        (replace(request, folder="/nowhere"), UnavailableError, "cannot read /nowhere"),
        (replace(request, manifest="missing.json"), BadInputError, r"cannot read .*missing\.json"),
    ):
        with pytest.raises(error, match=said):
            load_apart(replace(source.task(), request=asked), nobody, threading.Event())


class Exits:
    """Ends the process that receives it."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def test_what_would_come_again_is_a_failure(tmp_path: Path) -> None:
    task = given(tmp_path, images(5, 1)).task()
    unforeseen: Any = "many"
    with pytest.raises(BadInputError, match="TypeError"):
        load_apart(replace(task, segment_entries=unforeseen), nobody, threading.Event())
    exits: Any = Exits()
    with pytest.raises(BadInputError, match=r"has ended \(exit code 3\)"):
        load_apart(replace(task, signal=exits), nobody, threading.Event())


def test_it_is_stopped_at_once(tmp_path: Path) -> None:
    source, stopped = given(tmp_path, images(50, 1)), threading.Event()
    with pytest.raises(WorkStopped):
        load_apart(source.task(rows_per_s=0.1), lambda _: stopped.set(), stopped)
    assert children() == []
    with IndexGenerations(source.index).loading():  # nobody holds the lock
        pass


def test_its_death_is_waited_out(tmp_path: Path) -> None:
    source = given(tmp_path, images(50, 1))

    def kill(_: Progress) -> None:
        for pid in children():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(UnavailableError, match=r"has ended \(exit code -9\)"):
        load_apart(source.task(rows_per_s=0.1), kill, threading.Event())
    until(lambda: children() == [])
