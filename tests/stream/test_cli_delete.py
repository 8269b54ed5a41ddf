"""`neardup delete` against the real gRPC service over a store in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.notifications import RECORD_KINDS, decode_joined
from core.protos.joined_pb2 import JoinedDelete
from core.types import ImageId
from storage.testing.decisions import founds, joins
from stream.cli.exits import Exit
from stream.cli.main import main
from tests.support.served_store import TOPIC_ID, ServedStore, served_store


class FakeBroker:
    """Knows the order alone."""

    topic_id_now = TOPIC_ID

    def __init__(self, access: Any) -> None:
        """Connects to nothing."""

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(self, *unused: object) -> None:
        """Nothing to close."""

    def topic_id(self, topic: str) -> str:
        return self.topic_id_now


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedStore]:
    with served_store() as world:
        monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__PORT", str(world.port))
        monkeypatch.setattr("storage.serving.publisher.KafkaSender", world.sender)
        monkeypatch.setattr("stream.broker.Broker", FakeBroker)
        a, b = ImageId("a"), ImageId("b")
        world.store.apply(TOPIC_ID, [founds(0, a), joins(1, b, a), founds(2, ImageId("c"))], -1, 0, RECORD_KINDS)
        yield world


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["delete", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def sent(world: ServedStore) -> list[JoinedDelete]:
    found = [decode_joined(message.value) for message in world.order]
    return [each for each in found if isinstance(each, JoinedDelete)]


def test_an_image_is_deleted_with_author_and_reason(world: ServedStore, run: Run) -> None:
    code, out, _ = run("b", "--reason", "takedown", "--author", "ann", "--version", "1")
    assert (code, out) == (Exit.OK, "b: deleted\n")
    [delete] = sent(world)
    assert (delete.image_id, delete.image_version, delete.author, delete.reason) == ("b", 1, "ann", "takedown")
    assert world.store.image(ImageId("b")) is None
    assert world.store.state().required == {"delete"}


def test_many_images_are_counted_and_named_in_json(world: ServedStore, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("b\n\nc\r\nnobody\nb\n", encoding="utf-8")
    code, out, _ = run("--ids-file", str(file), "--json")
    assert code == Exit.OK
    said = json.loads(out)
    assert said["counts"] == {"deleted": 2, "deleted before": 0, "a newer version stays": 0, "unknown": 1}
    assert [each.image_id for each in sent(world)] == ["b", "c", "nobody"]
    assert said["images"] == {"b": "deleted", "c": "deleted", "nobody": "unknown"}
    assert {each.origin.request_id for each in sent(world)} == {said["request"]}
    code, out, _ = run("--ids-file", str(file))
    assert out == "deleted before: 2\nunknown: 1\n"
    assert not any(each.HasField("image_version") for each in sent(world))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no image is named"),
        (("--ids-file", "/nowhere"), "/nowhere cannot be read"),
        (("x" * 257,), "257 bytes"),
        (("a", "--reason", "x" * 1025), "1025 bytes"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    world: ServedStore, run: Run, words: tuple[str, ...], said: str
) -> None:
    code, _, err = run(*words)
    assert code == Exit.USAGE
    assert said in err
    assert world.order == []


def test_an_id_of_a_file_that_is_none_is_named_by_its_line(world: ServedStore, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_bytes(b"a\n\xff\n")
    code, _, err = run("--ids-file", str(file))
    assert code == Exit.USAGE
    assert "line 2" in err
    assert world.order == []


def test_a_job_that_does_not_know_deletes_gets_none(world: ServedStore, run: Run) -> None:
    state = world.store.state()
    world.store.apply(TOPIC_ID, [], state.position.offset, state.revision, ["image"])
    code, _, err = run("a")
    assert code == Exit.MISMATCH
    assert "delete" in err
    assert world.order == []


def test_an_order_that_storage_does_not_follow_is_refused(
    world: ServedStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeBroker, "topic_id_now", "another")
    code, _, err = run("a")
    assert code == Exit.MISMATCH
    assert "another" in err
    assert world.order == []
