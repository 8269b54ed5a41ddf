"""One form of log line for all parts: Python's formatter, and Log4j's pattern in the versions of Kafka and of Flink."""

from __future__ import annotations

import json
import logging
import re
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from core.errors import SettingsError
from stream.cli.logs import configure_server_logs
from stream.local.flink_home import flink_distribution
from stream.local.java import jar_folder, java_executable
from stream.log_lines import java_part_option, log4j_pattern

KEYS = ["timestamp", "level", "logger", "message", "part"]
UGLY = 'a "quoted" \\ line\nand another\tone, ä'

JAVA = """
public class Say {
    public static void main(String[] words) {
        var log = org.apache.logging.log4j.LogManager.getLogger("some.Logger");
        log.info(words[0]);
        log.warn("it failed", new IllegalStateException("why \\"so\\""));
    }
}
"""

CONFIGURATION = """
status = error
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = PATTERN
"""


def say_in_java(folder: Path, jars: Path) -> list[str]:
    """What Log4j of these jars writes: a line, and one with an exception."""
    (folder / "Say.java").write_text(JAVA)
    configuration = folder / "log4j2.properties"
    configuration.write_text(CONFIGURATION.replace("PATTERN", log4j_pattern()))
    command = [java_executable(), "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-XX:TieredStopAtLevel=1"]
    command += [f"-Dlog4j2.configurationFile={configuration}", java_part_option("broker"), "-cp", f"{jars}/*"]
    done = subprocess.run([*command, str(folder / "Say.java"), UGLY], capture_output=True, check=True, timeout=120)
    return done.stdout.decode().splitlines()


def say_in_python(capsys: pytest.CaptureFixture[str]) -> list[str]:
    configure_server_logs("broker")
    log = logging.getLogger("some.Logger")
    log.info("%s", UGLY, extra={"color_message": "not a key of ours"})
    try:
        raise ValueError('why "so"')
    except ValueError:
        log.warning("it failed", exc_info=True)
    return capsys.readouterr().err.splitlines()


def flink_jars() -> Path:
    return flink_distribution() / "lib"


def kafka_jars() -> Path:
    return jar_folder("kafka")


def check_json(lines: list[str]) -> None:
    first, second = (json.loads(line) for line in lines)
    for values in (first, second):
        assert list(values) == KEYS
        stamp = datetime.fromisoformat(values["timestamp"])
        assert stamp.utcoffset() is not None
        assert abs((datetime.now(stamp.tzinfo) - stamp).total_seconds()) < 600
        assert (values["logger"], values["part"]) == ("some.Logger", "broker")
    assert (first["level"], first["message"]) == ("INFO", UGLY)
    assert second["level"] == "WARNING"
    assert second["message"].startswith("it failed\n")
    assert 'why "so"' in second["message"]


def check_text(lines: list[str], logger: str) -> None:
    (warning,) = (line for line in lines if "it failed" in line)
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z WARNING {logger}: it failed", warning)
    assert any('why "so"' in line for line in lines[lines.index(warning) + 1 :])


@pytest.mark.parametrize("jars", [kafka_jars, flink_jars])
def test_java_writes_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jars: Callable[[], Path]) -> None:
    monkeypatch.setenv("NEARDUP_LOG_FORMAT", "json")
    check_json(say_in_java(tmp_path, jars()))


def test_java_writes_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEARDUP_LOG_FORMAT", raising=False)
    check_text(say_in_java(tmp_path, kafka_jars()), "Logger")


def test_python_writes_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NEARDUP_LOG_FORMAT", "json")
    check_json(say_in_python(capsys))


def test_python_writes_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NEARDUP_LOG_FORMAT", "text")
    check_text(say_in_python(capsys), r"some\.Logger")


def test_an_unknown_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARDUP_LOG_FORMAT", "xml")
    with pytest.raises(SettingsError, match="text or json"):
        configure_server_logs()
