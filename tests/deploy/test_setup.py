"""make and the setup script: the list of commands, the pins, and what is said when the machine lacks something."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

TARGETS = [
    "help",
    "setup",
    "demo",
    "up",
    "down",
    "lint",
    "format",
    "protos",
    "test",
    "test-tools",
    "coverage",
    "soak",
    "bench-scorer",
    "bench-quality",
    "bench-search",
    "bench-hashing",
    "bench-callers",
    "bench-large-calls",
    "bench-capacity",
    "bench-replay",
    "bench-traces",
    "bench-pipeline",
    "bench-bootstrap",
    "bench-memory",
    "bench-storage",
    "chaos",
    "docs",
    "clean",
]
TOOLS = (
    *("bash", "cat", "cut", "dirname", "env", "grep", "head", "id", "mkdir"),
    *("sed", "sha256sum", "tee", "awk", "tail"),
)

FETCH = """#!/bin/bash
while (($#)); do
    case $1 in
        -P) profile=$2; shift ;;
        -Dlib=*) lib=${1#-Dlib=} ;;
    esac
    shift
done
folder=$lib/$profile
[[ $profile != s3 ]] || folder=$lib/plugins/s3
mkdir -p "$folder"
echo >"$folder/$profile.jar"
echo "$profile" >>fetched
"""
"""A Maven that notes which profile it fetches."""


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A checkout that was never set up."""
    for name in ("pyproject.toml", "constraints.txt", "jvm/pom.xml", "deploy/setup.sh"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, target)
    return tmp_path


def _bare_machine(folder: Path) -> dict[str, str]:
    """An environment in which there is a shell with its tools, and nothing else: no Java, no Maven, no apt-get."""
    tools = folder / "tools"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    return {"PATH": str(tools), "HOME": str(folder)}


def test_plain_make_lists_every_command_with_one_line(root: Path) -> None:
    done = subprocess.run(("make", "--no-print-directory"), cwd=root, capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in done.stdout.splitlines()] == TARGETS
    phony = re.search(r"^\.PHONY: (.*)$", (root / "Makefile").read_text(), flags=re.MULTILINE)
    assert phony is not None
    assert sorted(phony[1].split()) == sorted(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_every_recipe_can_be_read_by_make(root: Path, target: str) -> None:
    done = subprocess.run(("make", "-n", target), cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_ci_runs_what_a_person_runs(root: Path) -> None:
    script = root / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("exec make --no-print-directory test")


def test_every_requirement_is_pinned_and_nothing_else_is_said(root: Path) -> None:
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {}
    for line in lines:
        pin = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+]+)", line)
        assert pin is not None, line
        pins[re.sub(r"[-_.]+", "-", pin[1]).lower()] = pin[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert name is not None
        assert re.sub(r"[-_.]+", "-", name[0]).lower() in pins, requirement


def test_a_machine_without_java_and_maven_is_told_what_to_install(checkout: Path) -> None:
    environment = {**_bare_machine(checkout), "PYTHON": sys.executable}
    done = subprocess.run(
        ("bash", "deploy/setup.sh"), cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Java 17" in done.stderr
    assert "openjdk-17-jre-headless" in done.stderr
    assert "Debian: maven" in done.stderr
    assert "Debian: openssl" in done.stderr
    assert not (checkout / ".venv").exists()


def test_an_interpreter_of_another_version_or_without_its_library_is_named(checkout: Path) -> None:
    functions = (checkout / "deploy" / "setup.sh").read_text()
    lacks = re.search(r"^python_lacks\(\) \{.*?^\}", functions, flags=re.MULTILINE | re.DOTALL)
    assert lacks is not None
    old = checkout / "old"
    old.write_text("#!/bin/sh\nexit 1\n")
    static = checkout / "static"
    unshared = "import sysconfig; sysconfig.get_config_var = lambda name: None"
    static.write_text(f"#!/bin/sh\n( echo '{unshared}'; cat ) | {sys.executable} -\n")
    for path in (old, static):
        path.chmod(0o755)

    def ask(interpreter: str) -> str:
        command = ("bash", "-c", f"{lacks[0]}\npython_lacks {interpreter}")
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert ask(str(old)) == "version"
    assert ask(str(static)) == "shared"
    assert ask(sys.executable) == ""


@pytest.fixture
def made(checkout: Path) -> Path:
    """A checkout with an environment and the Java parts, and a program that says that it compiled the kernels."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (checkout / ".venv" / ".made-from").write_text(_digest(checkout, "pyproject.toml", "constraints.txt") + "\n")
    (checkout / "jvm" / "lib").mkdir()
    (checkout / "jvm" / "lib" / ".made-from").write_text(_digest(checkout, "jvm/pom.xml") + "\n")
    (checkout / "search" / "index").mkdir(parents=True)
    for package in (checkout / "search", checkout / "search" / "index"):
        (package / "__init__.py").touch()
    (checkout / "search" / "index" / "warm.py").write_text("open('compiled', 'a').write('once ')\n")
    return checkout


def _digest(checkout: Path, *names: str) -> str:
    return hashlib.sha256(b"".join((checkout / name).read_bytes() for name in names)).hexdigest()


@pytest.fixture
def run(made: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the script on a machine with Java and openssl, and without Maven."""
    java = made / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n")
    java.chmod(0o755)
    environment = _bare_machine(made)
    (made / "tools" / "java").symlink_to(java)
    (made / "tools" / "openssl").symlink_to(java)

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        told = environment | more
        return subprocess.run(
            ("bash", "deploy/setup.sh"), cwd=made, env=told, capture_output=True, text=True, check=False
        )

    return run


def test_the_plugin_for_s3_is_fetched_when_asked_for_and_kept(
    made: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (made / "tools" / "mvn").write_text(FETCH)
    (made / "tools" / "mvn").chmod(0o755)
    for tool in ("mv", "rm"):
        (made / "tools" / tool).symlink_to(shutil.which(tool) or tool)
    fetched = made / "fetched"
    assert run(S3="").returncode == run(S3="0").returncode == 0
    assert not fetched.exists()
    asked = run(S3="1")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert fetched.read_text().split() == ["kafka", "flink", "s3"]
    assert (made / "jvm" / "lib" / "plugins" / "s3" / "s3.jar").exists()
    assert run(S3="1").stdout == run().stdout == ""
    (made / "jvm" / "lib" / "plugins" / "s3" / "s3.jar").unlink()
    assert run().returncode == 0
    assert (made / "jvm" / "lib" / "plugins" / "s3" / "s3.jar").exists()
    with (made / "jvm" / "pom.xml").open("a") as pom:
        pom.write("<!-- another version -->\n")
    assert run().returncode == 0
    assert fetched.read_text().split() == ["kafka", "flink", "s3"] * 3


def test_a_checkout_that_is_set_up_is_left_alone(
    made: Path, run: Callable[[], subprocess.CompletedProcess[str]]
) -> None:
    run()
    again = run()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    with (made / "jvm" / "pom.xml").open("a") as pom:
        pom.write("<!-- another version -->\n")
    changed = run()
    assert changed.returncode == 1
    assert "Maven" in changed.stderr


def test_the_kernels_are_compiled_once_for_each_version_of_their_sources(
    made: Path, run: Callable[[], subprocess.CompletedProcess[str]]
) -> None:
    first = run()
    assert (first.returncode, first.stderr) == (0, "")
    assert "compiling the kernels of the term index" in first.stdout
    assert run().stdout == ""
    assert (made / "compiled").read_text() == "once "
    (made / "search" / "index" / "tail.py").write_text("changed = True\n")
    assert run().returncode == 0
    assert (made / "compiled").read_text() == "once once "
    (made / "search" / "index" / "warm.py").write_text("raise RuntimeError('no room')\n")
    for _ in range(2):
        failed = run()
        assert failed.returncode == 1
        assert "no room" in failed.stderr
        assert "the kernels could not be compiled" in failed.stderr
