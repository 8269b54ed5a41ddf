"""The results of the demo, as data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from stream.verdicts import Latency

__all__ = ["ChangedVerdict", "DemoQuality", "DemoReplay", "DemoReport", "LargeCluster", "LawCheck", "Score"]


@dataclass(frozen=True, slots=True)
class Score:
    """How well clusters agree with labels, each 0 to 1."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class DemoQuality:
    """Agreement with the labels over the groups of the test split."""

    groups: int
    images: int
    pairwise: Score
    bcubed: Score
    """Self-excluded: an image does not count as its own neighbour."""


@dataclass(frozen=True, slots=True)
class LargeCluster:
    """A cluster with its first members, as the HTTP API gives them."""

    head: str
    count: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LawCheck:
    """The check of law 2 over the whole store."""

    images: int
    clusters: int
    problem_count: int
    problems: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether it found no problem."""
        return self.problem_count == 0


@dataclass(frozen=True, slots=True)
class ChangedVerdict:
    """An image that was decided again with another result; without a head it is gone."""

    image_id: str
    change: str
    """The most important difference."""
    old_head: str
    head: str | None
    old_score: float | None
    score: float | None


@dataclass(frozen=True, slots=True)
class DemoReplay:
    """What deciding some images again has changed."""

    images: int
    counts: dict[str, int]
    """Images by the most important difference of their two verdicts."""
    changed: tuple[ChangedVerdict, ...]


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The outcome of one demo."""

    images: int
    clusters: int
    alone: int
    """Singletons: clusters of one image."""
    causes: dict[str, int]
    """Verdicts by cause."""
    dead_letters: int
    largest: tuple[LargeCluster, ...]
    picture: str | None
    """The drawing of the largest cluster with pictures, a path; None where no cluster has two pictures."""
    quality: DemoQuality
    latency: Latency
    law: LawCheck
    published_per_s: float
    seconds: dict[str, float]
    """Seconds by stage."""
    explained: dict[str, Any] | None = None
    """A trace of one verdict; None: no image was matched."""
    replay: DemoReplay | None = None
    """What deciding some images again has changed; None: no cluster has two images."""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        values: dict[str, Any] = asdict(self)
        values["law"]["sound"] = self.law.sound
        return values

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
