"""The producer and the consumer of the examples, without a broker."""

from __future__ import annotations

import random
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kafka
import numpy as np
import pytest

from core.notifications import EmbeddingSpec, Half, decode
from core.types import Cause, ImageId, Versions
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


def test_a_first_load_is_no_change_of_one_image() -> None:
    load = FirstLoad("4f0c", "s3://old", "a.json", 3, 3, 2, 1_000, 2_000)
    assert newest_heads([load_message(load, EPOCH).value, change(4, "b", "a")]) == {"b": "a"}


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
