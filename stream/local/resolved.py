"""The complete settings of a deployment in one file, which all parts read until the next start.

Parts restart at any time. If they read the user's file and environment, a restarted part could have other settings than
the rest. So each start writes its settings, with absolute paths, and all parts read that file alone. It names the files
of keys, and does not hold them.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import tomlkit

from stream.settings import Settings

__all__ = ["resolved_files", "resolved_toml"]


def resolved_files(settings: Settings) -> dict[Path, str]:
    """What the parts read, by path: the settings, and the key for writing if the settings themselves hold one."""
    files = {settings.data_dir / "run" / "settings.toml": resolved_toml(settings)}
    if settings.api_token:
        files[_write_key(settings)] = f"{settings.api_token}\n"
    return files


def resolved_toml(settings: Settings) -> str:
    """The settings as TOML: every value, defaults too, every path absolute."""
    values = settings.model_dump(mode="json", exclude={"base"}, exclude_none=True)
    values["data"] = str(settings.data_dir)
    access = {key: str(settings.path(Path(file))) for key, file in asdict(settings.access).items() if file}
    if settings.api_token:
        access["write_key_file"] = str(_write_key(settings))
    values["api_token"] = ""
    values["access"].update(access)
    values["tls"].update({key: str(settings.path(Path(file))) for key, file in asdict(settings.tls).items() if file})
    values["kafka"]["client"] = asdict(settings.kafka_security)
    for name, signal in settings.signals.items():
        values["signals"][name]["model"] = str(settings.path(signal.model))
        values["signals"][name]["manifests"] = settings.manifests(signal)
        if signal.centres is not None:
            values["signals"][name]["centres"] = str(settings.path(signal.centres))
        projection = signal.code.projection
        values["signals"][name]["code"]["projection"] = "" if projection is None else str(settings.path(projection))
    head = "# Written at every start from the settings file and the environment. The running parts read this file.\n"
    return head + tomlkit.dumps(values)


def _write_key(settings: Settings) -> Path:
    return settings.data_dir / "run" / "write.key"
