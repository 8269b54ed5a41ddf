"""The documents as a site: it builds without a warning, has every page, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
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
