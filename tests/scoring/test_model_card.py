"""Model cards: written, read back the same, and refused with a clear message when damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.checked_json import read_checked, write_checked
from core.errors import BadInputError
from core.types import Thresholds
from scoring.card import CARD_FILE, ModelCard, read_card, write_card
from tests.support.fake_model import card


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "v1").mkdir()
    return tmp_path / "v1"


def full_card() -> ModelCard:
    accept = float(np.float32(0.991))
    return replace(
        card(),
        thresholds=Thresholds(accept, 0.5, accept),
        hidden=(8, 4),
        parameters=99,
        training_sha256="ab" * 32,
        training_settings={"seed": 3, "hidden": [8, 4]},
        metrics={"val_f1": 0.5},
        judged={"split": "test", "families": {"crop": {"copies": 3}}},
        files_sha256={"saved_model.pb": "cd" * 32},
        software={"python": "3.11"},
        exported_at="2026-11-21T19:00:00Z",
        gate=40,
    )


def test_reads_what_was_written(folder: Path) -> None:
    write_card(full_card(), folder)
    assert read_card(folder) == full_card()
    assert read_card(folder).code_bytes == 8


def test_an_older_card_has_no_date(folder: Path) -> None:
    write_card(full_card(), folder)
    change(folder, exported_at=None)
    assert read_card(folder) == replace(full_card(), exported_at="")


def test_a_card_without_what_was_added_later_is_read(folder: Path) -> None:
    write_card(full_card(), folder)
    change(folder, judged=None, gate=None)
    assert read_card(folder) == replace(full_card(), judged={}, gate=None)
    change(folder, judged=7)
    with pytest.raises(BadInputError, match="judged is 7, not dict"):
        read_card(folder)


def test_a_missing_card_is_named(folder: Path) -> None:
    with pytest.raises(BadInputError, match=r"the model v1 has no metadata\.json"):
        read_card(folder)


def change(folder: Path, **values: Any) -> None:
    """Writes the card with other values, and the checksum that fits them."""
    stored = read_checked(folder / CARD_FILE)
    body = {name: value for name, value in {**stored.body, **values}.items() if value is not None}
    write_checked(folder / CARD_FILE, stored.format, body)


def test_a_card_without_a_checksum_is_of_the_format_before(folder: Path) -> None:
    write_card(full_card(), folder)
    body = read_checked(folder / CARD_FILE).body
    (folder / CARD_FILE).write_text(json.dumps({"format": 2, **body}), encoding="utf-8")
    assert read_card(folder) == full_card()
    for found in (1, 3):
        (folder / CARD_FILE).write_text(json.dumps({"format": found, **body}), encoding="utf-8")
        with pytest.raises(BadInputError, match=f"has format {found}, this release reads 2 and 3"):
            read_card(folder)
    write_checked(folder / CARD_FILE, 4, body)
    with pytest.raises(BadInputError, match="has format 4, this release reads 2 and 3"):
        read_card(folder)


def test_no_turned_bit_gives_another_card(folder: Path) -> None:
    write_card(full_card(), folder)
    content = (folder / CARD_FILE).read_bytes()
    for at in range(8 * len(content)):
        turned = bytearray(content)
        turned[at // 8] ^= 1 << at % 8
        (folder / CARD_FILE).write_bytes(turned)
        try:
            found = read_card(folder)
        except BadInputError:
            continue
        assert found == full_card()  # of a space became another one


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bits": None}, "damaged: KeyError 'bits'"),
        ({"bits": "64"}, "bits is '64', not int"),
        ({"bits": True}, "bits is True, not int"),
        ({"bits": 63}, "a multiple of 8 bits and 0 or more values, not 63"),
        ({"thresholds": None}, "damaged: KeyError 'thresholds'"),
        ({"thresholds": {"accept": 0.5}}, "damaged: TypeError"),
        ({"thresholds": {"accept": 0.5, "head_accept": 0.5, "adopt": 2.0}}, "adopt must lie in"),
        ({"thresholds": {"accept": 0.5, "head_accept": 0.5, "adopt": "high"}}, "damaged: ValueError"),
        ({"thresholds": {"accept": 0.1, "head_accept": 0.5, "adopt": 0.5}}, "not a float32 value"),
        ({"thresholds": {"accept": 0.5, "head_accept": 0.5, "adopt": 0.25}}, "adopt .* must not be below head_accept"),
        ({"hidden": 7}, "damaged: TypeError"),
        ({"gate": "40"}, "gate is '40', neither int nor null"),
        ({"gate": True}, "gate is True, neither int nor null"),
        ({"gate": 65}, "gate must lie in 0 to the 64 bits of a code, not 65"),
        ({"gate": -1}, "gate must lie in 0 to the 64 bits of a code, not -1"),
        ({"extra": 1}, "damaged: TypeError"),
        ({"version": "v2"}, "has the version 'v2', its folder 'v1'"),
    ],
)
def test_a_damaged_card_is_refused(folder: Path, values: dict[str, Any], message: str) -> None:
    write_card(full_card(), folder)
    change(folder, **values)
    with pytest.raises(BadInputError, match=message):
        read_card(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_other_content_is_refused(folder: Path, content: bytes) -> None:
    (folder / CARD_FILE).write_bytes(content)
    with pytest.raises(BadInputError, match=r"metadata\.json"):
        read_card(folder)
