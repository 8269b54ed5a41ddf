"""A file of named sections that is written once, then mapped into memory.

All numbers are little-endian:

    magic "NDSG" | format version u32 | header length u32 | CRC-32C of the header u32 | header (JSON, UTF-8)
    | sections, each from a multiple of 64 bytes on

The header holds facts about the file, its size, and for each section its type, shape, offset and CRC-32C. Opening a
file checks the header, the size and every section.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from core.errors import MismatchError
from search.index.errors import IndexDamagedError
from search.index.rate_limiter import RateLimiter
from search.index.sliced_file import SlicedFile

__all__ = ["SECTION_FORMAT", "SectionFile", "write_sections"]

SECTION_FORMAT = 1
"""The version of the file format; a reader refuses any other."""

_MAGIC = b"NDSG"
_START = struct.Struct("<4sIII")
_ALIGNMENT = 64
_CHUNK = 2**20
"""Bytes that are checked at a time; the GIL is released meanwhile."""

Parts = Iterable[NDArray[Any]]
"""The rows of a section, in any number of arrays."""


def write_sections(
    path: Path,
    facts: Mapping[str, Any],
    sections: Mapping[str, Parts],
    sync: bool = True,
    limiter: RateLimiter | None = None,
) -> int:
    """Writes a file atomically.

    Args:
        path: The file. A file with ".tmp" after its name is written first; an error leaves neither.
        facts: Facts about the file, as JSON values.
        sections: Arrays by name; those of one section have one type and agree in all but their first dimension.
        sync: Whether to wait for the disk. With it, the file survives a crash of the machine once this returns.
        limiter: Limits the rate of writing; None: no limit.

    Returns:
        The size of the file in bytes.

    Raises:
        OSError: It could not be written.
        WorkStopped: The limiter was stopped.
    """
    arrays = {name: [np.ascontiguousarray(part) for part in parts] for name, parts in sections.items()}
    described: dict[str, dict[str, Any]] = {}
    for name, parts in arrays.items():
        described[name] = {
            "type": parts[0].dtype.newbyteorder("<").str,
            "shape": [sum(len(part) for part in parts), *parts[0].shape[1:]],
            "crc32c": _checksum(parts),
            "offset": 0,
        }
    header, size = _place(dict(facts), described)
    with SlicedFile(path, size, sync, limiter) as file:
        file.write_at(0, _START.pack(_MAGIC, SECTION_FORMAT, len(header), crc32c(header)) + header)
        for name, parts in arrays.items():
            at = described[name]["offset"]
            for part in parts:
                file.write_at(at, _bytes_of(part))
                at += part.nbytes
    return size


class SectionFile:
    """An open, checked file."""

    def __init__(self, path: Path) -> None:
        """Maps the file and checks all of it.

        Raises:
            IndexDamagedError: It is missing or damaged; the message names file and section.
            MismatchError: Another version of the format wrote it.
        """
        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise IndexDamagedError(f"the index file {path} cannot be read ({error}): {_REMEDY}") from error
        self.facts, self._sections = self._read_header()
        self.bytes = {name: int(_section_bytes(one)) for name, one in self._sections.items()}
        """The size of each section."""
        for name in self._sections:
            if _checksum([self[name]]) != self._sections[name]["crc32c"]:
                raise IndexDamagedError(f"section {name!r} of the index file {path} is damaged: {_REMEDY}")

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A section, read-only; it stays valid while anything refers to it."""
        one = self._sections[name]
        count = int(np.prod(one["shape"]))
        array = np.frombuffer(self._map, np.dtype(one["type"]), count, one["offset"])
        return array.reshape(one["shape"])

    def _read_header(self) -> tuple[dict[str, Any], dict[str, Any]]:
        damaged = IndexDamagedError(f"the header of the index file {self.path} is damaged: {_REMEDY}")
        if len(self._map) < _START.size:
            raise damaged
        magic, version, length, checksum = _START.unpack_from(self._map)
        if magic != _MAGIC:
            raise damaged
        if version != SECTION_FORMAT:
            raise MismatchError(f"{self.path} has format {version}, this program reads format {SECTION_FORMAT}")
        header = self._map[_START.size : _START.size + length]
        if len(header) != length or crc32c(header) != checksum:
            raise damaged
        content = json.loads(header)
        if content["size"] != len(self._map):
            raise IndexDamagedError(
                f"the index file {self.path} has {len(self._map)} bytes, {content['size']} were written: {_REMEDY}"
            )
        return content["facts"], content["sections"]


_REMEDY = "restore the folder from a copy, or delete it and build the index again"


def _section_bytes(one: Mapping[str, Any]) -> int:
    return int(np.prod(one["shape"])) * int(np.dtype(one["type"]).itemsize)


def _place(facts: dict[str, Any], described: dict[str, dict[str, Any]]) -> tuple[bytes, int]:
    """Sets the offset of each section; returns the header and the size of the file."""
    room = len(_header(facts, described, 0)) + 20 * (len(described) + 1)
    at = _START.size + room
    for one in described.values():
        at = -(-at // _ALIGNMENT) * _ALIGNMENT
        one["offset"] = at
        at += _section_bytes(one)
    header = _header(facts, described, at)
    return header + b" " * (room - len(header)), at


def _header(facts: dict[str, Any], described: dict[str, dict[str, Any]], size: int) -> bytes:
    return json.dumps({"facts": facts, "size": size, "sections": described}, sort_keys=True).encode()


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8).data)


def _checksum(parts: Parts) -> int:
    checksum = 0
    for part in parts:
        view = _bytes_of(part)
        for at in range(0, len(view), _CHUNK):
            checksum = crc32c(view[at : at + _CHUNK], checksum)
    return int(checksum)
