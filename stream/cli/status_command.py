"""`neardup status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from core.errors import UnavailableError
from stream.cli.context import AsJson, of
from stream.cli.output import line, note, show_json, table
from stream.cli.texts import duration_text, job_text

if TYPE_CHECKING:
    from stream.overview import Overview, SignalOverview

__all__ = ["status"]


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the state of everything: parts, counts, jobs, lag, and certificates that end within 30 days.

    The exit code is 0 if all is well, and 4 if a part is not ready or a job does not run that should.

    Examples:

        neardup status

        curl "$(neardup status --json | jq -r .http_api)/v1/stats"
    """
    from stream.overview import overview

    settings = of(context).running()
    found = overview(settings)
    if as_json:
        show_json(_as_json(found, settings.default_signal))
    else:
        _show(found)
    if found.down:
        raise UnavailableError("nothing is running: `neardup up` starts it")
    if not found.ok:
        raise UnavailableError(f"not ready: {', '.join(found.unready)}")


def _show(found: Overview) -> None:
    rows = [
        (
            part.name,
            part.state,
            part.pid,
            duration_text(part.uptime_s) if part.uptime_s else None,
            part.detail.partition("\n")[0],
        )
        for part in found.parts
    ]
    table(("part", "state", "pid", "up", ""), rows, right=("pid", "up"))
    if not found.supervised:
        note("(no supervisor runs here: each part was checked directly)", style="dim")
    for signal in found.signals:
        _show_signal(signal, asked=not found.down)
    # Before the first start there is none.
    for certificate in () if found.down else found.certificates:
        if warning := certificate.warning(time.time()):
            line("")
            line(f"warning: {warning}")
    line("")
    line(f"Kafka {found.kafka}   Flink {found.flink}   data {found.data}")


def _show_signal(signal: SignalOverview, *, asked: bool) -> None:
    line("")
    line(f"signal {signal.name}, HTTP API {signal.http_api}")
    by_hand = "" if signal.job_wanted else " (stopped by hand: `neardup job start` starts it)"
    if asked:
        line(f"  job: {job_text(signal.job)}{by_hand}")
    if signal.stats is not None:
        counts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in _scalars(signal.stats))
        line(f"  store: {counts}")
    if signal.lag is not None:
        line(f"  behind: {', '.join(f'{topic} {records:,}' for topic, records in signal.lag.items())}")
    if signal.open_dead_letters is not None:
        by_reason = ", ".join(f"{reason} {count:,}" for reason, count in sorted(signal.open_dead_letters.items()))
        line(f"  open dead letters: {by_reason or 'none'}")
    for problem in signal.problems:
        line(f"  problem: {problem}")


def _scalars(stats: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, f"{value:,}" if isinstance(value, int) else str(value))
        for name, value in stats.items()
        if isinstance(value, int | str | float)
    ]


def _as_json(found: Overview, default_signal: str) -> dict[str, Any]:
    signals = {
        signal.name: {
            "ok": signal.ok,
            "http_api": signal.http_api,
            "stats": signal.stats,
            "job": None if signal.job is None else {"id": signal.job.job_id, "state": signal.job.state},
            "job_wanted": signal.job_wanted,
            "lag": signal.lag,
            "open_dead_letters": signal.open_dead_letters,
            "problems": signal.problems,
        }
        for signal in found.signals
    }
    return {
        "ok": found.ok,
        "http_api": signals[default_signal]["http_api"],
        "kafka": found.kafka,
        "flink": found.flink,
        "data": found.data,
        "supervised": found.supervised,
        "parts": [
            {
                "name": part.name,
                "ok": part.ok,
                "state": part.state,
                "pid": part.pid,
                "uptime_s": part.uptime_s,
                "detail": part.detail,
            }
            for part in found.parts
        ],
        "signals": signals,
        "certificates": [
            {"name": each.name, "file": str(each.file), "days_left": each.days_left(time.time())}
            for each in found.certificates
        ],
    }
