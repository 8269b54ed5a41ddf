"""A cluster as a picture: its members side by side, each with the score that brought it in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

__all__ = ["SheetMember", "draw_cluster", "most_pictures", "picture_files"]

mpl.use("agg")

_COLUMNS = 6
_TILE_INCHES = 2.0
_CAPTION_INCHES = 0.62
_TITLE_INCHES = 0.5
_LINE_INCHES = 0.22
_NAMES_A_LINE = 12
_LONGEST_NAME = 26
_DOTS_PER_INCH = 100
_NEARLY_ONE = 0.99995
"""From here on four digits would be rounded to 1, which no score reaches."""
_INK, _GREY, _HEAD = "#1f2328", "#59636e", "#0969da"


@dataclass(frozen=True, slots=True)
class SheetMember:
    """One member of a cluster, as a sheet shows it."""

    image_id: str
    cause: str
    """Why it is in the cluster, a value of `core.types.Cause`."""
    score: float | None
    """Of the match that brought it in, 0 to 1; None for an image that founded its cluster."""
    matched: str | None
    """The image it matched."""


def picture_files(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by image id: a file is named after its image."""
    return {path.stem: path for path in sorted(folder.glob("*.jpg"))}


def most_pictures(clusters: Mapping[str, Sequence[str]], pictures: Mapping[str, Path]) -> str | None:
    """The head of the cluster with the most pictures; None where no cluster has two.

    Ties go to the larger cluster, then to the one with a picture of its head, then to the first.

    Args:
        clusters: Members by head.
        pictures: Picture files by image id.
    """
    ranks = {
        head: (sum(member in pictures for member in members), len(members), head in pictures)
        for head, members in clusters.items()
    }
    best = max(ranks, key=ranks.__getitem__, default=None)
    return None if best is None or ranks[best][0] < 2 else best


def draw_cluster(head: str, members: Sequence[SheetMember], pictures: Mapping[str, Path], file: Path) -> None:
    """Draws a cluster: members with a picture as tiles, the names of all others below.

    Args:
        head: The image that names the cluster.
        members: All members, in the order in which they are shown; the head goes first.
        pictures: Picture files by image id.
        file: Written; its ending says whether it becomes PNG, JPEG or SVG.
    """
    ordered = sorted(members, key=lambda member: member.image_id != head)
    tiles = [member for member in ordered if member.image_id in pictures]
    shared = _shared([member.image_id for member in members])
    names = [_short(member.image_id, shared) for member in ordered if member.image_id not in pictures]
    lines = [names[start : start + _NAMES_A_LINE] for start in range(0, len(names), _NAMES_A_LINE)]
    rows = -(-len(tiles) // _COLUMNS)
    height = _TITLE_INCHES + rows * (_TILE_INCHES + _CAPTION_INCHES) + (len(lines) + bool(lines)) * _LINE_INCHES + 0.1
    width = _COLUMNS * _TILE_INCHES
    figure = plt.figure(figsize=(width, height), facecolor="white")

    def write(left: float, top: float, text: str, **style: Any) -> None:
        figure.text(left / width, 1 - top / height, text, va="top", **style)

    write(0.1, 0.14, f"cluster {head}", color=_INK, size=13, weight="bold")
    write(width - 0.1, 0.17, f"{len(members)} members, {len(tiles)} shown", color=_GREY, size=10, ha="right")
    for number, member in enumerate(tiles):
        row, column = divmod(number, _COLUMNS)
        left, top = column * _TILE_INCHES, _TITLE_INCHES + row * (_TILE_INCHES + _CAPTION_INCHES)
        inner = _TILE_INCHES - 0.2
        place = ((left + 0.1) / width, 1 - (top + inner) / height, inner / width, inner / height)
        axes = figure.add_axes(place, anchor="S")
        axes.imshow(plt.imread(pictures[member.image_id]))
        axes.set_axis_off()
        middle = left + _TILE_INCHES / 2
        value, colour = ("head", _HEAD) if member.image_id == head else (_value(member), _INK)
        write(middle, top + inner + 0.08, value, color=colour, size=13, weight="bold", ha="center")
        write(middle, top + inner + 0.33, _short(member.image_id, shared), color=_INK, size=8, ha="center")
        if member.matched is not None:
            matched = "matched the head" if member.matched == head else f"matched {_short(member.matched, shared)}"
            write(middle, top + inner + 0.50, matched, color=_GREY, size=8, ha="center")
    top = _TITLE_INCHES + rows * (_TILE_INCHES + _CAPTION_INCHES)
    if lines:
        noun = "member" if len(names) == 1 else "members"
        write(0.1, top, f"{len(names)} {noun} without a picture here", color=_GREY, size=9, weight="bold")
    for number, line in enumerate(lines, start=1):
        write(0.1, top + number * _LINE_INCHES, "   ".join(line), color=_GREY, size=9)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=_DOTS_PER_INCH)
    plt.close(figure)


def _value(member: SheetMember) -> str:
    if member.score is None:
        return member.cause
    return f"{member.score:.4f}" if member.score < _NEARLY_ONE else "> 0.9999"


def _shared(ids: Sequence[str]) -> str:
    """The beginning that all ids have in common."""
    low, high = min(ids), max(ids)
    return low[: next((at for at, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low))]


def _short(image_id: str, shared: str) -> str:
    """An id without what all members share: edits are often named after their photograph."""
    rest = image_id.removeprefix(shared)
    name = f"…{rest}" if shared and rest else image_id
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
