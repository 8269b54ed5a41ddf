"""Small files that other processes read: replaced as a whole, and only if their content changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from core.files import write_text

__all__ = ["link_tree", "tail", "write_if_new"]


def write_if_new(path: Path, text: str, *, mode: int = 0o644) -> bool:
    """Replaces a file in one step, durably, so no reader sees a part of it.

    Files that are written one after another are on disk in this order: one that says what others were made from must
    not outlive them in a power cut.

    Returns:
        Whether the content was new. A file with the same content is not touched.
    """
    if path.is_file() and path.read_bytes() == text.encode("utf-8"):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text, mode=mode)
    return True


def link_tree(folder: Path, links: Mapping[str, Path]) -> None:
    """Makes a folder hold exactly these symbolic links, by relative name. Correct links are not touched."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {folder / name: target for name, target in links.items()}
    for present in sorted(folder.rglob("*"), reverse=True):
        if present.is_symlink():
            if present not in wanted:
                present.unlink()
        elif present.is_dir():
            if not any(present in link.parents for link in wanted):
                shutil.rmtree(present)
        else:
            present.unlink()
    for link, target in wanted.items():
        if link.is_symlink() and link.readlink() == target:
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        draft = link.with_name(f".{link.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        draft.symlink_to(target)
        draft.replace(link)


def tail(path: Path, lines: int = 30, limit: int = 16_384) -> str:
    """The last lines of a text file, from its last `limit` bytes; empty if it does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - limit))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
