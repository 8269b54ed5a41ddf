"""Which images are traced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import SettingsError
from core.trace_policy import TracePolicy, sampled
from core.traces import TraceReason

SAMPLED = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + b"0"


@pytest.mark.parametrize(
    ("policy", "flag", "header", "reason"),
    [
        (TracePolicy(), False, b"", None),
        (TracePolicy(), True, SAMPLED, TraceReason.FLAG),
        (TracePolicy(), False, SAMPLED, TraceReason.HEADER),
        (TracePolicy(), False, SAMPLED[:-2] + b"03", TraceReason.HEADER),
        (TracePolicy(), False, UNSAMPLED, None),
        (TracePolicy(headers=False), False, SAMPLED, None),
        (TracePolicy(share=1.0), False, UNSAMPLED, TraceReason.SAMPLED),
        (TracePolicy(share=1.0), False, SAMPLED, TraceReason.HEADER),
    ],
)
def test_the_first_reason_counts(policy: TracePolicy, flag: bool, header: bytes, reason: TraceReason | None) -> None:
    assert policy.reason("a", flag=flag, traceparent=header) is reason


@given(image_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), shares=st.tuples(*[st.floats(0, 1)] * 2))
def test_a_larger_share_has_the_images_of_a_smaller_one(image_id: str, shares: tuple[float, float]) -> None:
    assert sampled(image_id, min(shares)) <= sampled(image_id, max(shares))
    assert sampled(image_id, 1.0)
    assert not sampled(image_id, 0.0)


def test_a_share_is_what_it_says() -> None:
    chosen = [number for number in range(20_000) if sampled(f"image-{number}", 0.01)]
    assert 150 < len(chosen) < 250


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(SettingsError, match="share must be 0 to 1"):
        TracePolicy(share=share)
