"""The kept versions of a signal's model, and changing the one that is served while the scorer runs.

The pointer in the folder is changed first; a running scorer sees it and switches by itself. A scorer that refuses the
new version goes on with the old one, and the pointer is put back, so that its next start finds a version that works.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from core.errors import BadInputError, UnavailableError
from scoring.code_identity import CodeIdentity
from scoring.model_folder import ModelFolder

if TYPE_CHECKING:
    from scoring.card import ModelCard
    from scoring.serving.scorer_pb2 import DescribeResponse

__all__ = ["Change", "ModelVersion", "change_served", "kept_versions", "roll_back_served"]

_SPLITS = ("test", "val")
"""The splits that a card's metrics are of, the most telling first: images that training never saw, and those that it
chose thresholds and the last round by."""

_LOOK_S = 0.1
"""Between two looks at a scorer that is to switch."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One kept version."""

    version: str
    served: bool
    card: ModelCard | None
    """None: it cannot be used; `problem` says why."""
    problem: str = ""

    @property
    def split(self) -> str:
        """The split that precision and recall are of, `test` or `val`; empty: the card has neither."""
        metrics = self.card.metrics if self.card else {}
        names = ("precision_at_accept", "recall_at_accept")
        return next((split for split in _SPLITS if all(f"{split}_{name}" in metrics for name in names)), "")

    @property
    def precision(self) -> float | None:
        """At `accept`, on the images of `split`; None: the card has none."""
        return self._measured("precision_at_accept")

    @property
    def recall(self) -> float | None:
        """At `accept`, on the images of `split`; None: the card has none."""
        return self._measured("recall_at_accept")

    def _measured(self, name: str) -> float | None:
        return self.card.metrics[f"{self.split}_{name}"] if self.card and self.split else None


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the served version."""

    before: str
    """Empty: none was served."""
    now: str
    confirmed: bool
    """A running scorer serves it already; False: none runs, its next start will."""


class Describes(Protocol):
    """A client of the scorer."""

    def describe(self) -> DescribeResponse:
        """What it serves."""
        ...


def kept_versions(folder: ModelFolder) -> list[ModelVersion]:
    """All versions, sorted by name, damaged ones included."""
    served = folder.served() if folder.pointer_stamp() is not None else ""
    found = []
    for version in folder.folders():
        try:
            found.append(ModelVersion(version, version == served, folder.card(version)))
        except BadInputError as error:
            found.append(ModelVersion(version, version == served, None, str(error)))
    return found


def change_served(
    folder: ModelFolder,
    version: str,
    codes: CodeIdentity,
    scorer: Describes,
    patience_s: float = 60.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Change:
    """Makes a version the served one.

    Args:
        folder: Of the signal's models.
        version: The one to serve.
        codes: What the signal's models must compare.
        scorer: A client of the signal's scorer; it need not run.
        patience_s: How long a running scorer may take to load the version.
        sleep: Takes seconds.

    Raises:
        BadInputError: There is no such version, a file of it is missing or damaged, or the scorer refused it.
        MismatchError: It compares other codes.
        UnavailableError: The scorer still serves the old version after that time; it may yet switch.
    """
    codes.check(folder.check(version))
    before = folder.served_since() if folder.pointer_stamp() is not None else []
    folder.use(version)
    return _confirmed(folder, before, scorer, patience_s, sleep)


def roll_back_served(
    folder: ModelFolder,
    codes: CodeIdentity,
    scorer: Describes,
    patience_s: float = 60.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Change:
    """Makes the version the served one that was so before the present one. Arguments and errors as `change_served`."""
    before = folder.served_since()
    if len(before) > 1:
        codes.check(folder.check(before[1]))
    folder.roll_back()
    return _confirmed(folder, before, scorer, patience_s, sleep)


def _confirmed(
    folder: ModelFolder, before: list[str], scorer: Describes, patience_s: float, sleep: Callable[[float], None]
) -> Change:
    """Waits until a running scorer serves what the pointer names; puts the pointer back if it refuses."""
    version = folder.served()
    for _ in range(max(1, round(patience_s / _LOOK_S))):
        try:
            described = scorer.describe()
        except UnavailableError:
            return Change(before[0] if before else "", version, confirmed=False)
        # An older refusal may still stand in the scorer's answer: only its own name counts.
        if described.model_version == version and not described.refusal:
            return Change(before[0] if before else "", version, confirmed=True)
        if described.refused_version == version and described.model_version != version:
            raise _refused(folder, before, described.refusal)
        sleep(_LOOK_S)
    raise UnavailableError(f"the scorer still serves {described.model_version} after {patience_s:g} s, not {version}")


def _refused(folder: ModelFolder, before: list[str], reason: str) -> BadInputError:
    if before:
        folder.restore(before)
    kept = f"; {before[0]} is served as before" if before else ""
    return BadInputError(f"the scorer refused it: {reason}{kept}")
