"""Our own Java classes in Flink's processes, as one jar.

    BoundHttpServers.java   keeps the metrics pages on one address (`stream.local.metrics_host`)
    RecordBatches.java      hands records of a source on in batches (`operators.record_batches`)
    FolderFiles.java        lists the files of a folder that may be away (`stream.folder_source`)
    WholeFiles.java         reads them, and fails for none

They are compiled where they run, by the compiler that Flink brings for the code that it generates. So a Java runtime
suffices, without a development kit.
"""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Iterable
from pathlib import Path

from core.files import write_text
from stream.local.errors import DeploymentError, MissingPieceError
from stream.local.java import java_executable

__all__ = ["JAR", "build_jar"]

JAR = "neardup.jar"
"""The name of the jar."""

_SOURCES = sorted(Path(__file__).parent.glob("*.java"))
_COMPILER = "org.codehaus.commons.compiler.samples.CompilerDemo"
_AGAINST = ("flink-dist-", "flink-connector-files-")
_TIMEOUT_S = 60.0


def build_jar(folder: Path, libraries: Iterable[Path]) -> Path:
    """Compiles the classes into a folder and packs them, unless that is done and no source has changed.

    Args:
        folder: Made if it is missing.
        libraries: Flink's jars.

    Returns:
        The jar.

    Raises:
        MissingPieceError: Java, or the jar with the compiler, is missing.
        DeploymentError: The compiler fails.
    """
    jar, made_from = folder / JAR, folder / "made-from"
    text = "".join(source.read_text(encoding="utf-8") for source in _SOURCES)
    if jar.is_file() and made_from.is_file() and made_from.read_text(encoding="utf-8") == text:
        return jar
    jars = list(libraries)
    compiler = next((path for path in jars if path.name.startswith("flink-table-runtime-")), None)
    if compiler is None:
        raise MissingPieceError("there is no flink-table-runtime-*.jar, which has Flink's compiler: run `make setup`")
    folder.mkdir(parents=True, exist_ok=True)
    made_from.unlink(missing_ok=True)
    names = ", ".join(source.name for source in _SOURCES)
    against = ":".join(str(path) for path in jars if path.name.startswith(_AGAINST))
    options = ("-XX:TieredStopAtLevel=1", "-cp", str(compiler), _COMPILER, "-d", str(folder), "-classpath", against)
    command = (java_executable(), *options, *map(str, _SOURCES))
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    compiled = sorted(folder.rglob("*.class"))
    if done.returncode != 0 or not {source.stem for source in _SOURCES} <= {each.stem for each in compiled}:
        raise DeploymentError(f"{names} cannot be compiled:\n{(done.stdout + done.stderr).strip()}")
    _pack(jar, folder, compiled)
    write_text(made_from, text)
    return jar


def _pack(jar: Path, folder: Path, compiled: Iterable[Path]) -> None:
    """Writes the jar in one step: a running process may read it."""
    draft = jar.with_suffix(".new")
    with zipfile.ZipFile(draft, "w") as packed:
        for each in compiled:
            # The same time for all, so that the same sources give the same bytes.
            packed.writestr(zipfile.ZipInfo(each.relative_to(folder).as_posix()), each.read_bytes())
    draft.replace(jar)
