"""Logging: one line an event on standard error, which supervisor writes to the part's log."""

from __future__ import annotations

import logging
import os
import time

from core.errors import SettingsError

__all__ = ["LEVEL_VARIABLE", "configure_server_logs", "silence_libraries"]

LEVEL_VARIABLE = "NEARDUP_LOG"
"""The environment variable with the level: DEBUG, INFO (servers without it), WARNING, ERROR."""

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class _OneLine(logging.Formatter):
    """`2025-01-31T12:00:00.123Z INFO  search.index: text`, line breaks escaped; tracebacks follow as they are."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)


def configure_server_logs() -> None:
    """Sets up logging of a server process.

    Raises:
        SettingsError: The level in the environment is none.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=_level("INFO"), handlers=[handler], force=True)
    # These repeat at this level what their errors say, each reconnection and each request.
    for chatty in ("kafka", "httpx"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


def silence_libraries() -> None:
    """Keeps libraries from writing into a user's terminal, unless the environment asks for a level.

    Raises:
        SettingsError: The level in the environment is none.
    """
    if LEVEL_VARIABLE in os.environ:
        configure_server_logs()
        logging.getLogger("kafka").setLevel(logging.NOTSET)
    else:
        logging.basicConfig(level=logging.CRITICAL, force=True)


def _level(default: str) -> str:
    level = os.environ.get(LEVEL_VARIABLE, default).upper()
    if level not in _LEVELS:
        raise SettingsError(f"{LEVEL_VARIABLE} must be one of {', '.join(_LEVELS)}, not {level!r}")
    return level
