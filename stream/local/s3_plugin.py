"""Flink's S3 file system: a plugin that set-up fetches on demand, for folders of manifests that lie in S3.

Region and endpoint come from the same variables as for our own reading (`manifests.s3`). Java finds the credentials
by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from manifests.s3 import SCHEME
from stream.local.errors import MissingPieceError
from stream.local.java import jar_folder
from stream.settings import Settings

__all__ = ["s3_options", "s3_plugin"]

_FOLDER = "plugins/s3"

_NO_REGION = "us-east-1"
"""Java's client demands a region, also of stores that have none."""


def s3_plugin(settings: Settings) -> Sequence[Path]:
    """The jars of the plugin; none if it is not needed.

    Raises:
        MissingPieceError: It is needed, and was not fetched.
    """
    wanted = [f"signals.{name}.manifests" for name in _in_s3(settings)]
    try:
        return sorted(jar_folder(_FOLDER).glob("*.jar")) if wanted else []
    except MissingPieceError as error:
        raise MissingPieceError(
            f"{wanted[0]} is in S3, and Flink's plugin for S3 was not fetched: run `make setup S3=1`"
        ) from error


def s3_options(settings: Settings, environment: Mapping[str, str]) -> dict[str, str | bool]:
    """Flink's options for S3, by their full names; none if it is not needed.

    Args:
        settings: Tell whether it is.
        environment: Has the variables.
    """
    if not _in_s3(settings):
        return {}
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    options: dict[str, str | bool] = {}
    if endpoint:
        # Such stores seldom have a host name for each bucket.
        options |= {
            "s3.endpoint": endpoint if "://" in endpoint else f"https://{endpoint}",
            "s3.path-style-access": True,
        }
    if region or endpoint:
        options["s3.region"] = region or _NO_REGION
    return options


def _in_s3(settings: Settings) -> list[str]:
    """The signals whose manifests lie in S3."""
    return [name for name, signal in settings.signals.items() if signal.manifests.startswith(SCHEME)]
