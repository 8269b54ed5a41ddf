"""The manifest that somebody asked to load: is it still that one, and of the kind that can be loaded so?"""

from __future__ import annotations

from core.errors import BadInputError, MismatchError
from manifests.folder import Folder, read_manifest
from manifests.manifest import Kind, Manifest

__all__ = ["asked_manifest"]


def asked_manifest(folder: Folder, name: str, kind: Kind | None = None, manifest_id: str | None = None) -> Manifest:
    """Reads a manifest.

    Args:
        folder: Where it lies.
        name: Of the manifest, with `.json`.
        kind: What it must be for; a snapshot must have rows. None: whatever it is.
        manifest_id: Its content id; None: whatever it is.

    Raises:
        BadInputError: There is no such manifest, it is damaged, of another kind, or a snapshot without rows.
        MismatchError: It has another id.
        UnavailableError: The folder does not answer.
    """
    manifest = read_manifest(folder, name)
    where = f"{folder.uri}, manifest {name}"
    if manifest_id is not None and manifest.id != manifest_id:
        raise MismatchError(f"{where} has the id {manifest.id}, {manifest_id} was asked for: it was replaced")
    if kind is not None and manifest.kind is not kind:
        raise BadInputError(f"{where} is a {manifest.kind}, no {kind}")
    if manifest.kind is Kind.SNAPSHOT and not manifest.rows:
        raise BadInputError(f"{where} has no rows: there is nothing to begin with")
    return manifest
