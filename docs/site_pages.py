"""Brings the pages that lie outside of `docs/` into the site, and turns links so that they lead somewhere there."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

__all__ = ["PAGES", "on_files", "on_page_markdown", "site_markdown"]

ROOT = Path(__file__).parents[1]

PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "examples/photos/README.md": "sample.md",
}
"""Pages outside of `docs/` and their names in the site."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")
_SOURCE = re.compile(r'(src|srcset)="docs/')


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the pages outside of `docs/`."""
    for source, name in PAGES.items():
        content = site_markdown((ROOT / source).read_text(encoding="utf-8"), source)
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Turns the links of the pages in `docs/`."""
    generated = page.file.src_uri in PAGES.values()
    return markdown if generated else site_markdown(markdown, f"docs/{page.file.src_uri}")


def site_markdown(text: str, source: str) -> str:
    """Markdown with the links of a page, relative to the project, made relative to the site.

    Links to pages and pictures of the site stay links. Those to other files of the project become the file's name.

    Args:
        text: The page.
        source: Where it lies in the project.
    """
    folder = str(PurePosixPath(source).parent)
    name = PAGES.get(source) or source.removeprefix("docs/")

    def turned(link: re.Match[str]) -> str:
        mark, label, target, anchor = link.groups()
        if "://" in target:
            return link.group(0)
        file = normpath(f"{folder}/{target}")
        if file not in PAGES and not file.startswith("docs/"):
            return label if label.startswith("`") else f"{label} (`{file}`)" if label != file else f"`{file}`"
        there = PAGES.get(file) or file.removeprefix("docs/")
        return f"{mark}[{label}]({relpath(there, str(PurePosixPath(name).parent))}{anchor or ''})"

    return _SOURCE.sub(r'\1="', _LINK.sub(turned, text))
