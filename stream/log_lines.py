"""The form of a log line, the same for Python, Kafka and Flink: one event a line, in UTC, as text or as JSON.

    2025-01-31T12:00:00.123Z INFO    search.index: text
    {"timestamp": "2025-01-31T12:00:00.123Z", "level": "INFO", "logger": "search.index", "message": "text",
     "part": "photos-search"}

A traceback follows a line of text as it is; in JSON it is the end of the message.
"""

from __future__ import annotations

import os
from typing import Literal

from core.errors import SettingsError

__all__ = ["FORMAT_VARIABLE", "LEVEL_VARIABLE", "LogFormat", "java_part_option", "log4j_pattern", "log_format"]

LEVEL_VARIABLE = "NEARDUP_LOG"
"""The environment variable with the level: DEBUG, INFO (servers without it), WARNING, ERROR."""

FORMAT_VARIABLE = "NEARDUP_LOG_FORMAT"
"""The environment variable with the format: `text` or `json`; without it text."""

LogFormat = Literal["text", "json"]

_PART_PROPERTY = "neardup.part"
_TIME = "%d{yyyy-MM-dd'T'HH:mm:ss.SSS'Z'}{UTC}"
# Python's names of the levels.
_LEVEL = "%p{TRACE=DEBUG, WARN=WARNING, FATAL=CRITICAL}"
_LOG4J_PATTERNS: dict[LogFormat, str] = {
    "text": f"{_TIME} %-7{_LEVEL[1:]} %c{{1}}: %m%n%xEx",
    "json": (
        f'{{"timestamp": "{_TIME}", "level": "{_LEVEL}", "logger": "%enc{{%c}}{{JSON}}",'
        f' "message": "%enc{{%m%notEmpty{{%n%xEx}}}}{{JSON}}", "part": "${{sys:{_PART_PROPERTY}:-}}"}}%n'
    ),
}


def log_format() -> LogFormat:
    """The format that the environment asks for.

    Raises:
        SettingsError: The environment asks for another one.
    """
    match os.environ.get(FORMAT_VARIABLE, "text"):
        case "text":
            return "text"
        case "json":
            return "json"
        case other:
            raise SettingsError(f"{FORMAT_VARIABLE} must be text or json, not {other!r}")


def log4j_pattern() -> str:
    """The pattern of Log4j's `PatternLayout` for the format that the environment asks for."""
    return _LOG4J_PATTERNS[log_format()]


def java_part_option(part: str) -> str:
    """Tells a Java process the name that its log lines carry."""
    return f"-D{_PART_PROPERTY}={part}"
