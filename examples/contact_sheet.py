"""Draws a cluster of the service as a contact sheet: its pictures, each with the score that brought it in.

    neardup tail assignments --from-start --limit 2145 | python examples/contact_sheet.py HEAD SHEET.png [FOLDER]

The records of `assignments` come on standard input, one JSON object a line, oldest first. HEAD names the cluster.
FOLDER holds the pictures, each named after its image id (`ID.jpg`); without it those of the demo are taken.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from stream.demo.picture import SheetMember, draw_cluster, picture_files

__all__ = ["cluster_of", "main"]

DEMO_PICTURES = Path(__file__).parent / "photos" / "demo"


def cluster_of(head: str, records: Iterable[str]) -> list[SheetMember]:
    """The members of a cluster, by id.

    Args:
        head: The image that names the cluster.
        records: JSON records of `assignments` from the first on; a later one replaces an earlier one of its image.
    """
    latest = {record["image_id"]: record for record in map(json.loads, records)}
    mine = [latest[image_id] for image_id in sorted(latest) if latest[image_id]["head"] == head]
    return [SheetMember(each["image_id"], each["cause"], each["score"], each["matched"]) for each in mine]


def main(head: str, sheet: Path, folder: Path) -> None:
    """Reads standard input and draws the sheet."""
    members = cluster_of(head, sys.stdin)
    if not members:
        sys.exit(f"no record names the head {head}")
    draw_cluster(head, members, picture_files(folder), sheet)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) == 4 else DEMO_PICTURES)
