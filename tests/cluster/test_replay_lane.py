"""Replays and deletes the whole way: commands, Kafka, the job, the three servers, HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.access import Right
from core.replay_requests import Lane
from neardup.errors import DeletedError
from stream.access import api_url, credentials
from stream.broker import producer
from stream.cli.main import main
from stream.job_control import JobControl
from stream.local.resolved import resolved_toml
from tests.cluster.test_waiting_halves import named
from tests.support.stack import Stack, eventually

pytestmark = pytest.mark.cluster

Run = Callable[..., str]


@pytest.fixture
def run(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that must succeed, and gives its output."""
    settings = tmp_path / "neardup.toml"
    settings.write_text(resolved_toml(stack.settings), encoding="utf-8")
    monkeypatch.setenv("NEARDUP_SETTINGS", str(settings))

    def run(*words: str) -> str:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    return run


def replayed(run: Run, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("replay", *words, "--json"))
    return found


def test_images_are_replayed_watched_tried_and_deleted(stack: Stack, run: Run, tmp_path: Path) -> None:
    rows = named("replayed", 40)
    ids = [row.image_id for row in rows]
    stack.publish(rows)
    stack.await_heads(ids)
    file = tmp_path / "ids.txt"
    file.write_text("".join(f"{each}\n" for each in [*ids, "nobody"]), encoding="utf-8")

    forced = replayed(run, "--ids-file", str(file), "--force", "--diff")
    assert (forced["sent"], forced["applied"], forced["unknown"]) == (40, 40, ["nobody"])
    assert sum(forced["counts"].values()) == 40
    again = replayed(run, "--ids-file", str(file), "--diff")
    assert again["counts"]["same"] == 40
    resumed = replayed(run, "--ids-file", str(file), "--request", again["request"])
    assert (resumed["sent"], resumed["sent_before"], resumed["applied"]) == (40, 40, 40)

    # What is no request becomes a dead letter, and does not count as a request that waits.
    settings, topic = stack.settings, stack.signal.topic("replay")
    sender = producer(settings.kafka_access("broken-request"), settings.kafka.max_message_bytes)
    sender.send(topic, b'{"request": ', partition=Lane.NAMED).get(timeout=60)
    sender.close()

    def rejected() -> list[Any] | None:
        [*found] = json.loads(run("dead-letters", "list", "--reason", "unparsable", "--json"))["reasons"]
        return [each for group in found for each in group["dead_letters"] if each["source"]["topic"] == topic] or None

    [dead] = eventually(rejected, 60, lambda: "the broken request is no dead letter")
    assert (dead["payload"]["form"], dead["payload"]["fields"]["bytes"]) == ("ReplayRequest", 12)
    assert JobControl(settings, stack.signal_name).lag()[topic] == 0
    assert run("dead-letters", "settle", str(dead["offset"]), "--because", "a test") != ""

    watched = run("replay", "--id", ids[0], "--watch", "--dry-run").splitlines()
    assert all(ids[0] in line for line in watched[:-1])
    assert len(watched) >= 4  # the three steps, the verdict, the result

    tried = replayed(run, "--ids-file", str(file), "--dry-run")
    assert sum(tried["counts"].values()) == 40
    before = stack.heads(ids)

    assert run("delete", ids[3], "--reason", "takedown") == f"{ids[3]}: deleted\n"
    key = credentials(stack.settings, Right.WRITE).authorization()
    assert key is not None
    answer = httpx.delete(
        f"{api_url(stack.settings, stack.signal_name)}/v1/images/{ids[4]}",
        headers={"Authorization": key},
        trust_env=False,
    )
    assert answer.status_code == 202, answer.text

    def gone() -> bool | None:
        with stack.storage() as storage:
            return True if storage.describe().offset >= answer.json()["position"] else None

    eventually(gone, 60, lambda: "the delete over HTTP is not applied")
    # A deleted version that comes again stays deleted: what is sent behind it has a head, and it has none.
    stack.publish([rows[3], *named("behind-the-deletes", 1)])
    stack.await_heads([row.image_id for row in named("behind-the-deletes", 1)])
    with stack.storage() as storage:
        known = {each.image.image_id for each in storage.named(ids)}  # type: ignore[arg-type]
    assert set(ids) - known == {ids[3], ids[4]}
    with stack.api() as api, pytest.raises(DeletedError):
        api.image(ids[3])
    assert run("delete", ids[3]) == f"{ids[3]}: deleted before\n"
    assert before.keys() == set(ids)
    assert stack.problems() == []
