"""The producer and the consumers of the examples, without a broker."""

from __future__ import annotations

import json
import random
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kafka
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.notifications import EmbeddingSpec, Half, decode
from core.types import Cause, ImageId, Versions
from examples.extending import alias_consumer
from examples.extending.consumer import newest_heads
from examples.extending.producer import send
from storage.records import FirstLoad, HistoryEntry, StoreEpoch
from storage.serving.assignments import load_message, message_of
from storage.testing.decisions import EPOCH
from tests.support.stack import PHOTOS

FOLDER = Path(__file__).parents[3] / "examples" / "extending"
SPECS = {f"p.embeddings.{side}": EmbeddingSpec(**PHOTOS[f"{side}_embedding"]) for side in ("search", "score")}


class FakeProducer:
    """Remembers records; they count once they are flushed."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.waiting: list[tuple[str, dict[str, Any]]] = []
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def __enter__(self) -> FakeProducer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.waiting == []

    def send(self, topic: str, **record: Any) -> None:
        self.waiting.append((topic, record))

    def flush(self) -> None:
        self.sent, self.waiting = self.sent + self.waiting, []


def check(sent: list[tuple[str, dict[str, Any]]], image_id: str) -> None:
    """Both halves of an image are there, and the service takes them."""
    assert sorted(topic for topic, _ in sent) == sorted(SPECS)
    for topic, record in sent:
        half = decode(record["value"], SPECS[topic])
        assert isinstance(half, Half)
        assert half.image_id == record["key"].decode() == image_id
        assert ("schema-version", b"1") in record["headers"]


def test_both_halves_are_sent_as_the_service_takes_them() -> None:
    producer = FakeProducer()
    send(producer, "p.", "cat", np.ones(1280, np.float16), np.ones(768, np.float16))
    check(producer.sent, "cat")


def test_the_producer_as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FakeProducer] = []
    monkeypatch.setattr(kafka, "KafkaProducer", lambda **options: made.append(FakeProducer(**options)) or made[-1])
    monkeypatch.setattr(sys, "argv", ["producer.py", "broker:9092", "p."])
    runpy.run_path(str(FOLDER / "producer.py"), run_name="__main__")
    assert made[0].options["bootstrap_servers"] == "broker:9092"
    check(made[0].sent, "my-first-image")


def change(number: int, image_id: str, head: str, epoch: StoreEpoch = EPOCH) -> bytes:
    return message_of(
        HistoryEntry(
            number=number,
            image_id=ImageId(image_id),
            old_head=None,
            new_head=ImageId(head),
            cause=Cause.MATCHED,
            score=None,
            matched=None,
            place=0,
            offset=0,
            version=1,
            decided_at_ms=0,
            created_at_ms=0,
            arrived_at_ms=0,
            versions=Versions(),
        ),
        epoch,
    ).value


CHANGES = [change(1, "a", "a"), change(2, "b", "b"), change(3, "c", "a"), change(4, "b", "a")]
HEADS = {"a": "a", "b": "a", "c": "a"}


def test_the_newest_head_of_each_image_is_kept() -> None:
    assert newest_heads(CHANGES) == HEADS


def test_a_deleted_image_has_no_head() -> None:
    assert newest_heads([*CHANGES, change(5, "c", "")]) == {"a": "a", "b": "a"}


def loaded(folder: Path) -> FirstLoad:
    """Four images in five rows: a later row of an image takes the place of an earlier one."""
    files = [{"a": "a", "b": None}, {"b": "a", "c": "c", "d": "d"}]
    (folder / "manifests").mkdir()
    for number, heads in enumerate(files):
        pq.write_table(pa.table({"head": [*heads.values()], "image_id": [*heads]}), folder / f"{number}.parquet")
    names = json.dumps({"files": [{"path": f"{number}.parquet"} for number in range(len(files))]})
    (folder / "manifests" / "at-t.json").write_text(names, encoding="utf-8")
    return FirstLoad("4f0c", str(folder), "at-t.json", 5, 4, 3, 1_000, 2_000)


def test_the_images_of_a_first_load_are_in_files(tmp_path: Path) -> None:
    load = load_message(loaded(tmp_path), EPOCH).value
    assert newest_heads([load, change(5, "d", "a")]) == {"a": "a", "b": "a", "c": "c", "d": "a"}


def test_a_new_store_begins_its_numbers_again() -> None:
    later = StoreEpoch(EPOCH.created_ms + 1, "another")
    assert newest_heads([*CHANGES, change(1, "c", "c", later)]) == {**HEADS, "c": "c"}


@pytest.mark.parametrize("start", range(4))
def test_records_that_come_again_change_nothing(start: int) -> None:
    assert newest_heads(CHANGES + CHANGES[start:]) == HEADS
    ends = [random.Random(start).randrange(1, 5) for _ in range(3)]
    again = [value for end in sorted(ends) for value in CHANGES[:end]]
    assert newest_heads(again) == newest_heads(CHANGES[: max(ends)])


def test_the_consumer_as_a_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: dict[str, Any] = {}

    def consumer(topic: str, **options: Any) -> list[SimpleNamespace]:
        asked.update(options, topic=topic)
        return [SimpleNamespace(value=value) for value in CHANGES]

    monkeypatch.setattr(kafka, "KafkaConsumer", consumer)
    monkeypatch.setattr(sys, "argv", ["consumer.py", "broker:9092", "p.assignments"])
    runpy.run_path(str(FOLDER / "consumer.py"), run_name="__main__")
    assert (asked["topic"], asked["auto_offset_reset"]) == ("p.assignments", "earliest")
    assert sorted(capsys.readouterr().out.splitlines()) == ["a a", "b a", "c a"]


class FakeBroker:
    """Topics of one partition, and consumers that get one record a poll."""

    def __init__(self) -> None:
        self.topics: dict[str, list[SimpleNamespace]] = {"aliases": [], "old": [], "new": []}
        self.open = 0

    def point(self, name: str, topic: str | None) -> None:
        value = None if topic is None else json.dumps({"topics": {"assignments": topic}}).encode()
        self.topics["aliases"].append(SimpleNamespace(key=name.encode(), value=value))

    def send(self, topic: str, *values: bytes) -> None:
        self.topics[topic] += [SimpleNamespace(key=b"", value=value) for value in values]

    def consumer(self, bootstrap_servers: str, auto_offset_reset: str) -> FakeConsumer:
        assert (bootstrap_servers, auto_offset_reset) == ("broker:9092", "earliest")
        return FakeConsumer(self)


class FakeConsumer:
    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.at = 0

    def __enter__(self) -> FakeConsumer:
        self.broker.open += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.open -= 1

    def assign(self, parts: list[kafka.TopicPartition]) -> None:
        (self.part,) = parts
        assert self.part.partition == 0

    def end_offsets(self, parts: list[kafka.TopicPartition]) -> dict[kafka.TopicPartition, int]:
        return {part: len(self.broker.topics[part.topic]) for part in parts}

    def poll(self, timeout_ms: int) -> dict[kafka.TopicPartition, list[SimpleNamespace]]:
        found = self.broker.topics[self.part.topic][self.at : self.at + 1]
        self.at += len(found)
        return {self.part: found} if found else {}

    def position(self, part: kafka.TopicPartition) -> int:
        return self.at


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    broker = FakeBroker()
    broker.send("old", *CHANGES)
    monkeypatch.setattr(alias_consumer, "KafkaConsumer", broker.consumer)
    return broker


def test_an_alias_is_followed_and_heads_are_replaced_at_once(broker: FakeBroker) -> None:
    seen = alias_consumer.follow("broker:9092", "aliases", "live")
    assert [next(seen) for _ in range(3)] == [{}] * 3
    broker.point("other", "new")
    broker.point("live", "old")
    # Two polls find the alias, and three more the rest of the four changes that were there.
    assert [dict(next(seen)) for _ in range(5)] == [{}, {}, {}, {}, HEADS]
    broker.send("new", *(change(number, f"n{number}", "n1") for number in range(1, 4)))
    broker.point("live", "new")
    shown = [dict(next(seen)) for _ in range(3)]
    assert shown == [HEADS, HEADS, {"n1": "n1", "n2": "n1", "n3": "n1"}]
    assert broker.open == 2  # the alias and the new signal
    broker.send("old", change(5, "late", "late"))
    broker.point("live", None)
    assert [len(next(seen)) for _ in range(3)] == [3, 3, 3]
    broker.point("live", "old")
    assert [dict(next(seen)) for _ in range(6)][-2:] == [{**HEADS, "late": "late"}] * 2
    seen.close()
    assert broker.open == 0


def test_an_alias_that_moves_again_before_its_signal_has_caught_up(broker: FakeBroker) -> None:
    """The heads before stay up to date, and of the signal between the two nothing is shown."""
    seen = alias_consumer.follow("broker:9092", "aliases", "live")
    broker.point("live", "old")
    assert [dict(next(seen)) for _ in range(4)][-1] == HEADS
    broker.send("new", *(change(number, f"n{number}", "n1") for number in range(1, 9)))
    broker.point("live", "new")
    broker.send("old", change(5, "d", "a"))
    assert [dict(next(seen)) for _ in range(2)] == [{**HEADS, "d": "a"}] * 2
    broker.point("live", "old")
    assert [dict(next(seen)) for _ in range(9)] == [{**HEADS, "d": "a"}] * 9
    assert broker.open == 2


def test_an_alias_moves_to_a_signal_that_began_with_a_first_load(broker: FakeBroker, tmp_path: Path) -> None:
    load = loaded(tmp_path)
    began = load_message(load, EPOCH).value
    broker.send("new", began, change(5, "e", "c"), change(6, "d", ""), began)
    seen = alias_consumer.follow("broker:9092", "aliases", "live")
    broker.point("live", "old")
    assert [dict(next(seen)) for _ in range(4)][-1] == HEADS
    broker.point("live", "new")
    assert [dict(next(seen)) for _ in range(4)] == [HEADS] * 3 + [{"a": "a", "b": "a", "c": "c", "e": "c"}]
    later = StoreEpoch(EPOCH.created_ms + 1, "another")
    broker.send("new", load_message(load, later).value)
    assert dict(next(seen)) == {"a": "a", "b": "a", "c": "c", "d": "d"}
    seen.close()


def test_the_consumer_of_an_alias_as_a_program(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.point("live", "old")

    class Ended(FakeConsumer):
        def poll(self, timeout_ms: int) -> dict[kafka.TopicPartition, list[SimpleNamespace]]:
            if self.part.topic == "aliases" and len(capsys_lines()) == 4:
                raise KeyboardInterrupt
            return super().poll(timeout_ms)

    said: list[str] = []

    def capsys_lines() -> list[str]:
        said.extend(capsys.readouterr().out.splitlines())
        return said

    monkeypatch.setattr(kafka, "KafkaConsumer", lambda **_: Ended(broker))
    monkeypatch.setattr(sys, "argv", ["alias_consumer.py", "broker:9092", "aliases", "live"])
    with pytest.raises(KeyboardInterrupt):
        runpy.run_path(str(FOLDER / "alias_consumer.py"), run_name="__main__")
    assert said == ["0 images, 0 clusters"] * 3 + ["3 images, 1 clusters"]
