"""A file written in slices: whole or not there at all, whatever fails, and each slice sent to the disk on its way."""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path

import pytest

from search.index import sliced_file
from search.index.sliced_file import SLICE_BYTES, SlicedFile

CONTENT = bytes(range(256)) * (3 * SLICE_BYTES // 256) + b"end"


def written(path: Path, sync: bool) -> None:
    with SlicedFile(path, len(CONTENT) + 100, sync, None) as file:
        file.write_at(0, CONTENT[:10])
        file.write_at(10, CONTENT[10 : SLICE_BYTES + 7])
        file.write_at(SLICE_BYTES + 7, CONTENT[SLICE_BYTES + 7 :])


@pytest.mark.parametrize("sync", [False, True])
def test_what_was_written_is_there_and_the_rest_is_zero(tmp_path: Path, sync: bool) -> None:
    written(tmp_path / "file", sync)
    assert (tmp_path / "file").read_bytes() == CONTENT + bytes(100)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_the_range_call_the_last_sync_does_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliced_file, "_SYNC_RANGE", None)
    written(tmp_path / "file", True)
    assert (tmp_path / "file").read_bytes() == CONTENT + bytes(100)


def test_slices_go_to_the_disk_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def sync_range(_: int, offset: int, length: int, flags: int) -> int:
        calls.append((offset // SLICE_BYTES, flags))
        assert length == SLICE_BYTES
        return 0

    monkeypatch.setattr(sliced_file, "_SYNC_RANGE", sync_range)
    written(tmp_path / "file", True)
    assert calls == [(0, 2), (1, 2), (0, 7), (2, 2), (1, 7)]
    written(tmp_path / "other", False)
    assert len(calls) == 5


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINVAL])
def test_an_error_of_writing_back_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def sync_range(*_: int) -> int:
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(sliced_file, "_SYNC_RANGE", sync_range)
    if number == errno.EINVAL:  # a file system without it
        written(tmp_path / "file", True)
        return
    with pytest.raises(OSError) as caught:
        written(tmp_path / "file", True)
    assert caught.value.errno == number
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_cannot_reserve_blocks_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(number, "not supported")

    monkeypatch.setattr("os.posix_fallocate", unknown)
    written(tmp_path / "file", True)
    assert (tmp_path / "file").read_bytes() == CONTENT + bytes(100)


STEPS = ["os.posix_fallocate", "os.pwrite", "os.ftruncate", "os.fsync", "pathlib.Path.replace"]


@pytest.mark.parametrize("call", STEPS)
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    (tmp_path / "file").write_bytes(b"before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        with pytest.raises(OSError, match="No space left"):
            written(tmp_path / "file", True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"before"}
