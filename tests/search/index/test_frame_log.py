"""The log file: a torn tail is cut at any byte, damage in the middle is named and refused, a failed write is undone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.errors import UnavailableError
from search.index import frame_log
from search.index.codec import Hidden, encode_frame
from search.index.errors import IndexDamagedError
from search.index.frame_log import FrameLog
from search.index.frames import HEADER_BYTES

FRAMES = [encode_frame(Hidden((number,), number + 7)) for number in range(4)]
LENGTH = len(FRAMES[0])


def opened(path: Path) -> tuple[FrameLog, list[bytes]]:
    file = FrameLog(path)
    return file, list(file.replay())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    file, _ = opened(path)
    for frame in FRAMES:
        file.append(frame)
    file.close()
    return path


def test_frames_come_back_in_order(path: Path) -> None:
    file, frames = opened(path)
    assert frames == FRAMES
    assert file.size == 4 * LENGTH
    file.close()


@pytest.mark.parametrize("kept", range(1, LENGTH))
def test_a_tail_torn_at_any_byte_is_cut(path: Path, kept: int) -> None:
    os.truncate(path, 3 * LENGTH + kept)
    file, frames = opened(path)
    assert frames == FRAMES[:3]
    assert path.stat().st_size == file.size == 3 * LENGTH
    file.append(FRAMES[0])
    file.close()
    file, frames = opened(path)
    assert frames == [*FRAMES[:3], FRAMES[0]]
    file.close()


@pytest.mark.parametrize("tail", [b"\0" * 5000 + b"\1", b"NDLG" * 50, b"\xff" * 3])
def test_a_tail_of_anything_is_cut(path: Path, tail: bytes) -> None:
    with path.open("ab") as file:
        file.write(tail)
    log, frames = opened(path)
    assert frames == FRAMES
    assert path.stat().st_size == 4 * LENGTH
    log.close()


def test_appends_go_into_zeros_that_were_written_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(frame_log, "_ROOM_BYTES", 2 * LENGTH + 5)
    path = tmp_path / "log"
    path.touch()
    lengths = []
    for number in range(8):
        file, frames = opened(path)
        assert frames == [FRAMES[at % 4] for at in range(number)]
        file.append(FRAMES[number % 4])
        assert path.read_bytes()[file.size :] == bytes(path.stat().st_size - file.size)
        lengths.append(path.stat().st_size - 5)
        file.close()
    assert lengths == [LENGTH * frames for frames in (3, 3, 3, 6, 6, 6, 9, 9)]
    assert caplog.records == []


def test_a_log_that_is_not_synced_is_as_long_as_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    file = FrameLog(path, sync=False)
    list(file.replay())
    file.append(FRAMES[0])
    assert path.stat().st_size == LENGTH
    file.close()


@pytest.mark.parametrize("byte", range(LENGTH))
def test_any_damaged_byte_of_a_middle_frame_is_refused_by_name(path: Path, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[LENGTH + byte] ^= 0x10
    path.write_bytes(content)
    file = FrameLog(path)
    with pytest.raises(
        IndexDamagedError, match=rf"log is damaged at byte {LENGTH} \(intact again from byte {2 * LENGTH}"
    ):
        list(file.replay())
    file.close()
    assert path.read_bytes() == content  # nothing is cut: it may still be repaired


def test_a_missing_middle_is_refused(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: LENGTH + 3] + content[2 * LENGTH :])
    with pytest.raises(IndexDamagedError):
        opened(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexDamagedError, match="missing"):
        FrameLog(tmp_path / "log")


@pytest.mark.parametrize("step", ["write", "sync", "sync and truncate"])
def test_a_failed_append_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    file, _ = opened(path)
    real_write = os.pwrite

    def short(descriptor: int, data: bytes, at: int) -> int:
        if at > 4 * LENGTH:
            raise OSError(28, "No space left on device")
        return real_write(descriptor, data[:HEADER_BYTES], at)

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr("os.pwrite", short)
        else:
            patch.setattr("os.fdatasync", fails)
        if step == "sync and truncate":
            patch.setattr("os.ftruncate", fails)
        for _ in range(2):
            with pytest.raises(UnavailableError) as caught:
                file.append(FRAMES[0])
            assert caught.value.retry_after_s is not None
        assert file.size == 4 * LENGTH
    file.append(FRAMES[2])
    file.close()
    file, frames = opened(path)
    assert frames == [*FRAMES, FRAMES[2]]
    file.close()


def test_a_half_written_tail_that_could_not_be_cut_is_cut_when_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = opened(path)

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync", fails)
        patch.setattr("os.ftruncate", fails)
        with pytest.raises(UnavailableError):
            file.append(FRAMES[0][:-8])  # zeros behind it would make it whole again, were they all that lacks
    file.close()
    file, frames = opened(path)
    assert frames == FRAMES
    file.close()


def test_each_append_waits_for_the_disk_unless_told_otherwise(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fdatasync", synced.append)
    for sync, expected in ((True, 2), (False, 0)):
        synced.clear()
        file = FrameLog(path, sync)
        list(file.replay())
        file.append(FRAMES[0])
        file.append(FRAMES[1])
        assert len(synced) == expected
        file.close()
