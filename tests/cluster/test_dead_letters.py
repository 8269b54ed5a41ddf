"""Rejected records on the real parts: each becomes a dead letter, with its headers, and the order goes on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaProducer

from core.dead_letters import DeadLetter, Reason
from core.protos.joined_pb2 import JoinedImage, JoinedRecord
from neardup.events_pb2 import FLOAT16
from stream.cli.main import main
from stream.local.resolved import resolved_toml
from tests.cluster.test_waiting_halves import named, send_halves
from tests.support.stack import Stack, eventually
from tests.support.text_signal import TextSignal

pytestmark = pytest.mark.cluster


def test_an_image_that_the_index_refuses_is_its_own_head_and_a_dead_letter(stack: Stack) -> None:
    image = JoinedImage(
        image_id="refused-by-the-index",
        image_version=1,
        search_type=FLOAT16,
        score_type=FLOAT16,
        search_vector=b"\x00\x3c" * 7,  # as only another writer of the order could send it
        score_vector=b"\x00\x3c" * 768,
        arrived_at_ms=1_700_000_000_000,
    )
    record = JoinedRecord(image=image).SerializeToString()
    producer = KafkaProducer(bootstrap_servers=stack.settings.kafka.servers)
    sent = producer.send(stack.signal.topic("joined"), key=b"refused-by-the-index", value=record).get(30)
    producer.close()

    def found() -> list[DeadLetter] | None:
        return [one for one in stack.dead_letters() if one.payload == record] or None

    (dead,) = eventually(found, 60, lambda: "the storage server has published no dead letter")
    assert (dead.reason, dead.source.topic, dead.source.offset) == (
        Reason.REFUSED,
        stack.signal.topic("joined"),
        sent.offset,
    )
    assert stack.heads(["refused-by-the-index"]) == {"refused-by-the-index": "refused-by-the-index"}
    assert stack.problems() == []


def test_after_an_outage_of_one_sender_a_replay_gives_every_image_a_head(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead letters of all halves but one are replayed. The last image is sent again by its sender.

    search    31 halves ............................. 1 half
    score     down for longer than the join waits ... 31 halves
    """
    *rows, lonely = named("outage", 31)
    payloads = set(send_halves(stack, [*rows, lonely], "search"))
    sent = 0

    def given_up() -> bool | None:
        # Event time goes on only while records come.
        nonlocal sent
        sent += 1
        stack.publish(named(f"tick-{sent}", 8))
        time.sleep(1)
        expired = {one.payload for one in stack.dead_letters() if one.reason is Reason.MISSING_SCORE_HALF}
        return True if payloads <= expired else None

    eventually(given_up, 90, lambda: f"halves still wait after {sent} rounds of other images")
    assert {one.reason for one in stack.dead_letters() if one.payload in payloads} == {Reason.MISSING_SCORE_HALF}
    assert stack.heads([row.image_id for row in [*rows, lonely]]) == {}
    settings, ids = tmp_path / "neardup.toml", tmp_path / "ids.txt"
    settings.write_text(resolved_toml(stack.settings), encoding="utf-8")
    ids.write_text("".join(f"{row.image_id}\n" for row in rows), encoding="utf-8")
    monkeypatch.setenv("NEARDUP_SETTINGS", str(settings))
    send_halves(stack, [lonely], "search")
    send_halves(stack, [*rows, lonely], "score")
    assert main(["dead-letters", "replay", "--ids-file", str(ids)]) == 0
    assert len(stack.await_heads([row.image_id for row in [*rows, lonely]])) == 31
    assert stack.problems() == []


def test_a_flood_of_broken_records_stops_no_image(stack: Stack, text: TextSignal) -> None:
    """
    text      5,000 broken records, 10 images, 5,000 broken records, 10 images ...
    photos    ....................  10 images, ....................  10 images ...
    """

    def rejected() -> set[bytes]:
        return {dead.payload for dead in stack.dead_letters("text") if dead.reason is Reason.UNPARSABLE}

    before, broken = rejected(), [b"broken %d" % number for number in range(20_000)]
    photos = named("flood", 40)
    texts = [replace(row, image_id=f"flood-{row.image_id}") for row in text.rows]
    for turn in range(4):
        values = broken[turn * 5_000 : (turn + 1) * 5_000]
        stack.send_raw(stack.settings.signal("text")[1].topic("search"), [(value, value) for value in values])
        stack.publish(texts[turn * 10 : (turn + 1) * 10], signal="text")
        stack.publish(photos[turn * 10 : (turn + 1) * 10])
    stack.await_heads([row.image_id for row in photos])
    stack.await_heads([row.image_id for row in texts], signal="text")

    eventually(lambda: rejected() - before == set(broken) or None, 60, lambda: f"{len(rejected())} dead letters")
    assert stack.problems("text") == []
