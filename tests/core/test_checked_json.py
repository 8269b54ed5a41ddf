"""Small files come back as they were written, or are refused; never as another value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.checked_json import CheckedJson, DamagedFileError, read_checked, write_checked
from tests.support.damage import damages

VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.text(max_size=20), st.lists(st.text(max_size=5))
)
BODIES = st.dictionaries(st.text(max_size=10), VALUES, max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(BODIES, st.integers(1, 9))
def test_round_trip(tmp_path: Path, body: dict[str, Any], version: int) -> None:
    write_checked(tmp_path / "file", version, body, sync=False)
    assert read_checked(tmp_path / "file") == CheckedJson(body, version)


def test_damage_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    file, body = tmp_path / "file", {"generation": "gen-000001", "gènératiøn": 7, "list": [1, 2.5, None]}
    write_checked(file, 3, body)
    refused = 0
    for damaged in damages(file.read_bytes()):
        file.write_bytes(damaged)
        try:
            assert read_checked(file) == CheckedJson(body, 3)
        except DamagedFileError:
            refused += 1
    assert refused > 1000  # all but some white space


def test_a_file_without_a_checksum_is_marked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"format": 1, "identity": "photos"}')
    assert read_checked(tmp_path / "file") == CheckedJson({"format": 1, "identity": "photos"}, 1, checked=False)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"body": {}}',
        '{"crc32c": 1}',
        '{"format": 1, "crc32c": 1, "body": {}, "more": 1}',
        '{"format": 1, "crc32c": "1", "body": {}}',
        '{"format": true, "crc32c": 1, "body": {}}',
        '{"format": 1, "crc32c": 1, "body": []}',
        '{"format": "1"}',
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(DamagedFileError):
        read_checked(tmp_path / "file")


def test_spaces_and_the_order_of_keys_do_not_matter(tmp_path: Path) -> None:
    write_checked(tmp_path / "file", 1, {"b": 1, "a": 2})
    content = json.loads((tmp_path / "file").read_text())
    (tmp_path / "file").write_text(json.dumps({key: content[key] for key in reversed(content)}))
    assert read_checked(tmp_path / "file").body == {"a": 2, "b": 1}
