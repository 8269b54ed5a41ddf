"""A delta is checked whole, and its faults are named."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from core.apart import WorkStopped
from core.errors import BadInputError, MismatchError
from core.first_loads import LoadRequest
from core.types import ImageId
from manifests.manifest import Manifest
from storage.loading.delta_check import CheckTask, check, check_apart
from tests.support.loadable import CHECKS, SIGNAL, LoadableRow, random_rows, write_manifest

FIRST, NAME = "1" * 32, "new.json"


def task_of(root: Path, manifest: Manifest) -> CheckTask:
    return CheckTask(LoadRequest(str(root), NAME, manifest.id, ""), SIGNAL, CHECKS, root, FIRST)


def written(root: Path, rows: list[LoadableRow]) -> CheckTask:
    return task_of(root, write_manifest(root, rows, name=NAME, previous=FIRST))


def test_a_sound_one_passes_and_tells_how_far_it_is(tmp_path: Path) -> None:
    said: list[str] = []
    check_apart(written(tmp_path, random_rows(1, 50)), said.append, threading.Event())
    assert said[0].startswith("checks: rows, 40 of ")
    assert said[-1].startswith("checks: heads")
    stopped = threading.Event()
    stopped.set()
    task = written(tmp_path, random_rows(1, 50))
    with pytest.raises(WorkStopped):
        check_apart(task, said.append, stopped)


def test_the_first_faults_are_named_and_the_others_counted(tmp_path: Path) -> None:
    rows = [replace(row, image_id=ImageId("x" * 300)) for row in random_rows(1, 3)]
    with pytest.raises(BadInputError, match=r"row 0: column image_id is .*; .*row 1.*; .*row 2.*; and \d+ more$"):
        check(written(tmp_path, rows), lambda said: None)
    with pytest.raises(BadInputError, match=r"row 0: column image_id is refused: [^;]*$"):
        check(written(tmp_path, [replace(rows[0], head=ImageId("elsewhere"))]), lambda said: None)


def test_one_that_was_replaced_is_refused(tmp_path: Path) -> None:
    task = written(tmp_path, random_rows(1, 5))
    written(tmp_path, random_rows(2, 5))
    with pytest.raises(MismatchError, match=r"new\.json was replaced while it was checked"):
        check(task, lambda said: None)
