"""Images among dead letters: which are open, and what settles them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.settlements import settlement_bytes
from core.types import ImageId
from stream.dead_letters.choice import DeadLetterChoice, settled_in
from stream.replay.dead_images import open_images, settlements_of
from stream.topic_reader import TopicRecord


def record(offset: int, key: bytes, reason: Reason = Reason.FAULTED, topic: str = "joined") -> TopicRecord:
    value = dead_letter(BadRecord(reason, "why"), Provenance(topic, 0, offset, 5), b"x", None)
    return TopicRecord(offset, 5, key, value)


def test_only_images_of_the_order_that_a_server_could_not_take_are_open() -> None:
    records = [
        record(0, b"a"),
        record(1, b"b", Reason.REFUSED),
        record(2, b"c", Reason.MISSING_SCORE_HALF, "embeddings.search"),
        record(3, b"d", topic="replay"),
        record(4, b""),
        record(5, b"\xff"),
        TopicRecord(6, 5, b"e", b"{}"),
        record(7, b"a"),
    ]
    assert open_images(records, DeadLetterChoice(), settled_in([]), "joined") == {"a": [0, 7], "b": [1]}


def test_only_chosen_ones_count() -> None:
    records = [record(0, b"a"), record(1, b"b", Reason.REFUSED), record(2, b"a", Reason.REFUSED)]
    choice = DeadLetterChoice([Reason.REFUSED], image_ids={b"a"})
    assert open_images(records, choice, settled_in([]), "joined") == {"a": [2]}


@settings(deadline=None)
@given(keys=st.lists(st.sampled_from("abcdef"), max_size=40), decided=st.frozensets(st.sampled_from("abcdef")))
def test_what_was_decided_is_settled_and_the_rest_stays_open(keys: list[str], decided: frozenset[str]) -> None:
    records = [record(offset, key.encode()) for offset, key in enumerate(keys)]
    images = open_images(records, DeadLetterChoice(), settled_in([]), "joined")
    done = [image_id for image_id in images if image_id in decided]
    records += [
        TopicRecord(len(records) + number, 5, b"", settlement_bytes(each))
        for number, each in enumerate(settlements_of(images, done, "r"))
    ]
    left = open_images(records, DeadLetterChoice(), settled_in(records), "joined")
    assert left == {image_id: offsets for image_id, offsets in images.items() if image_id not in decided}
    assert all(isinstance(image_id, str) and ImageId(image_id) for image_id in left)
