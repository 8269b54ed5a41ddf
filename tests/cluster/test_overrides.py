"""What people say on the real parts: the session of the operations page, and images that come later."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from core.access import Right
from manifests.image_files import ImageRow, Vector
from neardup.client import ChangeFilter, OverrideResult, RollbackRequest
from neardup.events_pb2 import FLOAT32
from stream.access import api_client, credentials
from stream.job_control import JobControl
from tests.support.calm import calm_service
from tests.support.stack import Stack, eventually
from tests.support.text_signal import SCORE_DIMENSION, SEARCH_DIMENSION, TextSignal
from tests.support.written_session import WrittenSession, head_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_800)]

TITLE = "A false positive, from the complaint to the undo"

HEAD, WRONG, LATE, OTHER = "said-head", "said-wrong", "said-late", "said-other"


class Rows:
    """Texts near or far from each other."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def row(self, image_id: str, like: ImageRow | None = None, version: int = 1) -> ImageRow:
        """A text, like another one or like none."""
        search = self._vector(SEARCH_DIMENSION, None if like is None else like.search)
        return ImageRow(
            image_id, version, 0, search, self._vector(SCORE_DIMENSION, None if like is None else like.score)
        )

    def _vector(self, dimension: int, near: Vector | None) -> Vector:
        vector = self._random.standard_normal(dimension)
        if near is not None:
            vector = np.frombuffer(near.data, "<f4") + 0.02 * vector
        return Vector(FLOAT32, vector.astype("<f4").tobytes())


def publish(stack: Stack, rows: Sequence[ImageRow]) -> dict[str, str]:
    """Sends texts one after the other, and waits for their heads."""
    for row in rows:
        stack.publish([row], "text")
        stack.await_heads([row.image_id], "text")
    return stack.heads([HEAD, WRONG, LATE, OTHER], "text")


def roll_back(stack: Stack, to: datetime) -> OverrideResult:
    """Rolls back what the head has lost or got since then."""
    key = (credentials(stack.settings, Right.WRITE).authorization() or "").removeprefix("Bearer ")
    with api_client(stack.settings, "text", key=key) as api:
        return api.rollback(RollbackRequest(to, where=ChangeFilter(head=HEAD)), reason="a try")


def put_aside(store: Path) -> None:
    """Does what the page says: a new folder, with the overrides alone."""
    aside = store.rename(store.with_name("store-aside"))
    store.mkdir()
    shutil.copy(aside / "overrides.log", store)


def at_rest(stack: Stack) -> bool:
    """Whether storage has applied the whole order, and the repeated replays that go into it."""
    _, signal = stack.settings.signal("text")
    lag = JobControl(stack.settings, "text").lag()
    return lag[signal.topic("joined")] == lag[signal.topic("replay")] == 0


def test_a_false_positive_is_forbidden_for_good_and_undone(
    stack: Stack, session: WrittenSession, text: TextSignal, tmp_path: Path
) -> None:
    """It survives a replay, a new index, a rollback, a new version, and a store that is built again from the order.

    That store holds what a second service holds that is given the same order and the same overrides.
    """
    rows = Rows(41)
    session.stands_for = {"clothing-0152ec2ee8": WRONG, "clothing-025bbb8f3b": HEAD}
    head = rows.row(HEAD)
    assert publish(stack, [head, rows.row(WRONG, head)]) == {HEAD: HEAD, WRONG: HEAD}
    complaint = datetime.now(UTC)
    session.stands_for["2026-11-28T07:00:00Z"] = complaint.isoformat()
    eventually(lambda: datetime.now(UTC).timestamp() // 1 > complaint.timestamp() // 1 or None, 5, lambda: "no second")

    assert HEAD in session.run("show")
    assert HEAD in session.run("explain")
    assert WRONG in session.run("override forbid")
    assert stack.heads([WRONG], "text") == {WRONG: HEAD}
    said = re.fullmatch(r"override (\d+): 1 image moved\n", session.run("override forbid"))
    assert said is not None
    assert stack.heads([HEAD, WRONG], "text") == {HEAD: HEAD, WRONG: WRONG}

    assert WRONG in session.run("head")
    assert re.search(rf"^\s*{said[1]}\s+\S+\s+forbid\s", session.run("override list"), re.MULTILINE)
    session.run("replay")
    assert stack.heads([HEAD, WRONG], "text") == {HEAD: HEAD, WRONG: WRONG}
    session.run("index build")
    assert WRONG not in session.run("rollback")
    with stack.api("text") as api:
        assert api.head_at(WRONG, complaint).head == HEAD
    assert roll_back(stack, complaint).moved == 0
    assert stack.heads([HEAD, WRONG], "text") == {HEAD: HEAD, WRONG: WRONG}
    late = rows.row(LATE, head)
    found = publish(stack, [rows.row(WRONG, head, version=2), late])
    assert (found[HEAD], found[WRONG]) == (HEAD, WRONG)

    def newest() -> int | None:
        with stack.api("text") as api:
            return api.image(WRONG).version if api.image(WRONG).version == 2 else None

    eventually(newest, 60, lambda: f"{WRONG} has no second version")
    assert stack.heads([WRONG], "text") == {WRONG: WRONG}
    assert stack.problems("text") == []

    session.run("job stop")
    session.run("down")
    put_aside(stack.settings.signal_dir("text", "store"))
    session.run("up")
    assert stack.heads(found, "text") == {}
    session.run("index build")
    session.run("job start")
    eventually(lambda: at_rest(stack) or None, 120, lambda: "the order is not decided again")
    assert head_of(session.run("head")) == WRONG
    assert re.search(rf"^\s*{said[1]}\s+\S+\s+forbid\s", session.run("override list"), re.MULTILINE)
    session.run("verify")
    assert stack.heads(found, "text") == found
    with calm_service(tmp_path / "second", {"text": text.settings}) as second:
        assert second.check(stack.of("text"), found).overrides >= int(said[1])

    session.stands_for["17"] = said[1]
    assert "decided again" in session.run("override undo")
    assert "undone" in session.run("override show")
    heads = stack.heads

    def together() -> bool | None:
        found = heads([HEAD, WRONG], "text")
        return True if found[HEAD] == found[WRONG] else None

    eventually(together, 60, lambda: f"after the undo: {heads([HEAD, WRONG], 'text')}")
    assert stack.problems("text") == []
    assert session.left == []
    changes = stack.assignments("text")
    published = [each for each in changes if (each["image_id"], each["epoch"]) == (WRONG, changes[-1]["epoch"])]
    assert [each["cause"] for each in published if each["override"] == int(said[1])] == ["parted"]


def test_an_unseen_image_waits_for_its_pin(stack: Stack) -> None:
    rows = Rows(43)
    key = (credentials(stack.settings, Right.WRITE).authorization() or "").removeprefix("Bearer ")
    with api_client(stack.settings, "text", key=key) as api:
        other = rows.row(OTHER)
        publish(stack, [other])
        said = api.override("pin", ["said-pinned"], OTHER, reason="the same joke")
        assert (said.created, list(said.moves)) == (True, [])
        publish(stack, [rows.row("said-pinned")])
        found = api.image("said-pinned")
        assert (found.head, found.cause, found.matched) == (stack.heads([OTHER], "text")[OTHER], "pinned", OTHER)
        assert [(each.cause, each.override) for each in api.history("said-pinned")] == [("pinned", None)]
