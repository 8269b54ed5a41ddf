"""How late live images are: the median of the last write, without replays, and only for a while."""

from __future__ import annotations

from dataclasses import replace

from core.manifest_rows import MemberRow, RowResult
from core.types import Decision, ImageId, Outcome
from storage.serving.live_delay import FRESH_MS, LiveDelay
from storage.testing.decisions import founds

NOW = 1_700_000_000_000


def image(offset: int, delay_ms: int) -> Decision:
    """An image that arrived so long before now."""
    return founds(offset, ImageId(f"image-{offset}"), arrived_at_ms=NOW - delay_ms)


def test_it_is_the_median_of_the_last_write_with_images() -> None:
    delay = LiveDelay()
    assert delay.at(NOW) == 0
    delay.written([image(0, 90), image(1, 700), image(2, 300)], NOW)
    assert delay.at(NOW) == 300
    delay.written([image(3, 20)], NOW)
    assert delay.at(NOW) == 20


def test_replays_rows_of_manifests_and_images_without_a_time_do_not_count() -> None:
    delay = LiveDelay()
    delay.written([image(0, 90)], NOW)
    delay.written([replace(image(1, 9_000), outcome=Outcome.REPLAYED), replace(image(2, 0), arrived_at_ms=0)], NOW)
    assert delay.at(NOW) == 90
    delay.written([replace(image(3, 9_000), member=MemberRow("0f" * 16, 0, RowResult.JOINED))], NOW)
    assert delay.at(NOW) == 90


def test_it_is_forgotten_when_no_image_comes() -> None:
    delay = LiveDelay()
    delay.written([image(0, 9_000)], NOW)
    assert delay.at(NOW + FRESH_MS - 1) == 9_000
    assert delay.at(NOW + FRESH_MS) == 0
