"""The licence is stated once, and the notice names what is there."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

APACHE_2 = "0ffddef9e48f8a09aed5caf2d44f7ba1c1be2d9b8e0a6f693b1635b2d5566645"
"""SHA-256 of the words of the Apache License 2.0, whatever the indentation."""


def test_the_license_is_the_one_that_the_package_states(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert all((root / name).is_file() for name in project["license-files"])
    words = " ".join((root / "LICENSE").read_text(encoding="utf-8").split())
    assert hashlib.sha256(words.encode()).hexdigest() == APACHE_2


def test_the_notice_names_what_the_sample_rests_on(root: Path) -> None:
    notice = (root / "NOTICE").read_text(encoding="utf-8")
    named = set(re.findall(r"\bexamples/photos(?:/[\w.-]*\w)?", notice))
    assert {"examples/photos/demo", "examples/photos/photos.parquet", "examples/photos/model"} <= named
    assert [name for name in named if not (root / name).exists()] == []
    about = (root / "examples" / "photos" / "README.md").read_text(encoding="utf-8")
    for source in ("alexeygrigorev/clothing-dataset-small", "google-coral/edgetpu", "11961516"):
        assert source in notice
        assert source in about


def test_short_documents_stay_short(root: Path) -> None:
    for name in ("SECURITY.md", "CONTRIBUTING.md"):
        assert 5 <= len((root / name).read_text(encoding="utf-8").splitlines()) <= 20
