"""The wheel: what is in it, and that the command line, the client and the producer's helper run from it alone.

The wheel is built from a copy of what git tracks and installed into an empty environment. The base dependencies are
linked into it, package by package: extras such as Flink and TensorFlow are not there, and neither is the checkout.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from neardup.events import notification
from stream.cli.exits import Exit

ROOT = Path(__file__).parents[2]
PACKAGES = {
    *("neardup", "core", "manifests", "search", "scoring", "clustering", "storage", "operators", "training", "stream"),
}
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"

IMAGE = {
    "image_id": "b",
    "head": "a",
    "score": 0.9,
    "matched": "a",
    "cause": "matched",
    "place": 1,
    "decided_at": "2026-01-01T00:00:00.000Z",
    "version": 1,
    "versions": {"model": "m", "index": "i"},
    "truncated": False,
}


def checked(*words: str | Path) -> bytes:
    """The output of a program that must succeed."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the files that git tracks, as they are now."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = checked("git", "ls-files", "-z").decode().split("\0")
    for name in filter(None, tracked):
        path = ROOT / name
        # Pictures and tables are no part of the wheel, and most of the checkout's size.
        if path.is_file() and path.stat().st_size < 1 << 20:
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    checked(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"),
        *("--wheel-dir", folder, source),
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def content(wheel: Path) -> set[str]:
    """The names of the files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@dataclass(frozen=True)
class Environment:
    """An environment in which the wheel is installed."""

    folder: Path
    outside: Path
    """An empty folder to run in."""

    def run(self, *words: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment."""
        program = [str(self.folder / "bin" / words[0]), *words[1:]]
        return subprocess.run(
            program,
            cwd=self.outside,
            env={"HOME": str(self.outside), "NEARDUP_DATA": str(self.outside / "data"), **(variables or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def python(self, program: str, variables: Mapping[str, str] | None = None) -> str:
        """What a program prints, which must succeed."""
        done = self.run("python", "-c", program, variables=variables)
        assert done.returncode == 0, done.stderr
        return done.stdout


def closure(names: list[str]) -> set[str]:
    """Distributions and all that they need without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def link(name: str, site: Path) -> None:
    """Makes an installed distribution importable in another environment."""
    one = distribution(name)
    for top in {file.parts[0] for file in one.files or []} - {"..", "__pycache__"}:
        target = site / top
        if not target.exists():
            target.symlink_to(Path(str(one.locate_file(top))).resolve())


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An empty environment with the wheel and its base dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    checked(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel),
    )
    site = folder / "env" / "lib" / PYTHON / "site-packages"
    needed = [Requirement(text) for text in _base_requirements(site)]
    for name in closure([requirement.name for requirement in needed]):
        link(name, site)
    outside = folder / "outside"
    outside.mkdir()
    return Environment(folder / "env", outside)


def _base_requirements(site: Path) -> Iterator[str]:
    (metadata,) = site.glob("neardup-*.dist-info/METADATA")
    for text in re.findall(r"^Requires-Dist: (.*)$", metadata.read_text(encoding="utf-8"), re.MULTILINE):
        if "extra ==" not in text:
            yield text


def test_only_the_packages_are_in_the_wheel(content: set[str]) -> None:
    tops = {name.partition("/")[0] for name in content}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


def test_data_files_are_in_the_wheel(content: set[str]) -> None:
    tracked = set(checked("git", "ls-files").decode().splitlines())
    data = {
        name
        for name in tracked
        if name.partition("/")[0] in PACKAGES and name.endswith((".py", ".pyi", ".proto", "py.typed", ".json"))
    }
    assert {"neardup/events.proto", "neardup/py.typed", "training/labelling/tree.json"} <= data
    assert data - content == set()


def test_the_environment_has_neither_extras_nor_the_checkout(environment: Environment) -> None:
    program = (
        "import importlib.util, json, sys\n"
        "names = ['pyflink', 'tensorflow', 'grpc', 'rocksdict', 'fastapi', 'tests', 'examples', 'benchmarks']\n"
        "print(json.dumps([[name for name in names if importlib.util.find_spec(name)], sys.path]))"
    )
    found, paths = json.loads(environment.python(program))
    assert found == []
    assert [path for path in paths if path and Path(path).resolve().is_relative_to(ROOT.resolve())] == []


@pytest.mark.parametrize("words", [("--help",), ("job", "--help"), ("--version",)])
def test_the_command_line_starts(environment: Environment, words: tuple[str, ...]) -> None:
    done = environment.run("neardup", *words)
    assert done.returncode == Exit.OK, done.stderr
    assert "neardup" in done.stdout


def test_a_command_that_needs_an_extra_names_it(environment: Environment) -> None:
    done = environment.run("neardup", "verify")
    assert done.returncode == Exit.FAILED
    assert "neardup[serve]" in done.stderr


@pytest.fixture
def service() -> Iterator[str]:
    """An HTTP API that knows one image; its URL."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(IMAGE if self.path == "/v1/images/b" else {"message": "unknown"}).encode()
            self.send_response(200 if self.path == "/v1/images/b" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def colliding(tmp_path: Path) -> dict[str, str]:
    """A user's own modules with the names of ours come first on the path."""
    for name in PACKAGES - {"neardup"}:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the module of the user')\n")
    return {"PYTHONPATH": str(tmp_path)}


def test_the_client_runs(environment: Environment, service: str, colliding: dict[str, str]) -> None:
    program = (
        "from neardup.client import ApiClient\n"
        "from neardup.errors import NotFoundError\n"
        f"with ApiClient({service!r}) as api:\n"
        "    print(api.image('b').head)\n"
        "    try:\n"
        "        api.image('c')\n"
        "    except NotFoundError as error:\n"
        "        print(error)\n"
    )
    assert environment.python(program, colliding) == "a\nunknown\n"


def test_the_command_line_asks_the_service(environment: Environment, service: str) -> None:
    variables = {"NEARDUP_SIGNALS__PHOTOS__API__PORT": service.rpartition(":")[2]}
    done = environment.run("neardup", "head", "b", "--json", variables=variables)
    assert done.returncode == Exit.OK, done.stderr
    assert json.loads(done.stdout) == IMAGE
    assert environment.run("neardup", "head", "c", variables=variables).returncode == Exit.NOT_FOUND


def test_the_producers_helper_runs(environment: Environment, colliding: dict[str, str]) -> None:
    program = (
        "from neardup.events import notification\n"
        "print(notification('b', [1, 2], embedding='net', model_version='1').hex())"
    )
    here = notification("b", [1, 2], embedding="net", model_version="1")
    assert environment.python(program, colliding).strip() == here.hex()
