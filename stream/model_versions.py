"""The versions of a signal's model, and how the served one is changed while the scorer runs.

The file `served` is changed first; a running scorer notices it and switches. If the scorer refuses the new version, it
goes on serving the old one, and `served` is restored, so that the next start finds a version that works.
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
"""The splits that a card may have metrics of, the best first: images that training never saw, then those on which it
chose thresholds and the best round."""

_LOOK_S = 0.1
"""Seconds between two calls to a scorer that should switch."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version."""

    version: str
    served: bool
    card: ModelCard | None
    """None: the version cannot be used; `problem` says why."""
    problem: str = ""

    @property
    def split(self) -> str:
        """The split that precision and recall were measured on, `test` or `val`; empty: the card has neither."""
        metrics = self.card.metrics if self.card else {}
        names = ("precision_at_accept", "recall_at_accept")
        return next((split for split in _SPLITS if all(f"{split}_{name}" in metrics for name in names)), "")

    @property
    def precision(self) -> float | None:
        """Precision at `accept`, on the images of `split`; None: it is not in the card."""
        return self._measured("precision_at_accept")

    @property
    def recall(self) -> float | None:
        """Recall at `accept`, on the images of `split`; None: it is not in the card."""
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
    """Whether a running scorer already serves it; False: no scorer is running."""


class Describes(Protocol):
    """A client of the scorer."""

    def describe(self) -> DescribeResponse:
        """The served model."""
        ...


def kept_versions(folder: ModelFolder) -> list[ModelVersion]:
    """All versions, damaged ones included, sorted by name."""
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
        folder: The folder of the signal's models.
        version: The version to serve.
        codes: The codes that the signal's models must compare.
        scorer: A client of the signal's scorer, which need not be running.
        patience_s: The longest that a running scorer may take to load the version, in seconds.
        sleep: Sleeps for some seconds.

    Raises:
        BadInputError: There is no such version, a file of it is missing or damaged, or the scorer refused it.
        MismatchError: It compares other codes.
        UnavailableError: The scorer still serves the old version after that time; it may switch later.
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
    """Serves the previous version again. Arguments and errors are those of `change_served`."""
    before = folder.served_since()
    if len(before) > 1:
        codes.check(folder.check(before[1]))
    folder.roll_back()
    return _confirmed(folder, before, scorer, patience_s, sleep)


def _confirmed(
    folder: ModelFolder, before: list[str], scorer: Describes, patience_s: float, sleep: Callable[[float], None]
) -> Change:
    """Waits until a running scorer serves the version in `served`; restores `served` if the scorer refuses it."""
    version = folder.served()
    for _ in range(max(1, round(patience_s / _LOOK_S))):
        try:
            described = scorer.describe()
        except UnavailableError:
            return Change(before[0] if before else "", version, confirmed=False)
        # The answer may still hold an older refusal: only one of this version counts.
        if described.model_version == version and not described.refusal:
            return Change(before[0] if before else "", version, confirmed=True)
        if described.refused_version == version and described.model_version != version:
            raise _refused(folder, before, described.refusal)
        sleep(_LOOK_S)
    raise UnavailableError(f"the scorer still serves {described.model_version} after {patience_s:g} s, not {version}")


def _refused(folder: ModelFolder, before: list[str], reason: str) -> BadInputError:
    if before:
        folder.restore(before)
    kept = f"; it goes on serving {before[0]}" if before else ""
    return BadInputError(f"the scorer refused it: {reason}{kept}")
