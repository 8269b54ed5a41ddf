"""The result of a run: the figures that goals name, tables for the terminal, and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.search.results import table

__all__ = ["draw", "print_tables", "summary"]

_Stretch = Mapping[str, Any]
"""One stretch, as `StretchResult` has its fields."""


def summary(
    bare: Mapping[str, Any], service: Sequence[_Stretch], peers: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """The figures that goals name; None where no run gave one.

    Args:
        bare: Of the bare loop.
        service: The stretches of the service.
        peers: Each alternative with its stretches.
    """
    saturated, at_200 = _named(service, "saturated"), _named(service, "200/s")
    per_s = saturated.get("per_s")
    cpu_ms = sum(saturated["part_ms"].values()) if saturated else None
    return {
        "service_images_per_s": per_s,
        "bare_images_per_s": bare["images_per_s"],
        "service_over_bare": None if per_s is None else round(per_s / bare["images_per_s"], 3),
        "cpu_ms_per_image": None if cpu_ms is None else round(cpu_ms, 3),
        "frame_ms_per_image": None if cpu_ms is None else round(cpu_ms - bare["cpu_ms_per_image"], 3),
        "p50_ms_at_200": at_200.get("p50_ms"),
        "p99_ms_at_200": at_200.get("p99_ms"),
        "best_peer_images_per_s": max(_speeds(peers).values(), default=None),
    }


def _named(stretches: Sequence[_Stretch], name: str) -> _Stretch:
    return next((one for one in stretches if one["name"] == name), {})


def _speeds(peers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {peer["name"]: _named(peer["stretches"], "saturated")["per_s"] for peer in peers}


def print_tables(result: Mapping[str, Any]) -> None:
    """Prints the goals' figures, speeds and waits, processor time by part and bytes by hop, in Markdown."""
    bare, service, peers = result["bare"], result["service"], result["peers"]
    figures = summary(bare, service, peers)
    table("Figures", ["", ""], [[name, "-" if value is None else value] for name, value in figures.items()])
    ran = [("service", service), *((peer["name"], peer["stretches"]) for peer in peers)]
    rows = [[name, *_waits(one)] for name, stretches in ran for one in stretches]
    columns = ["", "", "images/s", "p50 ms", "p99 ms", "p99.9 ms", "longest ms", "processor ms an image"]
    bare_row = ["bare loop, one core", "saturated", bare["images_per_s"], "", "", "", "", bare["cpu_ms_per_image"]]
    table(
        "Speed, and the wait from the arrival of the second half to the published verdict", columns, [bare_row, *rows]
    )
    measured = [one for one in service if one["name"] != "fill"]
    if measured:
        parts = [[part, *(one["part_ms"].get(part, 0.0) for one in measured)] for part in measured[0]["part_ms"]]
        parts.append(["generator, not counted above", *(one["generator_ms"] for one in measured)])
        table("Processor time of the service, ms an image", ["", *(one["name"] for one in measured)], parts)
        hops = [[hop, *(one["hop_bytes"].get(hop, 0.0) for one in measured)] for hop in measured[0]["hop_bytes"]]
        busy = [row for row in hops if any(row[1:])]
        table("Bytes an image by hop", ["", *(one["name"] for one in measured)], busy)
    table("Processor time of the bare loop, ms an image", ["", ""], list(bare["step_ms"].items()))
    for line in result["skipped"]:
        print(line)


def _waits(one: _Stretch) -> list[Any]:
    waits = [one[name] for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms")]
    return [one["name"], one["per_s"], *waits, sum(one["part_ms"].values())]


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draws images a second of all runs, and what an image costs in the service and in the bare loop, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    speeds, costs = figure.subplots(1, 2)
    saturated, bare = _named(result["service"], "saturated"), result["bare"]
    bars = {"bare loop, one core": bare["images_per_s"], "service": saturated.get("per_s", 0.0)}
    bars |= _speeds(result["peers"])
    colours = ["C0" if name == "service" else "0.7" for name in bars]
    speeds.bar_label(speeds.barh(list(bars), list(bars.values()), color=colours), fmt="%.0f")
    speeds.invert_yaxis()
    speeds.set(xlabel="images a second", title=f"{result['plan']['images']:,} images in the index")
    _stack(costs, "service", saturated.get("part_ms", {}))
    _stack(costs, "bare loop", bare["step_ms"])
    costs.set(ylabel="ms of processor time an image", title="what an image costs")
    costs.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _stack(axis: Any, name: str, costs: Mapping[str, float]) -> None:
    bottom = 0.0
    for part, ms in costs.items():
        axis.bar(name, ms, bottom=bottom, label=f"{part} {ms:.2f}")
        bottom += ms
