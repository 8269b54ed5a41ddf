"""The share of branches that the tests took, by folder. The exit code is 1 when all together are below the goal.

python -m tests.support.branch_coverage REPORT.json [PERCENT]       a report of `coverage json`
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["by_folder", "main"]

GOAL = 95.0
"""Percent of the branches."""


def by_folder(report: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Branches taken and all branches, by top folder."""
    taken: Counter[str] = Counter()
    all_of: Counter[str] = Counter()
    for name, file in report["files"].items():
        folder = Path(name).parts[0]
        taken[folder] += file["summary"]["covered_branches"]
        all_of[folder] += file["summary"]["num_branches"]
    return {folder: (taken[folder], all_of[folder]) for folder in sorted(all_of)}


def main(report: Path, goal: float = GOAL) -> int:
    """Prints the shares; 1 when the goal is missed."""
    folders = by_folder(json.loads(report.read_text(encoding="utf-8")))
    taken, all_of = (sum(each) for each in zip(*folders.values(), strict=True))
    for folder, (mine, of) in [*folders.items(), ("all", (taken, all_of))]:
        sys.stdout.write(f"{folder:<12}{mine:>6} of {of:>6} branches{100 * mine / max(of, 1):>8.1f} %\n")
    if 100 * taken < goal * all_of:
        sys.stderr.write(f"the goal is {goal:g} % of all branches\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(float, sys.argv[2:])))
