"""Which data folder a deployment has: the settings' own, and beside it the one of the demo."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from core.errors import BadInputError
from stream.settings import Settings

__all__ = ["demo_settings", "runs", "wipe", "with_data"]

_MARK = "neardup-data"
"""A file that says: this folder was made by us and may be wiped."""


def with_data(settings: Settings, folder: Path) -> Settings:
    """The same settings with another data folder."""
    changed = settings.model_copy(update={"data": settings.path(folder)})
    # A copy takes over what the original has already worked out.
    changed.__dict__.pop("data_dir", None)
    return changed


def demo_settings(settings: Settings) -> Settings:
    """The settings of the demo: its data lies in `demo` below the settings' own data folder, and it does not last."""
    return with_data(settings, settings.data_dir / "demo").model_copy(update={"java_compiler": "quick"})


def runs(settings: Settings) -> bool:
    """Whether a deployment is up in this data folder: its supervisor lives."""
    try:
        pid = int((settings.data_dir / "run" / "supervisord.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return False
    try:
        # After a crash the number may belong to another process by now.
        return b"supervisord" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        # There is no /proc here.
        return True


def wipe(folder: Path) -> None:
    """Empties a data folder that we made before, or makes it; nothing may run in it.

    Raises:
        BadInputError: The folder holds something and was not made by this function.
    """
    mark = folder / _MARK
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise BadInputError(
            f"{folder} is not empty and was not made by neardup: it is not wiped, choose another folder"
        )
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    mark.write_text("Made by neardup, which may wipe this folder with all that is in it.\n", encoding="utf-8")
