"""On which address the metrics pages of Flink's processes listen, and how long a caller may take.

Flink's reporter has a setting for its port and none for its address: it listens on all of them. It uses Java's own HTTP
server, which any Java class may provide. `BoundHttpServers.java` does, for one address. It is compiled here, by the
compiler that Flink brings for the code that it generates. So a Java runtime suffices, without a development kit.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from stream.local.errors import DeploymentError, MissingPieceError
from stream.local.files import write_if_new
from stream.local.java import java_executable

__all__ = ["compile_provider", "provider_options"]

_SOURCE = Path(__file__).with_name("BoundHttpServers.java")
_COMPILER = "org.codehaus.commons.compiler.samples.CompilerDemo"
_TIMEOUT_S = 60.0

_REQUEST_S = 10
_ANSWER_S = 60
"""The reporter answers with five threads. A request that is never whole would keep one of them for ever."""


def provider_options(host: str) -> list[str]:
    """Options of a Java process whose class path has the folder of `compile_provider`."""
    return [
        "--add-exports=jdk.httpserver/sun.net.httpserver=ALL-UNNAMED",
        f"-Dcom.sun.net.httpserver.HttpServerProvider={_SOURCE.stem}",
        f"-Dneardup.metrics.host={host}",
        f"-Dsun.net.httpserver.maxReqTime={_REQUEST_S}",
        f"-Dsun.net.httpserver.maxRspTime={_ANSWER_S}",
    ]


def compile_provider(folder: Path, libraries: Iterable[Path]) -> None:
    """Compiles the class into a folder, unless it is there and its source has not changed.

    Args:
        folder: Made if it is missing.
        libraries: Flink's jars.

    Raises:
        MissingPieceError: Java, or the jar with the compiler, is missing.
        DeploymentError: The compiler fails.
    """
    compiled, made_from = folder / f"{_SOURCE.stem}.class", folder / _SOURCE.name
    text = _SOURCE.read_text(encoding="utf-8")
    if compiled.is_file() and made_from.is_file() and made_from.read_text(encoding="utf-8") == text:
        return
    jar = next((path for path in libraries if path.name.startswith("flink-table-runtime-")), None)
    if jar is None:
        raise MissingPieceError("there is no flink-table-runtime-*.jar, which has Flink's compiler: run `make setup`")
    folder.mkdir(parents=True, exist_ok=True)
    compiled.unlink(missing_ok=True)
    options = ("-XX:TieredStopAtLevel=1", "-cp", str(jar))
    command = (java_executable(), *options, _COMPILER, "-d", str(folder), str(_SOURCE))
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0 or not compiled.is_file():
        raise DeploymentError(f"{_SOURCE} cannot be compiled:\n{(done.stdout + done.stderr).strip()}")
    write_if_new(made_from, text)
