"""Which release this process is, and the metric that says so on every metrics page."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Info

__all__ = ["UNKNOWN_VERSION", "add_build_info", "installed_version"]

UNKNOWN_VERSION = "unknown"
"""The version of code that runs from a folder where nothing was installed."""


def installed_version(package: str = "neardup") -> str:
    """The version of an installed distribution; `UNKNOWN_VERSION` where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return UNKNOWN_VERSION


def add_build_info(registry: CollectorRegistry) -> None:
    """Adds `neardup_build_info{version, python_version} 1` to what a metrics page shows."""
    info = Info("neardup_build", "The release that runs here; the value is always 1", registry=registry)
    info.info({"version": installed_version(), "python_version": platform.python_version()})
