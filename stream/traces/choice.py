"""Which traces a person wants to see."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from core.errors import BadInputError
from core.traces import Trace, parse_trace
from stream.topic_reader import TopicRecord

__all__ = ["SLOW_NAMES", "TraceChoice", "parse_slow", "spent_ms"]

SLOW_NAMES = ("search", "score", "assign", "join", "total")
"""What takes time: the steps, the wait for the second half, and from its arrival to the verdict."""


@dataclass(frozen=True, slots=True)
class TraceChoice:
    """Traces that have all of these properties. An empty collection stands for any value."""

    image_ids: Collection[str] = ()
    heads: Collection[str] = ()
    """The head that the image got, or had."""
    outcomes: Collection[str] = ()
    causes: Collection[str] = ()
    reasons: Collection[str] = ()
    """Why the image was traced."""
    whys: Collection[str] = ()
    """Why it has its head."""
    kinds: Collection[str] = ()
    requests: Collection[str] = ()
    """The replays or deletes that the image belongs to."""
    min_score: float | None = None
    """Of the match that decided. A verdict without a match has no score, so a limit leaves it out."""
    max_score: float | None = None
    slower_ms: Mapping[str, float] = field(default_factory=dict)
    """The least time of some of `SLOW_NAMES`."""
    text: str = ""
    """It occurs in the trace, as part of any id or word."""
    until_ms: int | None = None
    """Kafka took the trace before this time."""

    def read(self, record: TopicRecord) -> Trace | None:
        """The trace in a record; None: it is not chosen.

        Raises:
            BadInputError: The record is none that this release reads.
        """
        if self.until_ms is not None and record.timestamp_ms >= self.until_ms:
            return None
        if self.image_ids and record.key.decode("utf-8", errors="replace") not in self.image_ids:
            return None
        # Traces are large: most are left out by their bytes, without parsing.
        if self.text and not any(form in record.value for form in _forms(self.text)):
            return None
        trace = parse_trace(record.value)
        return trace if self._takes(trace) else None

    def _takes(self, trace: Trace) -> bool:
        choice = trace.choice
        words = (
            (self.outcomes, (trace.outcome,)),
            (self.causes, (trace.cause,)),
            (self.reasons, (trace.reason,)),
            (self.kinds, (trace.kind,)),
            (self.requests, (trace.request_id,)),
            (self.whys, (choice.why if choice else None,)),
            (self.heads, (choice.head, choice.old_head) if choice else ()),
        )
        return (
            all(not wanted or any(value in wanted for value in values) for wanted, values in words)
            and self._score_fits(choice.score if choice else None)
            and all(_slower(spent_ms(trace, name), least) for name, least in self.slower_ms.items())
        )

    def _score_fits(self, score: float | None) -> bool:
        if self.min_score is None and self.max_score is None:
            return True
        return (
            score is not None
            and (self.min_score is None or score >= self.min_score)
            and (self.max_score is None or score <= self.max_score)
        )


def spent_ms(trace: Trace, name: str) -> int | None:
    """How long one of `SLOW_NAMES` took; None: the trace does not say."""
    if name == "join":
        return trace.join_wait_ms
    if name == "total":
        known = trace.arrived_at_ms > 0 and trace.decided_at_ms > 0
        return trace.decided_at_ms - trace.arrived_at_ms if known else None
    steps = [step.left_ms - step.entered_ms for step in trace.steps if step.name == name]
    return max(steps, default=None)


def parse_slow(text: str) -> tuple[str, float]:
    """Reads `STEP=MS`, such as `search=50`.

    Raises:
        BadInputError: It has another form, or there is no such step.
    """
    found = re.fullmatch(r"([a-z]+)=([0-9]{1,9}(?:\.[0-9]+)?)(?:ms)?", text)
    if found is None or found[1] not in SLOW_NAMES:
        raise BadInputError(f"--slower takes STEP=MS with a step of {', '.join(SLOW_NAMES)}, not {text!r}")
    return found[1], float(found[2])


def _slower(spent: int | None, least: float) -> bool:
    return spent is not None and spent >= least


def _forms(text: str) -> set[bytes]:
    """How a text may stand in JSON: as it is, or with escapes."""
    return {json.dumps(text, ensure_ascii=ascii_)[1:-1].encode("utf-8", "replace") for ascii_ in (True, False)}
