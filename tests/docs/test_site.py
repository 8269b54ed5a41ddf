"""The documents as a site: it builds without a warning, has every page, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_document_is_a_page(site: Path) -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = {name for entry in nav for name in entry.values()}
    documents = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert documents <= pages
    assert [name for name in pages if not (site / name).with_suffix(".html").is_file()] == []


def test_pictures_are_there_for_light_and_dark_pages(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    pictures = set(re.findall(r'"(images/[\w.-]+)"', home))
    assert {"images/cluster.jpg", "images/architecture-light.svg", "images/architecture-dark.svg"} <= pictures
    assert [name for name in pictures if not (site / name).is_file()] == []


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loads = (
        r'<(?:script|img|source)[^>]*\s(?:src|srcset)="(https?:)?//|<link[^>]*rel="(?:stylesheet|preconnect)"[^>]*//'
    )
    assert [page.name for page in site.glob("*.html") if re.search(loads, page.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("source", "text", "turned"),
    [
        ("README.md", "[a](docs/quality.md#labels)", "[a](quality.md#labels)"),
        ("README.md", "![a](docs/images/cluster.jpg)", "![a](images/cluster.jpg)"),
        ("README.md", '<img src="docs/images/a.svg">', '<img src="images/a.svg">'),
        ("README.md", "[the sample](examples/photos/README.md)", "[the sample](sample.md)"),
        ("README.md", "[settings](neardup.toml)", "settings (`neardup.toml`)"),
        ("README.md", "[neardup.toml](neardup.toml)", "`neardup.toml`"),
        ("docs/glossary.md", "[laws](../ARCHITECTURE.md#laws)", "[laws](architecture.md#laws)"),
        ("docs/formats.md", "[code](../core/types.py)", "code (`core/types.py`)"),
        ("examples/photos/README.md", "[figures](../../docs/quality.md)", "[figures](quality.md)"),
        ("examples/photos/README.md", "[set](https://example.org/a)", "[set](https://example.org/a)"),
    ],
)
def test_links_lead_to_pages_or_name_files(source: str, text: str, turned: str) -> None:
    site_markdown = runpy.run_path(str(ROOT / "docs" / "site_pages.py"))["site_markdown"]
    assert site_markdown(text, source) == turned
