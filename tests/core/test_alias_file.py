"""The file of aliases: what was written is read, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.alias_file import MAX_FILE_BYTES, read_aliases, write_aliases
from core.aliases import MAX_ALIASES, MAX_TEXT_BYTES, Alias
from core.checked_json import write_checked
from core.errors import BadInputError
from tests.support.damage import damages

ALIASES = {"live": Alias("photos", 1_700_000_000_000, "ann", "fewer copies", "old"), "next": Alias("old", 5)}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "aliases.json"
    assert read_aliases(file) == {}
    for aliases in (ALIASES, {}):
        write_aliases(file, aliases)
        assert read_aliases(file) == aliases
    assert [each.name for each in tmp_path.iterdir()] == ["aliases.json"]


def test_the_most_and_longest_fit(tmp_path: Path) -> None:
    file = tmp_path / "aliases.json"
    text = "\x01" * MAX_TEXT_BYTES
    most = {f"a{number:062}": Alias("a" * 63, 2**60, text, text, "b" * 63) for number in range(MAX_ALIASES)}
    write_aliases(file, most)
    assert file.stat().st_size <= MAX_FILE_BYTES
    assert read_aliases(file) == most


def test_damage_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "aliases.json"
    short = {"live": Alias("photos", 5, "ann", "", "old")}
    write_aliases(file, short)
    refusals = []
    for damaged in damages(file.read_bytes()):
        file.write_bytes(damaged)
        try:
            assert read_aliases(file) == short
        except BadInputError as error:
            refusals.append(str(error))
    assert len(refusals) > 1000
    assert not any(str(tmp_path) in each for each in refusals)


def test_what_is_no_file_of_aliases_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "aliases.json"
    for content in (b"", b"{}", b"[]", b'{"aliases": {}}', b" " * (MAX_FILE_BYTES + 1)):
        file.write_bytes(content)
        with pytest.raises(BadInputError, match="file of aliases"):
            read_aliases(file)
    write_checked(file, 2, {"aliases": {}})
    with pytest.raises(BadInputError, match="format 2, this release reads format 1"):
        read_aliases(file)
    with pytest.raises(BadInputError, match="cannot be read: Is a directory"):
        read_aliases(tmp_path)
