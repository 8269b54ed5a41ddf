"""Which data folder a deployment has (its own, or the demo's), and which topics the data in it belongs to."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from core.errors import BadInputError, MismatchError, SettingsError
from core.files import write_text
from stream.settings import Settings, default_topic_prefix

__all__ = ["claim_topics", "demo_settings", "require_plain_path", "runs", "wipe", "with_data"]

_MARK = "neardup-data"
"""A file that marks a folder as made by this program, so it may be wiped."""

_STRANGE = re.compile(r"[^A-Za-z0-9/._~-]")
"""What a path may not hold."""

_TOPIC_PREFIX = "topic-prefix"
"""A file beside the job's snapshots with the `topic_prefix` that they were made with."""


def with_data(settings: Settings, folder: Path) -> Settings:
    """The same settings with another data folder."""
    changed = settings.model_copy(update={"data": settings.path(folder)})
    # The copy also has the cached property of the original.
    changed.__dict__.pop("data_dir", None)
    return changed


def demo_settings(settings: Settings) -> Settings:
    """The settings of the demo: its data folder is `demo` below the settings' own, and its Java parts start quickly."""
    return with_data(settings, settings.data_dir / "demo").model_copy(update={"java_compiler": "quick"})


def runs(settings: Settings) -> bool:
    """Whether a deployment runs in this data folder: its supervisor is alive."""
    try:
        pid = int((settings.data_dir / "run" / "supervisord.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return False
    try:
        # After a crash the number may belong to another process by now.
        return b"supervisord" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        # This system has no /proc.
        return True


def require_plain_path(settings: Settings) -> None:
    """Refuses a data folder whose path some part would read differently.

    Flink takes `%` and spaces in two ways, class paths end at `:`, Kafka's list of folders at `,`, supervisord expands
    `%`, and Java reads names by the locale. Snapshots and logs would land elsewhere.

    Raises:
        SettingsError: The path has another character than ASCII letters, digits and `/._~-`.
    """
    strange = sorted(set(_STRANGE.findall(str(settings.data_dir))))
    if strange:
        raise SettingsError(
            f"the data folder {settings.data_dir} has {', '.join(map(ascii, strange))} in its path: the Java parts "
            "need ASCII letters, digits and ._~- alone. Choose another folder for `data` in the settings"
        )


def claim_topics(settings: Settings, signal_name: str) -> None:
    """Notes the topics that a signal's data belongs to; data of other topics is refused.

    Data without a note was made by an earlier release, whose default was no prefix at all.

    Raises:
        MismatchError: The data was made with another `topic_prefix`.
    """
    name, signal = settings.signal(signal_name)
    folder = settings.signal_dir(name, "job")
    note = folder / _TOPIC_PREFIX
    # Until a part has written data, a prefix that was mistyped can still be corrected.
    data = (settings.signal_dir(name, "index"), settings.signal_dir(name, "store"), folder / "checkpoints")
    if note.exists() and any(each.exists() for each in data):
        made_with = note.read_text(encoding="utf-8")
    elif (folder / "checkpoints").exists() and signal.topic_prefix == default_topic_prefix(name):
        made_with = ""
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(note, signal.topic_prefix)
        return
    if made_with != signal.topic_prefix:
        raise MismatchError(
            f"the data in {folder.parent} belongs to other topics than {signal.topic_prefix}*: set"
            f" `topic_prefix = {json.dumps(made_with)}` in [signals.{name}] to go on with it, or choose another data"
            f" folder. If the data was made with that prefix, write it into {note}"
        )


def wipe(folder: Path) -> None:
    """Creates a data folder, or empties one that this program created. Nothing may run in it.

    Raises:
        BadInputError: The folder is not empty and was not created by this function.
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
