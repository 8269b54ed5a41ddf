"""A clock that moves only when a test says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class FakeClock:
    """Milliseconds since the epoch, under the test's control; callable like `time.time` in milliseconds."""

    now_ms: int = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now_ms

    def monotonic_s(self) -> float:
        """The same instant as seconds, in the place of `time.monotonic`."""
        return self.now_ms / 1000

    def advance(self, ms: int) -> int:
        """Moves on and returns the new time."""
        if ms < 0:
            raise ValueError(f"a clock does not go back: {ms} ms")
        self.now_ms += ms
        return self.now_ms

    def sleep_s(self, seconds: float) -> None:
        """In the place of `time.sleep`: moves on at once."""
        self.advance(round(seconds * 1000))
