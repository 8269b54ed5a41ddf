"""The stream-stream join of the two embeddings, as a state machine per image id.

Time is event time: Kafka's timestamps and the watermark over them. Per image version:

    nothing --first half--> waiting --other half--> paired --timeout--> nothing
                               |
                               +----timeout----> dead letter, unmodified; its reason names the missing side

Laws:

- Only halves of equal version pair; versions are kept apart and may wait beside each other, in any order.
- A redelivered half is ignored, while the first waits and after it has paired. The first half wins, even if the
  redelivered one has other bytes: a changed embedding needs a new version.
- A half waits `timeout_ms` from its own timestamp, or from the watermark if that is later. So a late half waits the
  full time too. Two halves are paired if the second comes before the first expires, whatever their timestamps are.
- At most `max_waiting` versions of one image wait. Beyond them the lowest becomes a dead letter: it would be superseded
  once a higher one is placed.
- A paired version is remembered for `timeout_ms`, for at most `max_paired` versions of one image. A half that is
  redelivered after that waits and expires like any other. Nothing is lost: the sequence ignores known versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.errors import SettingsError

__all__ = [
    "ArrivedHalf",
    "JoinPolicy",
    "Pair",
    "PairingLogic",
    "PairingResult",
    "PairingState",
    "Side",
    "Unpaired",
    "Waiting",
]

BEGINNING_MS = -(2**63)
"""The watermark before the first record."""

END_MS = 2**63 - 1
"""The watermark after the last record of a bounded input; no deadline lies beyond it."""


class Side(StrEnum):
    """Which of the two embeddings a half carries."""

    SEARCH = "search"
    SCORE = "score"

    @property
    def other(self) -> Side:
        """The side that it pairs with."""
        return Side.SCORE if self is Side.SEARCH else Side.SEARCH


_MISSING = {Side.SEARCH: Reason.MISSING_SEARCH_HALF, Side.SCORE: Reason.MISSING_SCORE_HALF}


@dataclass(frozen=True, slots=True)
class ArrivedHalf:
    """One valid half: the notification's bytes, where it lay in Kafka and when, and its trace context."""

    side: Side
    version: int
    source: Provenance
    payload: bytes
    traceparent: bytes = b""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two halves of one image version."""

    search: ArrivedHalf
    score: ArrivedHalf

    @property
    def arrived_at_ms(self) -> int:
        """Kafka's timestamp of the later half."""
        return max(self.search.source.timestamp_ms, self.score.source.timestamp_ms)

    @property
    def traceparent(self) -> bytes:
        """The trace context of the search half, else of the score half."""
        return self.search.traceparent or self.score.traceparent


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A half that leaves the join without its partner."""

    half: ArrivedHalf
    bad: BadRecord

    def dead_letter(self) -> bytes:
        """Its dead letter, unmodified: the half had passed validation and can be replayed."""
        return dead_letter(self.bad, self.half.source, self.half.payload, limit_bytes=None)


@dataclass(frozen=True, slots=True)
class PairingResult:
    """What came of a half: a pair, halves that had to leave, or nothing; `duplicate` if it was ignored."""

    pair: Pair | None = None
    unpaired: tuple[Unpaired, ...] = ()
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """A half that waits until `deadline_ms`."""

    half: ArrivedHalf
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class PairingState:
    """All that is kept of one image id: waiting halves, and until when paired versions are remembered."""

    waiting: tuple[Waiting, ...] = ()
    paired: tuple[tuple[int, int], ...] = ()
    """(version, until_ms)"""


@dataclass(frozen=True, slots=True)
class JoinPolicy:
    """How long and how many halves of one image wait; builds the logic of one image from its state.

    Raises:
        SettingsError: A value is below 1.
    """

    timeout_ms: int
    max_waiting: int = 8
    max_paired: int = 64

    def __post_init__(self) -> None:
        for name in ("timeout_ms", "max_waiting", "max_paired"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, is {getattr(self, name)}")

    def build(self, state: PairingState | None = None) -> PairingLogic:
        """The live logic of one image id, resumed from its state."""
        return PairingLogic(self, state or PairingState())


class PairingLogic:
    """The join of one image id. Every call is given the time; outputs are returned."""

    def __init__(self, policy: JoinPolicy, state: PairingState) -> None:
        self._policy = policy
        self._waiting = {waiting.half.version: waiting for waiting in state.waiting}
        self._paired = dict(state.paired)

    def on_half(self, half: ArrivedHalf, now_ms: int = BEGINNING_MS) -> PairingResult:
        """Takes one half in.

        Args:
            half: A half of this logic's image.
            now_ms: The watermark.
        """
        if half.version in self._paired:
            return PairingResult(duplicate=True)
        first = self._waiting.get(half.version)
        if first is None:
            return PairingResult(unpaired=self._wait(half, now_ms))
        if first.half.side is half.side:
            return PairingResult(duplicate=True)
        del self._waiting[half.version]
        pair = Pair(half, first.half) if half.side is Side.SEARCH else Pair(first.half, half)
        self._remember(half.version, self._deadline(pair.arrived_at_ms, now_ms))
        return PairingResult(pair=pair)

    def on_time(self, now_ms: int) -> tuple[Unpaired, ...]:
        """Expires halves and forgets paired versions whose time is over.

        Args:
            now_ms: The watermark, or the instant of the timer that it has reached.

        Returns:
            The expired halves, by version.
        """
        expired = [waiting for waiting in self._waiting.values() if waiting.deadline_ms <= now_ms]
        for waiting in expired:
            del self._waiting[waiting.half.version]
        self._paired = {version: until for version, until in self._paired.items() if until > now_ms}
        return tuple(self._missing(w.half) for w in sorted(expired, key=lambda w: w.half.version))

    def next_wake_ms(self) -> int | None:
        """The event time at which `on_time` has something to do; None when nothing is kept."""
        deadlines = [waiting.deadline_ms for waiting in self._waiting.values()]
        return min([*deadlines, *self._paired.values()], default=None)

    def waiting(self) -> int:
        """How many halves wait."""
        return len(self._waiting)

    def state(self) -> PairingState | None:
        """All that has to be kept, in the order of versions; None for nothing."""
        if not self._waiting and not self._paired:
            return None
        waiting = sorted(self._waiting.values(), key=lambda w: w.half.version)
        return PairingState(tuple(waiting), tuple(sorted(self._paired.items())))

    def _deadline(self, timestamp_ms: int, now_ms: int) -> int:
        return min(max(timestamp_ms, now_ms) + self._policy.timeout_ms, END_MS)

    def _wait(self, half: ArrivedHalf, now_ms: int) -> tuple[Unpaired, ...]:
        self._waiting[half.version] = Waiting(half, self._deadline(half.source.timestamp_ms, now_ms))
        if len(self._waiting) <= self._policy.max_waiting:
            return ()
        lowest = self._waiting.pop(min(self._waiting))
        detail = (
            f"more than {self._policy.max_waiting} versions of the image wait for their other half; "
            f"version {lowest.half.version} is the lowest of them"
        )
        return (Unpaired(lowest.half, BadRecord(Reason.TOO_MANY_VERSIONS, detail)),)

    def _remember(self, version: int, until_ms: int) -> None:
        self._paired[version] = until_ms
        if len(self._paired) > self._policy.max_paired:
            soonest = min(self._paired, key=lambda paired: (self._paired[paired], paired))
            del self._paired[soonest]

    def _missing(self, half: ArrivedHalf) -> Unpaired:
        detail = (
            f"version {half.version} came with its {half.side} embedding only: "
            f"the {half.side.other} embedding did not come within {self._policy.timeout_ms} ms"
        )
        return Unpaired(half, BadRecord(_MISSING[half.side.other], detail))
