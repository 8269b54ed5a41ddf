"""Draws the picture of `ARCHITECTURE.md`, for light and for dark pages: `python docs/images/draw_architecture.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["THEMES", "draw"]

THEMES: Mapping[str, Mapping[str, str]] = {
    "light": {
        "page": "#ffffff",
        "ink": "#1f2328",
        "grey": "#59636e",
        "frame": "#d1d9e0",
        "box": "#f6f8fa",
        "topic": "#ddf4ff",
        "topic_edge": "#54aeff",
        "server": "#dafbe1",
        "server_edge": "#4ac26b",
    },
    "dark": {
        "page": "#0d1117",
        "ink": "#f0f6fc",
        "grey": "#9198a1",
        "frame": "#3d444d",
        "box": "#151b23",
        "topic": "#121d2f",
        "topic_edge": "#388bfd",
        "server": "#12261e",
        "server_edge": "#2ea043",
    },
}
"""Colours by theme."""

WIDTH, HEIGHT = 1040, 430

TOPICS = {
    "embeddings.search": (20, 76, 165, ""),
    "embeddings.score": (20, 140, 165, ""),
    "joined": (470, 108, 120, "one partition: the order"),
    "dead-letter": (250, 250, 130, "rejected records"),
    "assignments": (690, 370, 140, "every change of a head"),
}
"""Left edge, middle, width and a note of each Kafka topic."""

STEPS = {
    "decode": (235, 108, "core/"),
    "join": (340, 108, "operators/"),
    "search": (645, 108, "operators/"),
    "score": (765, 108, "operators/"),
    "assign": (885, 108, "clustering/"),
}
"""Left edge, middle and folder of each step of the job."""

SERVERS = {
    "search server": (620, 250, 125, "term index", "search/"),
    "scorer": (755, 250, 105, "TensorFlow", "scoring/"),
    "storage server": (870, 250, 135, "RocksDB", "storage/"),
    "HTTP API": (870, 370, 135, "and command line", "storage/api/, stream/"),
}
"""Left edge, middle, width, what it rests on and the folder of each server."""

ARROWS = [
    "M185 76 C 210 76 210 100 233 104",
    "M185 140 C 210 140 210 116 233 112",
    "M315 108 H338",
    "M420 108 H468",
    "M590 108 H643",
    "M725 108 H763",
    "M845 108 H883",
    "M275 136 L300 222",
    "M380 136 L345 222",
]
"""Records, one way."""

CALLS = ["M683 136 V218", "M805 136 V218", "M925 136 V218"]
"""Calls to a server and their answers."""

OUT = ["M905 282 C 890 320 800 320 775 344", "M938 282 V336"]
"""What storage tells."""

FRAMES = {"Flink job: join": (220, 52, 215), "Flink job: the sequence": (630, 52, 350)}
"""Left edge, top and width of each pipeline of the job."""

_FONT = "font-family='-apple-system,Segoe UI,Helvetica,Arial,sans-serif'"


def draw(theme: str) -> str:
    """The picture as SVG.

    Args:
        theme: A key of `THEMES`.
    """
    colour = THEMES[theme]
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' {_FONT} role='img'>",
        "<title>The way of an image: Kafka, Flink, the three servers, and what comes out</title>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7'"
        f" orient='auto-start-reverse'><path d='M0 0L8 4L0 8z' fill='{colour['grey']}'/></marker></defs>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' rx='8' fill='{colour['page']}'/>",
    ]
    for title, (left, top, width) in FRAMES.items():
        parts.append(
            f"<rect x='{left}' y='{top}' width='{width}' height='98' rx='10' fill='none' stroke='{colour['frame']}'"
            " stroke-dasharray='5 4'/>"
        )
        parts.append(_text(left + 10, top - 8, title, colour["grey"], 12, anchor="start"))
    for path in ARROWS + OUT:
        parts.append(f"<path d='{path}' fill='none' stroke='{colour['grey']}' marker-end='url(#tip)'/>")
    for path in CALLS:
        parts.append(
            f"<path d='{path}' fill='none' stroke='{colour['grey']}' marker-end='url(#tip)' marker-start='url(#tip)'/>"
        )
    for name, (left, middle, width, note) in TOPICS.items():
        parts.append(_box(left, middle - 18, width, 36, 18, colour["topic"], colour["topic_edge"]))
        parts.append(_text(left + width / 2, middle + 5, name, colour["ink"], 13, weight=600))
        if note:
            parts.append(_text(left + width / 2, middle + 36, note, colour["grey"], 11))
    for name, (left, middle, folder) in STEPS.items():
        parts.append(_box(left, middle - 26, 80, 52, 6, colour["box"], colour["frame"]))
        parts.append(_text(left + 40, middle - 2, name, colour["ink"], 14, weight=600))
        parts.append(_text(left + 40, middle + 16, folder, colour["grey"], 11))
    for name, (left, middle, width, engine, folder) in SERVERS.items():
        parts.append(_box(left, middle - 32, width, 64, 6, colour["server"], colour["server_edge"]))
        parts.append(_text(left + width / 2, middle - 12, name, colour["ink"], 14, weight=600))
        parts.append(_text(left + width / 2, middle + 6, engine, colour["grey"], 11))
        parts.append(_text(left + width / 2, middle + 22, folder, colour["grey"], 11))
    parts += _legend(colour)
    return "\n".join([*parts, "</svg>", ""])


def _legend(colour: Mapping[str, str]) -> list[str]:
    entries = [("topic", "Kafka topic"), ("server", "server process (gRPC, HTTP)")]
    found = []
    for number, (kind, meaning) in enumerate(entries):
        top = 340 + 26 * number
        found.append(_box(20, top, 26, 16, 8 if kind == "topic" else 4, colour[kind], colour[f"{kind}_edge"]))
        found.append(_text(56, top + 13, meaning, colour["grey"], 12, anchor="start"))
    found.append(_box(20, 392, 26, 16, 4, colour["box"], colour["frame"]))
    found.append(_text(56, 405, "Flink operator, with the folder of its logic", colour["grey"], 12, anchor="start"))
    return found


def _box(left: float, top: float, width: float, height: float, radius: float, fill: str, edge: str) -> str:
    return f"<rect x='{left}' y='{top}' width='{width}' height='{height}' rx='{radius}' fill='{fill}' stroke='{edge}'/>"


def _text(
    left: float, base: float, text: str, colour: str, size: int, *, anchor: str = "middle", weight: int = 400
) -> str:
    style = f"font-size='{size}' font-weight='{weight}' text-anchor='{anchor}'"
    return f"<text x='{left:g}' y='{base:g}' fill='{colour}' {style}>{text}</text>"


if __name__ == "__main__":
    for name in THEMES:
        Path(__file__).with_name(f"architecture-{name}.svg").write_text(draw(name), encoding="utf-8")
