"""The complete settings of a deployment in one file, which all parts read until the next start.

Parts restart at any time. If they read the user's file and environment, a restarted part could have other settings than
the rest. So each start writes its settings, with absolute paths, and all parts read that file alone.
"""

from __future__ import annotations

from dataclasses import asdict

import tomlkit

from stream.settings import Settings

__all__ = ["resolved_toml"]


def resolved_toml(settings: Settings) -> str:
    """The settings as TOML: every value, defaults too, every path absolute."""
    values = settings.model_dump(mode="json", exclude={"base"}, exclude_none=True)
    values["data"] = str(settings.data_dir)
    values["kafka"]["client"] = asdict(settings.kafka_security)
    for name, signal in settings.signals.items():
        values["signals"][name]["model"] = str(settings.path(signal.model))
        if signal.centres is not None:
            values["signals"][name]["centres"] = str(settings.path(signal.centres))
        projection = signal.code.projection
        values["signals"][name]["code"]["projection"] = "" if projection is None else str(settings.path(projection))
    head = "# Written at every start from the settings file and the environment. The running parts read this file.\n"
    return head + tomlkit.dumps(values)
