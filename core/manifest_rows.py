"""Rows of manifests that go through the order, as records of the kind `member`: what became of each."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

__all__ = ["MANIFEST_ID", "MemberRow", "RowResult"]

MANIFEST_ID = re.compile("[0-9a-f]{32}")
"""How the content id of a manifest looks."""


class RowResult(StrEnum):
    """What became of a row."""

    JOINED = "joined"
    """The image is in the cluster of the head that the row names, wherever that head is now."""
    FOUNDED = "founded"
    """The row names the image itself as head, and so it is."""
    KEPT = "kept"
    """The same version has a verdict already, which stays."""
    SUPERSEDED = "superseded"
    """A higher version was placed, or this one was deleted."""
    ELSEWHERE_PINNED = "elsewhere_pinned"
    """Somebody has pinned the image to another one, whose cluster it joins."""
    ELSEWHERE_FORBIDDEN = "elsewhere_forbidden"
    """Somebody has forbidden that it shares a cluster with a member there, so it founds its own."""
    ELSEWHERE_HEAD_GONE = "elsewhere_head_gone"
    """The head that the row names is unknown, was deleted with its cluster, or was deleted as a member of another one.
    So the image founds its own cluster."""
    STAYS_HEAD = "stays_head"
    """An earlier version of the image is a head that has other members, so it stays one."""
    UNSCORED = "unscored"
    """The index refused the image, or no call for it succeeded. It founds its own cluster; its dead letter says why."""


class MemberRow(NamedTuple):
    """One row, and what became of it. Manifest and row identify the record, however often it is written."""

    manifest_id: str
    row: int
    result: RowResult
