"""An image is forgotten on the real parts: its cluster gets another head, and no file of store and index knows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neardup.errors import DeletedError
from tests.cluster.test_overrides import Rows
from tests.cluster.test_replay_lane import Run, run
from tests.support.stack import Stack, eventually

pytestmark = pytest.mark.cluster

__all__ = ["run"]

SECRET, OLDEST, OTHER, BEHIND = "forgotten-secret", "forgotten-oldest", "forgotten-other", "forgotten-behind"


def files_with(folder: Path, *traces: bytes) -> list[str]:
    """The files below a folder that hold any of these bytes."""
    found = []
    for file in folder.rglob("*"):
        try:
            content = file.read_bytes() if file.is_file() else b""
        except FileNotFoundError:  # a merged segment went meanwhile
            continue
        found += [str(file)] if any(each in content for each in traces) else []
    return found


def places(run: Run) -> dict[str, dict[str, Any]]:
    """What the report says of the image, by place."""
    [image] = json.loads(run("forget", "--report", SECRET, "--signal", "text", "--json"))["images"].values()
    return {each["place"]: each for each in image["places"]}


def test_a_head_is_forgotten_everywhere_and_refused(stack: Stack, run: Run) -> None:
    rows = Rows(97)
    secret = rows.row(SECRET)
    for row in (secret, rows.row(OLDEST, secret), rows.row(OTHER, secret)):
        stack.publish([row], "text")
        stack.await_heads([row.image_id], "text")
    assert set(stack.heads([SECRET, OLDEST, OTHER], "text").values()) == {SECRET}

    said = run("forget", SECRET, "--refuse-return", "--reason", "a test", "--signal", "text")
    assert said == f"{SECRET}: forgotten\n"
    assert stack.heads([OLDEST, OTHER], "text") == {OLDEST: OLDEST, OTHER: OLDEST}
    with stack.api("text") as api:
        assert list(api.members(OLDEST)) == [OLDEST, OTHER]
        with pytest.raises(DeletedError):
            api.image(SECRET)

    def erased() -> bool | None:
        told = places(run)
        return True if told["store"]["fate"] == told["index"]["fate"] == "erased" else None

    eventually(erased, 120, lambda: f"it is not erased: {places(run)}")
    settings = stack.settings
    traces = SECRET.encode(), secret.search.data, secret.score.data
    for kind in ("store", "index"):
        assert files_with(settings.signal_dir("text", kind), *traces) == []  # type: ignore[arg-type]
    assert {"joined", "assignments"} <= {each.rsplit(".", 1)[-1] for each in places(run)}

    # It comes again with a higher version: it is ignored and counted, and what comes behind it finds the new head.
    with stack.storage("text") as storage:
        before = storage.describe().images
    stack.publish([rows.row(SECRET, secret, version=9)], "text")
    stack.publish([rows.row(BEHIND, secret)], "text")
    assert stack.await_heads([BEHIND], "text") == {BEHIND: OLDEST}
    with stack.storage("text") as storage:
        assert storage.describe().images == before + 1
    for kind in ("store", "index"):
        assert files_with(settings.signal_dir("text", kind), *traces) == []  # type: ignore[arg-type]
    assert stack.problems("text") == []

    # Searches find what storage holds and nothing else, also where both name it by pseudonyms of their own.
    compared = json.loads(run("verify", "--against", "index", "--signal", "text", "--json"))
    assert compared["index_problems"] == {}
    assert compared["deletes_compared_with_index"] >= 1
    assert compared["compared_with_index"] >= 3
    assert compared["index_compared_with_storage"] >= 4
