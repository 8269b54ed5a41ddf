"""Dead letters grouped by their reason: counts, times, and the newest of each. Memory does not grow with the topic."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from core.dead_letters import DeadLetter, Reason, parse_dead_letter
from core.errors import BadInputError
from core.settlements import Kind, parse_settlement
from stream.dead_letters.choice import DeadLetterChoice, Settlements
from stream.topic_reader import TopicRecord

__all__ = [
    "DeadLetterGroup",
    "DeadLetterState",
    "GroupedDeadLetters",
    "ListedDeadLetter",
    "group",
    "listed",
    "of_image",
]


class DeadLetterState(StrEnum):
    """Whether something is to be done about a dead letter still."""

    OPEN = "open"
    REPLAYED = "replayed"
    ACKNOWLEDGED = "acknowledged"


_STATES = {
    None: DeadLetterState.OPEN,
    Kind.REPLAYED: DeadLetterState.REPLAYED,
    Kind.ACKNOWLEDGED: DeadLetterState.ACKNOWLEDGED,
}


@dataclass(frozen=True, slots=True)
class ListedDeadLetter:
    """One dead letter, where it lies, and its state."""

    record: TopicRecord
    dead: DeadLetter
    state: DeadLetterState


@dataclass(slots=True)
class DeadLetterGroup:
    """All dead letters with one reason."""

    counts: Counter[DeadLetterState] = field(default_factory=Counter)
    oldest_open_ms: int | None = None
    newest_ms: int = 0
    newest: deque[ListedDeadLetter] = field(default_factory=deque)
    """The last ones, oldest first."""


@dataclass(slots=True)
class GroupedDeadLetters:
    """The groups, and what else lies in the topic."""

    groups: dict[Reason, DeadLetterGroup] = field(default_factory=dict)
    settlements: int = 0
    unreadable: int = 0
    """Records that are neither dead letters nor settlements."""

    def total(self, state: DeadLetterState) -> int:
        """How many are in a state."""
        return sum(each.counts[state] for each in self.groups.values())


def group(
    records: Iterable[TopicRecord],
    choice: DeadLetterChoice,
    settled: Settlements,
    shown: Callable[[DeadLetterState], bool] = lambda state: True,
    limit: int = 0,
) -> GroupedDeadLetters:
    """Groups what is chosen.

    Args:
        records: Of `dead-letter`, in order.
        choice: Which dead letters count.
        settled: All settlements behind the first of them.
        shown: The states of those that `newest` keeps.
        limit: How many `newest` keeps.
    """
    found = GroupedDeadLetters()
    for record in records:
        try:
            one = listed(record, settled)
        except BadInputError:
            is_settlement = parse_settlement(record.value) is not None
            found.settlements += is_settlement
            found.unreadable += not is_settlement
            continue
        if choice.takes(record, one.dead):
            _add(found, one, shown, limit)
    return found


def listed(record: TopicRecord, settled: Settlements) -> ListedDeadLetter:
    """A dead letter with its state.

    Raises:
        BadInputError: The record is none.
    """
    return ListedDeadLetter(record, parse_dead_letter(record.value), _STATES[settled.kind_of(record.offset)])


def of_image(records: Iterable[TopicRecord], key: bytes, limit: int) -> list[ListedDeadLetter]:
    """The dead letters of one image, oldest first.

    Args:
        records: Of `dead-letter`, in order. They are read once.
        key: The image's id.
        limit: The newest so many are kept.
    """
    own, settled = deque[TopicRecord](maxlen=limit), Settlements()
    for record in records:
        if record.key == key:
            own.append(record)
        elif (settlement := parse_settlement(record.value)) is not None:
            settled.add(settlement)
    return [listed(record, settled) for record in own if _is_dead_letter(record)]


def _is_dead_letter(record: TopicRecord) -> bool:
    try:
        parse_dead_letter(record.value)
    except BadInputError:
        return False
    return True


def _add(
    found: GroupedDeadLetters, one: ListedDeadLetter, shown: Callable[[DeadLetterState], bool], limit: int
) -> None:
    kept = found.groups.setdefault(one.dead.reason, DeadLetterGroup(newest=deque(maxlen=limit)))
    kept.counts[one.state] += 1
    time_ms = one.record.timestamp_ms
    kept.newest_ms = max(kept.newest_ms, time_ms)
    if one.state is DeadLetterState.OPEN and (kept.oldest_open_ms is None or time_ms < kept.oldest_open_ms):
        kept.oldest_open_ms = time_ms
    if shown(one.state):
        kept.newest.append(one)
