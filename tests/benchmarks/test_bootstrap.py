"""The parts of the benchmark of first loads that need no servers."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.bootstrap import Load, exponent
from benchmarks.manifests import write_manifest
from manifests.checking import check_manifest
from manifests.folder import open_folder
from manifests.manifest import Kind
from stream.bootstrap.signal import load_signal, value_checks
from stream.settings import load_settings


def test_a_load_is_rows_and_a_kind() -> None:
    assert Load.of("1000:hashed") == Load(1000, "hashed")
    assert Load.of("5:vectors") == Load(5, "vectors")


@pytest.mark.parametrize("text", ["", "1000", "1000:", "x:hashed", "-1:hashed", "1000:terms"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="ROWS:hashed"):
        Load.of(text)


def test_the_exponent_is_that_of_a_power() -> None:
    sizes = [0.1e6, 1e6, 5e6]
    assert exponent(sizes, [3e-5 * size**1.25 for size in sizes]) == pytest.approx(1.25)


@pytest.mark.parametrize("hashed", [True, False])
def test_its_manifests_are_sound(hashed: bool, tmp_path: Path) -> None:
    settings, ids = load_settings(), [f"old-{number}" for number in range(300)]
    first = write_manifest(settings, tmp_path, "first", ids[:200], hashed=hashed)
    later = write_manifest(settings, tmp_path, "later", ids, hashed=hashed, known=200, previous=first.id)
    assert (first.kind, first.rows, later.kind, later.rows) == (Kind.SNAPSHOT, 200, Kind.DELTA, 100)
    signal, checks = load_signal(settings), value_checks(settings)
    for name, rows in (("first", 200), ("later", 100)):
        found = check_manifest(open_folder(str(tmp_path)), f"{name}.json", signal, checks, tmp_path)
        assert (found.faults.count, found.images, found.hashed) == (0, rows, rows if hashed else 0)
