"""`neardup forget` against the real gRPC service over a store in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.notifications import MAX_IMAGE_VERSION, decode_joined
from core.overrides import JOB_KINDS
from core.protos.joined_pb2 import JoinedDelete
from core.types import ImageId
from storage.testing.decisions import founds, joins
from storage.testing.forgetting import erase_all
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.topic_plans import TopicState
from tests.stream.test_cli_delete import FakeBroker
from tests.support.served_store import TOPIC_ID, ServedStore, served_store

A, B, C = map(ImageId, "abc")
DAY_MS = 24 * 3600 * 1000


class BrokerWithTopics(FakeBroker):
    """Keeps all topics for a week but the dead letters."""

    def topic_state(self, topic: str) -> TopicState:
        kept = -1 if "dead-letter" in topic else 7 * DAY_MS
        return TopicState(1, 1, {"retention.ms": str(kept), "segment.ms": str(DAY_MS), "cleanup.policy": "delete"})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ServedStore]:
    with served_store() as world:
        monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__PORT", str(world.port))
        monkeypatch.setenv("NEARDUP_DATA_DIR", str(tmp_path))
        monkeypatch.setattr("storage.serving.publisher.KafkaSender", world.sender)
        monkeypatch.setattr("stream.broker.Broker", BrokerWithTopics)
        monkeypatch.setattr("stream.forget_report.Broker", BrokerWithTopics)
        world.store.apply(TOPIC_ID, [founds(0, A), joins(1, B, A), joins(2, C, A)], -1, 0, JOB_KINDS)
        yield world


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["forget", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def sent(world: ServedStore) -> list[JoinedDelete]:
    found = [decode_joined(message.value) for message in world.order]
    return [each for each in found if isinstance(each, JoinedDelete)]


def places(out: str) -> dict[str, dict[str, Any]]:
    [image] = json.loads(out)["images"].values()
    return {each["place"].removeprefix("neardup.photos."): each for each in image["places"]}


def test_a_head_is_forgotten_and_its_members_get_another(world: ServedStore, run: Run) -> None:
    code, out, _ = run("a", "--reason", "request 4711", "--author", "ann")
    assert (code, out) == (Exit.OK, "a: forgotten\n")
    [asked] = sent(world)
    assert (asked.forget, asked.HasField("image_version"), asked.author, asked.reason) == (
        True,
        False,
        "ann",
        "request 4711",
    )
    assert world.store.members(B, 9).items == (B, C)
    assert world.store.state().required == {"delete", "forget"}


def test_a_refused_return_forgets_every_version(world: ServedStore, run: Run) -> None:
    run("a", "--refuse-return")
    assert sent(world)[0].image_version == MAX_IMAGE_VERSION
    code, out, _ = run("--report", "a", "--json")
    assert code == Exit.OK
    assert json.loads(out)["images"]["a"]["refused"]


def test_a_dry_run_writes_nothing(world: ServedStore, run: Run) -> None:
    code, out, _ = run("a", "b", "nobody", "--dry-run")
    assert (code, out) == (Exit.OK, "a: there; 2 members get another head\nb: there\nnobody: unknown\n")
    code, out, _ = run("a", "--dry-run", "--json")
    assert json.loads(out) == {"dry_run": True, "images": {"a": {"image": "there", "renamed": 2}}}
    assert world.order == []


def test_many_images_of_a_file(world: ServedStore, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("b\nc\nnobody\n", encoding="utf-8")
    code, out, _ = run("--ids-file", str(file), "--json")
    assert code == Exit.OK
    assert json.loads(out)["images"] == {"b": "forgotten", "c": "forgotten", "nobody": "unknown"}
    code, out, _ = run("--ids-file", str(file))
    assert out == "forgotten: 2\nunknown: 1\n"


def test_the_report_says_for_each_place_what_becomes_of_it(world: ServedStore, run: Run) -> None:
    run("a")
    before = places(run("--report", "a", "--json")[1])
    assert before["store"]["fate"] == "until"
    assert before["store"]["at"] == "2023-11-15T22:13:20.000Z"
    assert before["index"]["fate"] == "unknown"
    assert before["joined"]["at"] == "2023-11-22T22:23:20.000Z"
    assert before["dead-letter"]["fate"] == "stays"
    assert {"checkpoints", "savepoints", "index snapshots", "overrides", "backups"} <= before.keys()
    erase_all(world.store)
    after = places(run("--report", "a", "--json")[1])
    assert (after["store"]["fate"], after["overrides"]["fate"]) == ("erased", "erased")
    code, out, _ = run("--report", "a", "b")
    assert code == Exit.OK
    assert "a: forgotten at 2023-11-14T22:13:20.000Z, position 3" in out
    assert "b: was not forgotten" in out


def test_without_an_image_the_report_counts(world: ServedStore, run: Run) -> None:
    assert run("--report")[1] == "0 erased from the store, 0 wait\n"
    run("a")
    assert run("--report")[1] == "0 erased from the store, 1 wait, the oldest since 2023-11-14T22:13:20.000Z\n"
    erase_all(world.store)
    assert json.loads(run("--report", "--json")[1]) == {"erased": 1, "waiting": 0, "oldest": None}


def test_a_job_that_cannot_forget_gets_no_record(world: ServedStore, run: Run) -> None:
    state = world.store.state()
    world.store.apply(TOPIC_ID, [], state.position.offset, state.revision, ["image", "delete", "replay"])
    code, _, err = run("a")
    assert code == Exit.MISMATCH
    assert "forget" in err
    assert world.order == []


def test_no_image_is_refused(world: ServedStore, run: Run) -> None:
    code, _, err = run("--refuse-return")
    assert code == Exit.USAGE
    assert "no image is named" in err
