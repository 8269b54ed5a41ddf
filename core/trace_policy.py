"""Which images are traced. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from crc32c import crc32c

from core.errors import SettingsError
from core.traces import TraceReason

__all__ = ["TracePolicy", "sampled"]

_SAMPLED_FLAG = 0x01
"""In the last two digits of a `traceparent`: the sender traces this request itself."""


@dataclass(frozen=True, slots=True)
class TracePolicy:
    """Which images are traced, beside those that end badly.

    Raises:
        SettingsError: The share is not one.
    """

    share: float = 0.0
    """Of all images, chosen by a checksum of their ids: the same images each time, in every deployment."""
    headers: bool = True
    """Whether the header `traceparent` asks for a trace, where its flag `sampled` is set."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise SettingsError(f"share must be 0 to 1, is {self.share}")

    def reason(self, image_id: str, *, flag: bool, traceparent: bytes) -> TraceReason | None:
        """Why an image is traced; None if it is not.

        Args:
            image_id: The image.
            flag: A notification asks for it.
            traceparent: The checked header, no bytes without one (`core.tracing`).
        """
        if flag:
            return TraceReason.FLAG
        if self.headers and traceparent and int(traceparent[-2:], 16) & _SAMPLED_FLAG:
            return TraceReason.HEADER
        return TraceReason.SAMPLED if sampled(image_id, self.share) else None


def sampled(image_id: str, share: float) -> bool:
    """Whether an image is among such a share of all images. A larger share has all images of a smaller one."""
    return share > 0.0 and int(crc32c(image_id.encode())) < share * 2**32
