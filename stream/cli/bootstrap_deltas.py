"""How deltas are shown: as a bar while they are followed, as a table, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stream.cli.output import counted, line, progress_bar, stages, table
from stream.cli.texts import duration_text, time_text

if TYPE_CHECKING:
    from core.first_loads import LoadReport
    from storage.loading.delta_report import DeltaReport

__all__ = ["delta_bar", "delta_json", "rate_and_left", "show_deltas", "show_results"]

_COLUMNS = ("delta", "id", "state", "rows", "rate", "left", "began", "results", "detail")


def show_deltas(reports: Sequence[DeltaReport]) -> None:
    """All of them as a table, then the rows of which something else became than they say."""
    table(_COLUMNS, [_row(each) for each in reports])
    for each in reports:
        _show_examples(each)


def show_results(report: DeltaReport) -> None:
    """What became of the rows of one."""
    for result, rows in report.counts.items():
        line(f"{_words(result)}: {counted(rows, 'row')}")
    _show_examples(report)


def delta_json(report: DeltaReport) -> dict[str, Any]:
    """All that is known of one."""
    return {
        **asdict(report.load),
        "state": str(report.load.state),
        "counts": {str(result): rows for result, rows in report.counts.items()},
        "examples": [
            {"row": each.row, "image_id": each.image_id, "result": str(each.result)} for each in report.examples
        ],
    }


@contextmanager
def delta_bar() -> Iterator[Callable[[DeltaReport], None]]:
    """A bar for one delta; without a terminal, a note for each new state."""
    with progress_bar(time_left=True) as bar:
        task, tell_stage = bar.add_task("rows", total=None, note=""), stages()

        def tell(report: DeltaReport) -> None:
            load = report.load
            words = f"{load.state} {load.detail}".strip()
            bar.update(task, completed=load.rows_done, total=load.rows_total or None, note=words)
            tell_stage(words)

        yield tell


def rate_and_left(report: LoadReport) -> tuple[str, str]:
    """The pace, and how long the rest takes at it; empty where there is none."""
    if report.rows_per_s <= 0:
        return "", ""
    return f"{report.rows_per_s:,.0f}/s", duration_text((report.rows_total - report.rows_done) / report.rows_per_s)


def _row(report: DeltaReport) -> tuple[object, ...]:
    load = report.load
    rows = f"{load.rows_done:,} of {load.rows_total:,}" if load.rows_total else f"{load.rows_done:,}"
    results = ", ".join(f"{count:,} {_words(result)}" for result, count in report.counts.items())
    name = f"{load.request.folder}/manifests/{load.request.manifest}" if load.request.manifest else ""
    began = time_text(load.started_ms)
    return name, load.request.manifest_id, load.state, rows, *rate_and_left(load), began, results, load.detail


def _show_examples(report: DeltaReport) -> None:
    name = report.load.request.manifest or report.load.request.manifest_id
    for each in report.examples:
        line(f"{name}: row {each.row:,}, {each.image_id}: {_words(each.result)}")


def _words(result: str) -> str:
    return result.replace("_", " ")
