"""The mark of a renewal: it stays until a snapshot of a later job is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ServiceError
from stream.renewal_mark import RenewalMark

MARK = RenewalMark(1_700_000_000_000)


def test_there_is_none_before_the_first_renewal(tmp_path: Path) -> None:
    assert RenewalMark.settle(tmp_path, None) is None


def test_it_holds_however_often_a_submission_fails(tmp_path: Path) -> None:
    MARK.write(tmp_path)
    assert [RenewalMark.settle(tmp_path, None) for _ in range(3)] == [MARK] * 3


def test_a_snapshot_of_the_next_job_ends_it(tmp_path: Path) -> None:
    MARK.write(tmp_path)
    assert RenewalMark.settle(tmp_path, Path("chk-1")) is None
    assert RenewalMark.settle(tmp_path, None) is None


def test_a_damaged_mark_is_refused(tmp_path: Path) -> None:
    MARK.write(tmp_path)
    (tmp_path / "renewed.json").write_bytes(b"")
    with pytest.raises(ServiceError, match="run `neardup log renew` again"):
        RenewalMark.settle(tmp_path, None)
    assert RenewalMark.is_damaged(tmp_path)


def test_a_damaged_mark_ends_with_a_snapshot_too(tmp_path: Path) -> None:
    (tmp_path / "renewed.json").write_bytes(bytes(93))
    assert RenewalMark.settle(tmp_path, Path("chk-1")) is None
    assert not RenewalMark.is_damaged(tmp_path)
    assert RenewalMark.settle(tmp_path, None) is None
