"""The results: `var/bench/search.json`, to which each part adds its own, and the tables.

Parts that were not asked for keep what an earlier run found; each part carries its own command, revision and time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import command_line, machine, revision

__all__ = ["Results", "table"]


class Results:
    """The file of results."""

    def __init__(self, path: Path) -> None:
        """Reads the results of earlier runs."""
        self._path = path
        self._whole: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    @property
    def ratio(self) -> float | None:
        """Our queries a second by those of the best exact peer; None before that was measured."""
        found: float | None = self._whole.get("ratio_to_best_exact_peer")
        return found

    def part(self, name: str) -> dict[str, Any] | None:
        """What is known of a part."""
        found: dict[str, Any] | None = self._whole.get("parts", {}).get(name)
        return found

    def add(self, name: str, measured: dict[str, Any]) -> None:
        """Writes the results of a part; the ratio is taken from the peers' part."""
        parts = self._whole.get("parts", {})
        parts[name] = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "revision": revision(),
            "command": command_line("benchmarks.search"),
            **measured,
        }
        ratio = parts.get("peers", {}).get("ratio_to_best_exact_peer")
        self._whole = {"ratio_to_best_exact_peer": ratio, "machine": machine().to_dict(), "parts": parts}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._whole, indent=2) + "\n", encoding="utf-8")
        fresh.replace(self._path)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table in Markdown, as `docs/benchmarks.md` has it."""
    print(f"\n### {title}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(_cell(value) for value in row)} |")
    print(flush=True)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
