"""Settlements: records in `dead-letter` that say which dead letters before them are settled, and how.

A settlement is one JSON object, UTF-8:

    settlement      one of `Kind`
    detail          what was done, for people
    ranges          which: pairs of the first and the last offset in this topic, ascending
    author, reason  of an acknowledgement: who gave it, and why nothing more is to be done

It names dead letters by their offsets in the same topic, which has one partition. So a run that settles a million of
them appends one short record for each thousand, and a reader keeps a few ranges and no list of records. A reader passes
by a kind that it does not know.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Kind", "Settled", "Settlement", "parse_settlement", "ranges_of", "settlement_bytes"]

Range = tuple[int, int]
"""The first and the last offset."""

_MARK = b'"settlement"'


class Kind(StrEnum):
    """How dead letters were settled. The values are part of the promise: never rename one."""

    REPLAYED = "replayed"
    """They were sent to their topic again, or their images are decided again."""
    ACKNOWLEDGED = "acknowledged"
    """A person says that nothing more is to be done."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """A settlement as it is read back."""

    kind: Kind
    detail: str
    ranges: tuple[Range, ...]
    author: str = ""
    reason: str = ""


def settlement_bytes(settlement: Settlement) -> bytes:
    """A settlement as JSON bytes."""
    content: dict[str, object] = {
        "settlement": settlement.kind.value,
        "detail": settlement.detail,
        "ranges": settlement.ranges,
    }
    if settlement.kind is Kind.ACKNOWLEDGED:
        content |= {"author": settlement.author, "reason": settlement.reason}
    return json.dumps(content, separators=(",", ":")).encode("ascii")


def parse_settlement(raw: bytes) -> Settlement | None:
    """Reads a settlement back; None for any other record."""
    if _MARK not in raw:  # a dead letter may be large, and its base64 never has this
        return None
    try:
        fields = json.loads(raw)
        ranges = tuple((_number(first), _number(last)) for first, last in fields["ranges"])
        kind, by, why = Kind(fields["settlement"]), fields.get("author", ""), fields.get("reason", "")
        return Settlement(kind, str(fields["detail"]), ranges, str(by), str(why))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def ranges_of(offsets: Iterable[int]) -> Iterator[Range]:
    """Ascending offsets as ranges without gaps."""
    current: Range | None = None
    for offset in offsets:
        if current is not None and offset == current[1] + 1:
            current = current[0], offset
            continue
        if current is not None:
            yield current
        current = offset, offset
    if current is not None:
        yield current


class Settled:
    """The offsets that settlements name, kept as ranges that do not touch."""

    def __init__(self) -> None:
        """None at all."""
        self._ranges: list[Range] = []

    def add(self, ranges: Sequence[Range]) -> None:
        """Takes the ranges of one settlement."""
        for first, last in ranges:
            if first <= last:
                self._insert(first, last)

    def __contains__(self, offset: int) -> bool:
        """Whether an offset is settled."""
        at = bisect_right(self._ranges, offset, key=lambda one: one[0]) - 1
        return at >= 0 and offset <= self._ranges[at][1]

    def _insert(self, first: int, last: int) -> None:
        start = bisect_left(self._ranges, first - 1, key=lambda one: one[1])
        end = bisect_right(self._ranges, last + 1, key=lambda one: one[0])
        touched = self._ranges[start:end]
        if touched:
            first, last = min(first, touched[0][0]), max(last, touched[-1][1])
        self._ranges[start:end] = [(first, last)]


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("an offset is a whole number")
    return value
