"""Names for images that were forgotten: a hash of the id that only the holder of a secret key can make.

Whoever has the key and an id can tell whether that image was forgotten. Nobody can read the id from its pseudonym. Ids
that are easy to guess are safe only as long as the key is.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import blake2b

from core.types import ImageId

__all__ = ["KEY_BYTES", "NOBODY", "Pseudonyms", "is_pseudonym"]

KEY_BYTES = 32
"""The length of a key."""

_PREFIX = "forgotten:"
_DIGEST_BYTES = 16

NOBODY = ImageId(_PREFIX + 2 * _DIGEST_BYTES * "0")
"""Whom a blank of the history is about. It has the form of a pseudonym, and is that of no image."""


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """The pseudonyms of one key.

    Raises:
        ValueError: The key has another length.
    """

    key: bytes

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(self.key)}")

    @staticmethod
    def fresh() -> Pseudonyms:
        """Those of a new random key."""
        return Pseudonyms(secrets.token_bytes(KEY_BYTES))

    def of(self, image_id: ImageId) -> ImageId:
        """The pseudonym of an image, always the same; a pseudonym is its own."""
        if is_pseudonym(image_id):
            return image_id
        digest = blake2b(image_id.encode(errors="surrogatepass"), key=self.key, digest_size=_DIGEST_BYTES)
        return ImageId(_PREFIX + digest.hexdigest())


def is_pseudonym(image_id: ImageId) -> bool:
    """Whether an id has the form of a pseudonym."""
    digest = image_id.removeprefix(_PREFIX)
    return len(digest) == 2 * _DIGEST_BYTES and len(image_id) == len(digest) + len(_PREFIX)
