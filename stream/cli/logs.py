"""Logging: one line an event on standard error, which supervisor writes to the part's log."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from core.errors import SettingsError
from stream.log_lines import LEVEL_VARIABLE, log_format
from stream.printable import printable, printable_json

__all__ = ["configure_server_logs", "silence_libraries"]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class _TextLine(logging.Formatter):
    """See `stream.log_lines`; line breaks and other control characters of the message are escaped."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def _json_line(part: str) -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    class JsonLine(JsonFormatter):
        """See `stream.log_lines`; control characters are escaped as JSON does it."""

        converter = staticmethod(time.gmtime)
        default_time_format = _TextLine.default_time_format
        default_msec_format = _TextLine.default_msec_format

        def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
            return printable_json(super().jsonify_log_record(log_data))

        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            trace = log_data.get("exc_info")
            return {
                "timestamp": log_data["asctime"],
                "level": log_data["levelname"],
                "logger": log_data["name"],
                "message": f"{log_data['message']}\n{trace}" if trace else log_data["message"],
                "part": part,
            }

    return JsonLine("%(asctime)s %(levelname)s %(name)s %(message)s", json_ensure_ascii=False)


def configure_server_logs(part: str = "") -> None:
    """Sets up logging of a server process, which is the named part of the deployment.

    Raises:
        SettingsError: The level or the format in the environment is unknown.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_json_line(part) if log_format() == "json" else _TextLine())
    logging.basicConfig(level=_level("INFO"), handlers=[handler], force=True)
    # These repeat at this level what their errors say, each reconnection and each request.
    for chatty in ("kafka", "httpx"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


def silence_libraries() -> None:
    """Keeps libraries from writing into a user's terminal, unless the environment asks for a level.

    Raises:
        SettingsError: The level or the format in the environment is unknown.
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
