"""Free space and size of the disks below folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from core.disk_metrics import DiskCollector

FREE, SIZE = "neardup_disk_free_bytes", "neardup_disk_size_bytes"


def _registry(**folders: Path) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(DiskCollector(folders))
    return registry


def test_size_is_that_of_the_volume(tmp_path: Path) -> None:
    assert _registry(store=tmp_path).get_sample_value(SIZE, {"folder": "store"}) == shutil.disk_usage(tmp_path).total


def test_free_is_what_an_ordinary_user_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Block size 1024, fragment 512; 100 fragments, 60 of them free, 50 for ordinary users.
    volume = os.statvfs_result((1024, 512, 100, 60, 50, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: volume)
    registry = _registry(store=tmp_path)
    assert registry.get_sample_value(FREE, {"folder": "store"}) == 25_600
    assert registry.get_sample_value(SIZE, {"folder": "store"}) == 51_200


def test_a_folder_appears_once_it_is_made(tmp_path: Path) -> None:
    registry = _registry(later=tmp_path / "later", store=tmp_path)
    assert registry.get_sample_value(FREE, {"folder": "later"}) is None
    assert registry.get_sample_value(FREE, {"folder": "store"}) is not None
    (tmp_path / "later").mkdir()
    assert registry.get_sample_value(FREE, {"folder": "later"}) is not None
