"""From embeddings on Kafka to clusters in the API, on the real parts, for two signals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.dead_letters import DeadLetter, Reason
from neardup.events_pb2 import FLOAT16, FLOAT32, EmbeddingNotification
from stream.access import api_url
from stream.cli.main import main
from stream.local.resolved import resolved_toml
from tests.support.stack import Stack, eventually, sample_rows
from tests.support.text_signal import TextSignal

pytestmark = pytest.mark.cluster

PHOTO_COUNT = 200
"""The number of sample images that the tests of this module share."""


@pytest.fixture(scope="module")
def photos(stack: Stack) -> dict[str, str]:
    """The head of each of the first images. They are published twice, with bad records between."""
    rows = sample_rows(PHOTO_COUNT)
    stack.publish(rows[: PHOTO_COUNT // 2])
    stack.send_raw(stack.signal.topic("search"), [(b"bad", value) for value in bad_notifications().values()])
    stack.publish(rows)
    return stack.await_heads([row.image_id for row in rows])


def good() -> EmbeddingNotification:
    vector = np.random.default_rng(7).standard_normal(1280).astype("<f2").tobytes()
    return EmbeddingNotification(
        image_id="bad",
        image_version=1,
        embedding="mobilenet_v2_1.0_224",
        model_version="1",
        element_type=FLOAT16,
        vector=vector,
        created_at_ms=1_700_000_000_000,
    )


def changed(**fields: Any) -> bytes:
    message = good()
    for name, value in fields.items():
        setattr(message, name, value)
    return message.SerializeToString()


def bad_notifications() -> dict[Reason, bytes]:
    """One record of each kind that decoding rejects."""
    return {
        Reason.EMPTY_PAYLOAD: b"",
        Reason.OVERSIZED_PAYLOAD: b"x" * 300_000,
        Reason.UNPARSABLE: b"\xff\xfe no protobuf",
        Reason.MISSING_ID: changed(image_id=""),
        Reason.ID_TOO_LONG: changed(image_id="i" * 257),
        Reason.UNKNOWN_EMBEDDING: changed(embedding="another"),
        Reason.WRONG_MODEL_VERSION: changed(model_version="2"),
        Reason.UNKNOWN_ELEMENT_TYPE: changed(element_type=0),
        Reason.MISSING_VECTOR: changed(vector=b""),
        Reason.WRONG_VECTOR_LENGTH: changed(element_type=FLOAT32),
        Reason.NOT_A_NUMBER: changed(vector=np.full(1280, np.nan, "<f2").tobytes()),
        Reason.INFINITE: changed(vector=np.full(1280, np.inf, "<f2").tobytes()),
        Reason.ALL_ZERO: changed(vector=bytes(2560)),
        Reason.NEGATIVE_TIME: changed(created_at_ms=-1),
        Reason.TIME_TOO_LATE: changed(created_at_ms=2**62),
    }


def rejected(stack: Stack) -> list[DeadLetter]:
    """The dead letters of decoding search embeddings; other tests spoil other topics."""
    return [
        dead_letter
        for dead_letter in stack.dead_letters()
        if dead_letter.reason in bad_notifications() and dead_letter.source.topic == stack.signal.topic("search")
    ]


def test_every_image_has_a_head_and_similar_ones_share_it(stack: Stack, photos: dict[str, str]) -> None:
    assert len(photos) == PHOTO_COUNT
    heads = set(photos.values())  # images of other tests may be among them
    assert stack.heads(sorted(heads)) == {head: head for head in heads}
    # The first rows hold whole groups of edited copies, so there are clusters, and more than one.
    assert 1 < len(set(photos.values())) < PHOTO_COUNT
    assert stack.problems() == []


def test_each_bad_record_is_a_dead_letter_with_its_reason(stack: Stack, photos: dict[str, str]) -> None:
    wanted = bad_notifications()
    dead_letters = eventually(
        lambda: found if len(found := rejected(stack)) >= len(wanted) else None,
        30,
        lambda: f"{len(rejected(stack))} of {len(wanted)} dead letters",
    )
    assert {dead_letter.reason for dead_letter in dead_letters} == set(wanted)
    for dead_letter in dead_letters:
        payload = wanted[dead_letter.reason]
        assert dead_letter.source.offset >= 0
        assert dead_letter.payload_bytes == len(payload)
        assert dead_letter.payload == payload[: len(dead_letter.payload)]
        assert dead_letter.truncated == (dead_letter.reason is Reason.OVERSIZED_PAYLOAD)
    assert "bad" not in stack.heads(["bad"])


def test_api_pages_give_the_whole_cluster(stack: Stack, photos: dict[str, str]) -> None:
    heads = list(photos.values())
    head = max(set(heads), key=heads.count)
    members = {image for image, its_head in photos.items() if its_head == head}
    with stack.api() as api:
        assert api.cluster(head).count == len(members)
        found: list[str] = []
        token: str | None = None
        while not found or token is not None:
            page = api.members_page(head, limit=2, page_token=token)
            found, token = [*found, *page.members], page.next_page_token
        assert sorted(found) == sorted(members)
        assert set(api.similar(found[-1])) == members
        image = api.image(next(iter(members - {head})))
    assert image.cause in {"matched", "adopted"}
    assert image.versions.model
    assert image.place >= 0


def test_assignments_carry_every_change_in_order(stack: Stack, photos: dict[str, str]) -> None:
    def complete() -> list[dict[str, Any]] | None:
        found = stack.assignments()
        return found if {each["image_id"] for each in found} >= set(photos) else None

    changes = eventually(complete, 30, lambda: f"{len(stack.assignments())} changes published")
    numbers = [change["history_number"] for change in changes]
    assert numbers == sorted(set(numbers))
    last = {change["image_id"]: change["head"] for change in changes}
    assert {image: last[image] for image in photos} == photos


def test_a_second_signal_is_settings_alone(stack: Stack, text: TextSignal) -> None:
    stack.publish(text.rows, signal="text")
    heads = stack.await_heads([row.image_id for row in text.rows], signal="text")
    for first, second in text.twins:
        assert heads[first] == heads[second]
    assert len(set(heads.values())) > len(text.twins) // 2
    assert stack.problems("text") == []
    assert set(heads) & set(stack.heads(list(heads))) == set()


def test_the_command_line_answers(
    stack: Stack,
    photos: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "neardup.toml"
    file.write_text(resolved_toml(stack.settings), encoding="utf-8")
    monkeypatch.setenv("NEARDUP_SETTINGS", str(file))
    image, head = next((image, head) for image, head in photos.items() if image != head)

    def run(*arguments: str) -> Any:
        assert main([*arguments]) == 0
        return json.loads(capsys.readouterr().out)

    assert run("head", image, "--json")["head"] == head
    assert image in run("members", head, "--all", "--json")["members"]
    assert image in run("similar", head, "--json")["members"]
    assert run("verify", "--json")["problem_count"] == 0
    status = run("status", "--json")
    assert api_url(stack.settings, stack.signal_name) in json.dumps(status)
    assert main(["head", "nobody-knows-it"]) == 3


def test_metrics_are_served_by_every_part(stack: Stack, photos: dict[str, str]) -> None:
    import httpx

    signal, flink = stack.signal, stack.settings.flink
    pages = {
        "neardup_search_": signal.search.metrics_port,
        "neardup_scorer_": signal.scorer.metrics_port,
        "neardup_storage_": signal.storage.metrics_port,
        "neardup_job_lag_records": signal.job_metrics_port,
        "flink_taskmanager_job": flink.taskmanager_metrics_port,
    }
    for text, port in pages.items():
        assert text in httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
