"""The Java runtime, and the jars that set-up has fetched."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from stream.local.errors import MissingPieceError
from stream.settings import JavaCompiler

__all__ = ["compiler_options", "crash_options", "jar_folder", "java_executable"]

_JARS = Path(__file__).resolve().parents[2] / "jvm" / "lib"


def java_executable() -> str:
    """The Java runtime: the one of JAVA_HOME, else the first on the path.

    Raises:
        MissingPieceError: Java is missing.
    """
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").is_file():
        return str(Path(home) / "bin" / "java")
    found = shutil.which("java")
    if found is None:
        raise MissingPieceError("there is no Java: install a Java 17 runtime (Debian: openjdk-17-jre-headless)")
    return found


def jar_folder(name: str) -> Path:
    """The folder of one group of fetched jars: `kafka`, `flink` or `plugins/s3`.

    Raises:
        MissingPieceError: The jars were not fetched.
    """
    folder = _JARS / name
    if not any(folder.glob("*.jar")):
        raise MissingPieceError(f"the {name} jars are not in {folder}: run `make setup`")
    return folder


def compiler_options(compiler: JavaCompiler) -> tuple[str, ...]:
    """Options for the just-in-time compiler.

    The optimising compiler takes processor time for minutes after each start and saves more later. A process that runs
    for minutes only is better without it. `docs/decisions.md` has the figures.
    """
    return ("-XX:TieredStopAtLevel=1",) if compiler == "quick" else ()


def crash_options(logs: Path, part: str) -> tuple[str, ...]:
    """Options for the report of a crashed JVM: one file a part, which the next crash overwrites, and no core dump.

    By default each crash leaves files under new names. A part that crashes at every start would fill the disk.
    """
    return (
        f"-XX:ErrorFile={logs / part}-crash.txt",
        f"-XX:ReplayDataFile={logs / part}-replay.txt",
        "-XX:-CreateCoredumpOnCrash",
    )
