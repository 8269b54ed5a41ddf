"""Where a forgotten image lies yet: the bounds of each place."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.types import ImageId
from storage.forgotten import ForgottenImage
from stream.remains import (
    Fate,
    checkpoint_remains,
    file_remains,
    index_remains,
    override_remains,
    store_remains,
    topic_remains,
)

HOUR_MS = 3600 * 1000
IMAGE = ForgottenImage(
    ImageId("a"), ImageId("forgotten:1"), 7, 1000, 0, refused=False, returned=False, overrides=(3, 5)
)


def test_a_topic_keeps_a_record_for_its_retention_and_one_segment() -> None:
    found = topic_remains("joined", {"retention.ms": "5000", "segment.ms": "300"}, 1000)
    assert (found.fate, found.at_ms) == (Fate.UNTIL, 1000 + 5000 + 300 + 600_000)


@pytest.mark.parametrize("configs", [{"retention.ms": "-1"}, {"retention.ms": "9", "cleanup.policy": "compact"}, {}])
def test_a_topic_without_retention_keeps_it(configs: dict[str, str]) -> None:
    found = topic_remains("dead-letter", configs, 1000)
    assert found.fate is Fate.STAYS
    assert "kafka-delete-records" in found.note


def test_servers_erase_within_a_day() -> None:
    assert store_remains(IMAGE).at_ms == 1000 + 24 * HOUR_MS
    assert index_remains(IMAGE, erased=False).at_ms == 1000 + 24 * HOUR_MS
    assert index_remains(IMAGE, erased=True).fate is Fate.ERASED
    assert index_remains(IMAGE, erased=None).fate is Fate.UNKNOWN


def test_checkpoints_let_go_after_the_join_and_four_intervals() -> None:
    assert checkpoint_remains(1000, 3600.0, 10.0).at_ms == 1000 + HOUR_MS + 40_000


def test_only_copies_from_before_count() -> None:
    files = [(Path("/x/old"), 900), (Path("/x/new"), 1001)]
    found = file_remains("savepoints", files, 1000, "delete them")
    assert (found.fate, found.note) == (Fate.STAYS, "old: delete them")
    assert file_remains("savepoints", files[1:], 1000, "").fate is Fate.ERASED


def test_overrides_stay() -> None:
    assert "3, 5" in override_remains(IMAGE).note
