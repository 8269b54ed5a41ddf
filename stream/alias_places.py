"""Where the aliases of a deployment are written, and where readers find each signal."""

from __future__ import annotations

from pathlib import Path

from core.aliases import SignalPlace
from stream.access import api_url
from stream.settings import Settings

__all__ = ["alias_file", "signal_places"]


def alias_file(settings: Settings) -> Path:
    """The file that says which signal each alias names. It has a folder of its own, for containers to share."""
    return settings.data_dir / "aliases" / "aliases.json"


def signal_places(settings: Settings) -> dict[str, SignalPlace]:
    """Where readers find each signal."""
    return {
        name: SignalPlace(
            signal.api.public_url or api_url(settings, name), {"assignments": signal.topic("assignments")}
        )
        for name, signal in settings.signals.items()
    }
