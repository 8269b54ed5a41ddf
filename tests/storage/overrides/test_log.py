"""The file of overrides: what it holds comes back, torn ends are cut, other damage is refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from core.overrides import Override, OverrideKind
from core.types import ImageId
from storage.errors import CorruptedError, DiskFullError
from storage.overrides.log import OverrideLog

A, B = ImageId("a b\n"), ImageId("🙂")


def override(number: int) -> Override:
    return Override(number, OverrideKind.PIN, (A,), B, 0, "mé", "why\nnot", 1_700_000_000_000, number)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file with two overrides."""
    log = OverrideLog(tmp_path)
    assert list(log.overrides()) == []
    assert list(tmp_path.iterdir()) == []
    log.append(override(1))
    log.append(override(2))
    return tmp_path / "overrides.log"


def test_overrides_come_back(file: Path) -> None:
    assert list(OverrideLog(file.parent).overrides()) == [override(1), override(2)]


def test_what_was_never_acknowledged_is_cut(file: Path) -> None:
    whole = file.read_bytes()
    end = whole.index(b"\n") + 1
    for length in range(end, len(whole)):
        file.write_bytes(whole[:length])
        log = OverrideLog(file.parent)
        assert list(log.overrides()) == [override(1)]
        log.append(override(2))
        assert file.read_bytes() == whole


@pytest.mark.parametrize("at", [0, 5, 9, 30])
def test_a_damaged_line_is_refused(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptedError, match=r"line 1 of .*overrides.log is damaged"):
        list(OverrideLog(file.parent).overrides())


def test_a_missing_line_is_refused(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[1])
    with pytest.raises(CorruptedError, match="number 2"):
        list(OverrideLog(file.parent).overrides())


def test_what_a_refused_append_left_never_comes_back(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, log = file.read_bytes(), OverrideLog(file.parent)

    def fails(handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(DiskFullError):
            log.append(override(3))
        with pytest.raises(DiskFullError):
            log.mend()
        with pytest.raises(DiskFullError):
            log.append(override(3))
    log.mend()
    assert file.read_bytes() == whole
    log.append(override(3))
    assert list(OverrideLog(file.parent).overrides()) == [override(1), override(2), override(3)]
