"""The exit codes of the command line, and the exit code of each error."""

from __future__ import annotations

from enum import IntEnum

from core.errors import (
    BadInputError,
    ConflictError,
    DeniedError,
    MismatchError,
    NeardupError,
    SettingsError,
    UnavailableError,
)
from neardup.errors import BadRequestError, NeardupClientError, NotFoundError, ServiceUnavailableError
from storage.errors import IncompatibleError, LockedError, WriteError
from stream.errors import NotIndexedError, NotKnownError, NotSoundError

__all__ = ["Exit", "exit_for", "explain"]

_EXTRAS = {
    "cv2": "label",
    "fastapi": "serve",
    "grpc": "serve",
    "matplotlib": "tune",
    "numba": "serve",
    "psutil": "serve",
    "pyflink": "flink",
    "rocksdict": "store",
    "sklearn": "model",
    "supervisor": "serve",
    "tensorflow": "model",
    "uvicorn": "serve",
}
"""The extra of this package that installs a module."""


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4
    NOT_SOUND = 5
    MISMATCH = 6
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """One line for the help text."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "the command failed; the message says why",
    Exit.USAGE: "wrong arguments, settings or input file",
    Exit.NOT_FOUND: "no such image, cluster, override or alias",
    Exit.UNAVAILABLE: "a part is down or too slow; try again later",
    Exit.NOT_SOUND: "`verify`, `bootstrap check` or `bootstrap verify` found what must not be, `compare` a low score",
    Exit.MISMATCH: "two parts have different settings or models",
    Exit.INTERRUPTED: "stopped by Ctrl-C or SIGTERM",
}


def exit_for(error: BaseException) -> Exit:
    """The exit code for an error that ends a command."""
    match error:
        case SettingsError() | BadInputError() | DeniedError() | BadRequestError():
            return Exit.USAGE
        case NotFoundError() | NotIndexedError() | NotKnownError():
            return Exit.NOT_FOUND
        case UnavailableError() | LockedError() | WriteError() | ServiceUnavailableError():
            return Exit.UNAVAILABLE
        case NotSoundError():
            return Exit.NOT_SOUND
        case ConflictError():
            return Exit.FAILED
        case MismatchError() | IncompatibleError():
            return Exit.MISMATCH
        case KeyboardInterrupt():
            return Exit.INTERRUPTED
        case _:
            return Exit.FAILED


def explain(error: BaseException) -> str:
    """The message of an error for the user; the first line says what happened."""
    if isinstance(error, NeardupError | NeardupClientError):
        return str(error) or type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        return "stopped"
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        extra = _EXTRAS.get(error.name.partition(".")[0])
        if extra is not None:
            return (
                f"this command needs the package {error.name}, which is not installed: pip install 'neardup[{extra}]'"
            )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {error}\nNEARDUP_LOG=DEBUG shows the traceback"
