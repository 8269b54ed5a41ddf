"""Text that is not ASCII, on a machine whose locale is `C`: as in a container or a cron job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.types import Cause, Decision, ImageId, Move, Outcome
from storage.memory import MemoryStore
from stream.cli.exits import Exit
from tests.support.served_api import served_api

IMAGE = "größe-写真-🖼"


@pytest.fixture
def port() -> Iterator[int]:
    store = MemoryStore()
    move = Move(ImageId(IMAGE), None, ImageId(IMAGE), Cause.FOUNDED)
    codes = (b"\x01" * 16, b"\x00\x3c", b"\x00\x3c")
    store.apply("log", [Decision(0, 0, Outcome.DECIDED, ImageId(IMAGE), 1, 0, (move,), *codes)], -1, 0)
    with served_api(store) as port:
        yield port


def neardup(port: int, locale: dict[str, str], *words: str) -> tuple[int, str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    program = "import sys; from stream.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env={
            **kept,
            **locale,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "NEARDUP_SIGNALS__PHOTOS__API__PORT": str(port),
        },
        capture_output=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"LANG": "C"}])
def test_ids_are_taken_and_shown_as_they_are(port: int, locale: dict[str, str]) -> None:
    code, out, err = neardup(port, locale, "members", IMAGE)
    assert (code, out) == (Exit.OK, IMAGE + "\n"), err
    code, out, err = neardup(port, locale, "head", IMAGE, "--json")
    assert code == Exit.OK, err
    assert json.loads(out)["image_id"] == IMAGE
    code, out, err = neardup(port, locale, "head", IMAGE)
    assert code == Exit.OK, err
    assert IMAGE in out


def test_errors_name_files_as_they_are(port: int, tmp_path: Path) -> None:
    code, _, err = neardup(port, {"LC_ALL": "C"}, "publish", str(tmp_path / f"{IMAGE}.parquet"))
    assert code == Exit.USAGE
    assert IMAGE in "".join(err.split("\n"))
