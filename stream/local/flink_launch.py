"""How Flink's two processes are started: Java itself, with an argument file each.

The distribution's scripts do the same, but run Java three times before they start a process: 8 s of processor time for
the two, a tenth of what a deployment needs to start. Here Flink's own memory calculation runs once, and only if the
configuration has changed. Its results lie beside the configuration.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from stream.local.errors import DeploymentError
from stream.local.files import write_if_new
from stream.local.java import java_executable
from stream.log_lines import java_part_option

__all__ = ["ROLES", "Role", "argument_file", "write_argument_files"]

Role = Literal["jobmanager", "taskmanager"]

ROLES: tuple[Role, ...] = ("jobmanager", "taskmanager")

_MAIN = {
    "jobmanager": "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
    "taskmanager": "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
}
_CALCULATION = {"jobmanager": "GET_JM_RESOURCE_PARAMS", "taskmanager": "GET_TM_RESOURCE_PARAMS"}
_ANSWER = "BASH_JAVA_UTILS_EXEC_RESULT:"
_TIMEOUT_S = 120.0


def argument_file(conf: Path, role: Role) -> Path:
    """The argument file of a process, for `java @FILE`."""
    return conf / f"{role}.args"


def write_argument_files(
    conf: Path,
    libraries: Sequence[Path],
    tools: Path,
    java_options: Mapping[Role, Sequence[str]],
    own: Mapping[Role, Sequence[str]],
) -> None:
    """Writes the argument files of both processes, unless nothing has changed.

    Args:
        conf: The configuration folder, with all its files.
        libraries: Flink's jars, and folders of classes.
        tools: The distribution's jar with the memory calculation.
        java_options: Of each process, beside its sizes.
        own: Flink options of each process alone (`name=value`).

    Raises:
        DeploymentError: Flink refuses the sizes; the message is Flink's.
        MissingPieceError: Java is missing.
    """
    # As in the distribution: flink-dist comes last.
    ordered = sorted(libraries, key=lambda jar: (jar.name.startswith("flink-dist-"), jar.name))
    classes = ":".join(map(str, ordered))
    inputs = "\n".join([_without_secrets(conf / "config.yaml"), classes, repr((java_options, own))])
    made_from = conf / "args-made-from"
    if made_from.is_file() and made_from.read_text(encoding="utf-8") == inputs:
        return
    asked = {role: _ask(conf, f"{tools}:{classes}", role) for role in ROLES}
    for role in ROLES:
        sizes, options = _answers(asked[role])
        log = conf / "log4j-console.properties"
        arguments = [
            *sizes.split(),
            *java_options[role],
            f"-Dlog4j.configurationFile={log.as_uri()}",
            java_part_option(role),
            "-classpath",
            classes,
            _MAIN[role],
            "--configDir",
            str(conf),
            *options.split(),
            *(word for option in own[role] for word in ("-D", option)),
        ]
        write_if_new(argument_file(conf, role), "".join(f"{_quoted(word)}\n" for word in arguments))
    write_if_new(made_from, inputs)


def _without_secrets(config: Path) -> str:
    lines = config.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if "-password:" not in line)


def _ask(conf: Path, classes: str, role: Role) -> subprocess.Popen[str]:
    command = (
        java_executable(),
        "-XX:TieredStopAtLevel=1",
        "-classpath",
        classes,
        "org.apache.flink.runtime.util.bash.BashJavaUtils",
        _CALCULATION[role],
        "--configDir",
        str(conf),
    )
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _answers(asked: subprocess.Popen[str]) -> tuple[str, str]:
    """Java's options for the sizes, and Flink's."""
    try:
        output, errors = asked.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        asked.kill()
        asked.communicate()
        raise DeploymentError(f"Flink's calculation of memory took over {_TIMEOUT_S:.0f} s") from error
    answers = [line.removeprefix(_ANSWER) for line in output.splitlines() if line.startswith(_ANSWER)]
    if asked.returncode != 0 or len(answers) != 2:
        said = "\n".join((output + errors).strip().splitlines()[-10:])
        raise DeploymentError(f"Flink cannot divide the memory that it is given:\n{said}")
    return answers[0], answers[1]


def _quoted(word: str) -> str:
    """A word in the syntax of argument files (java(1), "argument files")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
