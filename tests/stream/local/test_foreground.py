"""A part in the foreground, as a container runs it: it becomes the part, and tells whether the part serves."""

from __future__ import annotations

import http.server
import os
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stream.local import foreground, parts
from stream.local.certificates import ensure_certificate
from stream.local.java import java_executable
from stream.settings import SETTINGS_FILE_VARIABLE, Settings


@pytest.fixture
def settings_file(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = settings.base / "neardup.toml"
    monkeypatch.setenv(SETTINGS_FILE_VARIABLE, str(file))
    return file


def test_it_prepares_and_then_becomes_the_part(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_certificate(settings)
    became: list[tuple[str, tuple[str, ...], dict[str, str]]] = []

    def become(file: str, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        config = settings.data_dir / "flink" / "conf" / "config.yaml"
        assert config.is_file()
        became.append((file, arguments, environment))
        raise SystemExit

    masks: list[int] = []
    monkeypatch.setattr(os, "umask", masks.append)
    monkeypatch.setattr(os, "execvpe", become)
    with pytest.raises(SystemExit):
        foreground.run(settings, "taskmanager")
    ((file, arguments, environment),) = became
    assert file == arguments[0] == "/bin/bash"
    assert arguments[-2] == java_executable()
    assert Path(arguments[-1].removeprefix("@")).is_file()
    assert masks == [0o077]
    assert environment["FLINK_CONF_DIR"] == str(settings.data_dir / "flink" / "conf")
    assert environment["HOME"] == os.environ["HOME"]


def test_every_process_can_be_checked(settings: Settings) -> None:
    named = {part.name for part in parts.deployment_parts(settings) if not part.once}
    assert parts.part_checks(settings).keys() == named


@pytest.mark.usefixtures("settings_file")
def test_the_exit_status_tells(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert foreground.main(["check", "jobmanager"]) == 1
    assert "neardup secrets make" in capsys.readouterr().err
    tls = ensure_certificate(settings)
    assert foreground.main(["check", "jobmanager"]) == 1
    assert "refused" in capsys.readouterr().err

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", settings.flink.rest_port), Page) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.pem)
        context.load_verify_locations(tls.pem)
        context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert foreground.main(["check", "jobmanager"]) == 0
        server.shutdown()
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("settings_file")
def test_what_it_cannot_do_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert foreground.main(["run", "nonsense"]) == 1
    assert "broker, jobmanager, taskmanager" in capsys.readouterr().err
    assert foreground.main(["check", "nonsense"]) == 1
    assert "photos-search" in capsys.readouterr().err
    assert foreground.main([]) == 2


def test_a_check_needs_neither_java_nor_flink(settings_file: Path) -> None:
    code = (
        "import sys; sys.modules['pyflink'] = None; import shutil; shutil.which = lambda name: None;"
        "from stream.local.foreground import main; sys.exit(main(['check', 'photos-scorer']))"
    )
    environment = {**os.environ, SETTINGS_FILE_VARIABLE: str(settings_file)}
    done = subprocess.run((sys.executable, "-c", code), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("photos-scorer: http://127.0.0.1:17102/readyz:")
