"""What a file of clustered images was made for and with: its key-value metadata.

| key | value |
| --- | --- |
| `neardup.format` | `1` |
| `neardup.signal` | the name of the signal, and name, version and dimension of its two embeddings |
| `neardup.terms` | fingerprint of the settings that `terms` were made with; empty: there are none |
| `neardup.code` | fingerprint of the settings that `code` and `founding_code` were made with; empty: there are none |
| `neardup.model` | version of the model that gave `probability`, at most 1,024 bytes; empty: not known |
| `neardup.rule` | what chose the clusters, in a few words |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import BadInputError
from core.notifications import MAX_WORDS_BYTES

__all__ = ["FORMAT", "FileMetadata"]

FORMAT = 1
"""Incremented with every change of the layout that a reader of the one before would misread."""

_PREFIX = "neardup."


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """The metadata of one file.

    Raises:
        BadInputError: The version of the model is too long for the records that carry it.
    """

    signal: str
    terms: str = ""
    code: str = ""
    model: str = ""
    rule: str = ""

    def __post_init__(self) -> None:
        length = len(self.model.encode())
        if length > MAX_WORDS_BYTES:
            raise BadInputError(f"the metadata neardup.model has {length} bytes, the limit is {MAX_WORDS_BYTES}")

    def encoded(self) -> dict[str, str]:
        """The metadata as keys and values."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {f"{_PREFIX}{name}": value for name, value in {"format": str(FORMAT), **fields}.items()}

    @classmethod
    def decoded(cls, metadata: Mapping[bytes, bytes]) -> FileMetadata:
        """Reads the metadata of a file. Other keys are ignored.

        Raises:
            BadInputError: The file is of another format, says for no signal what it is, or names a model too long;
                without the file's name.
        """
        told = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in metadata.items()}
        found = {key.removeprefix(_PREFIX): value for key, value in told.items() if key.startswith(_PREFIX)}
        if "format" not in found:
            raise BadInputError(
                "it has no metadata neardup.format: `neardup bootstrap convert` makes such files from others"
            )
        if found["format"] != str(FORMAT):
            raise BadInputError(f"it has format {found['format']}, this program reads format {FORMAT}")
        if not found.get("signal"):
            raise BadInputError("its metadata neardup.signal does not say for which embeddings it was made")
        return cls(**{name: found.get(name, "") for name in cls.__slots__})
