"""The bookkeeping of `make bench-capacity`: sizes of folders and topics, and the table of a month."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.capacity import MONTH_IMAGES, capacity_table, topic_bytes, used_bytes


def _write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def test_a_linked_file_counts_once(tmp_path: Path) -> None:
    _write(tmp_path / "a" / "segment-1", 100)
    _write(tmp_path / "b" / "log-1", 7)
    os.link(tmp_path / "a" / "segment-1", tmp_path / "b" / "segment-1")
    (tmp_path / "link").symlink_to(tmp_path / "b" / "log-1")
    assert used_bytes(tmp_path) == 107
    assert used_bytes(tmp_path, "segment-*") == 100
    assert used_bytes(tmp_path / "missing") == 0


def test_a_topic_is_its_segments_in_all_partitions(tmp_path: Path) -> None:
    _write(tmp_path / "photos.joined-0" / "00000000000000000000.log", 50)
    _write(tmp_path / "photos.joined-11" / "00000000000000000000.log", 5)
    _write(tmp_path / "photos.joined-0" / "00000000000000000000.index", 1000)
    _write(tmp_path / "photos.joined-old-0" / "00000000000000000000.log", 1000)
    assert topic_bytes(tmp_path, "photos.joined") == 55


def test_a_month_at_a_hundred_images_a_second() -> None:
    assert MONTH_IMAGES == 259_200_000
    header, line = capacity_table({"joined": 4_000.0}).splitlines()
    assert "259 million" in header
    assert line.split() == ["joined", "4,000", "1,037"]
