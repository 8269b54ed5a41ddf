"""The first pass over a manifest: whether all rows fit together, and which of them a later one takes the place of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.errors import BadInputError
from manifests.clustered_files import Signal
from manifests.folder import Folder
from manifests.identities import Checked, Identities, Problem
from manifests.manifest import Manifest
from manifests.rows import located, read_identities

__all__ = ["checked_identities"]

_AT_ONCE = 65_536

_NAMED = 3
"""Problems that a message names."""


def checked_identities(
    folder: Folder, manifest: Manifest, signal: Signal, spool: Path, on_rows: Callable[[int], None]
) -> Checked:
    """Reads ids, versions and heads of all rows.

    Args:
        folder: Where the files lie.
        manifest: Names them.
        signal: What they must have been made for.
        spool: For buckets and copies.
        on_rows: Told how many rows were read. What it raises ends the pass.

    Raises:
        BadInputError: Rows do not fit together; the message names the first of them. Or a value is wrong.
        MismatchError: A file is not the one that the manifest names, or was made for other settings.
        UnavailableError: The folder does not answer.
        OSError: The disk is full.
    """
    with Identities(spool, manifest.rows) as identities:
        for rows in read_identities(folder, manifest, signal, spool, _AT_ONCE):
            identities.add(rows.first, rows.ids, rows.versions, rows.heads)
            on_rows(rows.first + len(rows.ids))
        checked = identities.check(lambda done, total: on_rows(manifest.rows))
    if checked.problem_count:
        named = [_named(manifest, one) for one in checked.problems[:_NAMED]]
        more = checked.problem_count - len(named)
        raise BadInputError("; ".join(named) + (f"; and {more:,} more" if more else ""))
    return checked


def _named(manifest: Manifest, problem: Problem) -> str:
    path, row = located(manifest, problem.row)
    other = "" if problem.other is None else "{1} of {0}".format(*located(manifest, problem.other))
    return f"{path}: row {row}: {problem.fault.format(other=other)}"
