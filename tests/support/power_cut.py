"""A power cut: every process of a deployment is killed, and each file is cut to what its last fsync made durable.

What the processes made durable is noted by `sync_log.c`, which is compiled with the C compiler of the machine and
loaded into each of them. Files that existed when the recording began count as durable.

A disk may also have kept some pages of what was written after the last sync: `cut` can leave such files behind.

Two effects of real power cuts are left out. A new or renamed file stays, even if its folder was not synced; journaling
file systems write both with the file. A file that was overwritten in place keeps its new bytes.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from stream.local.processes import marked_processes
from tests.support.damage import zero_pages

__all__ = ["DurableFiles", "has_compiler", "kill_everything"]

_GET_GENERATION = 0x80087601
"""`FS_IOC_GETVERSION` of Linux."""

_Inode = tuple[int, int]
"""Number and generation: a reused number has another generation."""


def has_compiler() -> bool:
    """Whether this machine has a C compiler."""
    return shutil.which("cc") is not None


class DurableFiles:
    """Records what is durable below one folder, and loses the rest."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        """Compiles the recorder.

        Args:
            folder: The data folder; its files are cut.
            scratch: A folder outside it, for the recorder and its log.
        """
        self._folder = folder
        self._log = scratch / "synced"
        self._library = scratch / "sync_log.so"
        source = Path(__file__).with_name("sync_log.c")
        scratch.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", self._library, source, "-ldl"], check=True
        )
        self._durable: dict[_Inode, int] = {}

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Processes that are started inside are recorded. What is there now is durable."""
        self.keep_all()
        before = {name: os.environ.get(name) for name in ("LD_PRELOAD", "SYNC_LOG")}
        os.environ.update(LD_PRELOAD=str(self._library), SYNC_LOG=str(self._log))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def keep_all(self) -> None:
        """Takes everything that is there now as durable."""
        self._durable = {_inode(file): file.stat().st_size for file in self._files()}

    def cut(self, below: Path | None = None, zeroing: random.Random | None = None) -> int:
        """Cuts files to what is durable, and returns how many lost bytes. No process may write to them.

        Args:
            below: Cut only the files below this folder.
            zeroing: Files keep their length, as after a power cut that wrote the length before the bytes: of the pages
                after what is durable, some are lost and read as zeros, at least one. This source chooses them.
        """
        self._read_log()
        lost = 0
        for file in self._files(below):
            size = file.stat().st_size
            durable = min(size, self._durable.get(_inode(file), 0))
            if durable == size:
                continue
            if zeroing is None:
                os.truncate(file, durable)
            else:
                zero_pages(file, durable, zeroing)
            lost += 1
        return lost

    def _read_log(self) -> None:
        if not self._log.exists():
            return
        for line in self._log.read_text(encoding="ascii").splitlines():
            number, generation, size = map(int, line.split())
            self._durable[number, generation] = size
        self._log.unlink()

    def _files(self, below: Path | None = None) -> Iterator[Path]:
        return (file for file in (below or self._folder).rglob("*") if file.is_file() and not file.is_symlink())


def kill_everything(folder: Path) -> int:
    """Kills all processes of the deployment in a data folder with SIGKILL; returns how many there were."""
    killed = 0
    while processes := marked_processes(folder):
        for process in processes:  # the supervisor comes first, so it starts none of them again
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
            killed += 1
        psutil.wait_procs(processes, timeout=10)
    return killed


def _inode(file: Path) -> _Inode:
    with file.open("rb") as opened:
        generation = bytearray(8)
        try:
            fcntl.ioctl(opened, _GET_GENERATION, generation)
        except OSError:  # the file system keeps none
            generation = bytearray(8)
        return os.fstat(opened.fileno()).st_ino, struct.unpack("<I", generation[:4])[0]
