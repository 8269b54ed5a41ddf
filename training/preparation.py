"""Checks before training starts, and the name of the new version.

Training changes nothing that is in use. Versions never change. A newly learnt projection makes other codes, so it must
not replace the file in use, and its model must not be served where models of other codes are.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from core.errors import BadInputError
from scoring.model_folder import ModelFolder, version_name
from training.label_pairs import check_labels
from training.labelled import check_photos, check_splits, data_sha256
from training.training_settings import TrainSettings

__all__ = ["check_in_use", "large_name", "prepare"]


def prepare(settings: TrainSettings) -> str:
    """Checks what training reads and where it writes.

    Returns:
        The name of the new version; that of a large network is `large_name` of it.

    Raises:
        BadInputError: A file is missing or cannot be read, the folder of the projection is missing, or the name is
            invalid or taken.
    """
    check_photos(settings.photos)
    if settings.splits_of is not None:
        check_splits(settings.splits_of)
    if settings.labels is not None:
        check_labels(settings.labels)
    file = settings.fit_projection
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise BadInputError(
            f"the projection cannot be written to {file}: "
            + ("it is a folder" if file.is_dir() else f"there is no folder {file.parent}")
        )
    version = version_name(settings.version or _derived(settings))
    names = [version] if settings.large is None else [version, version_name(large_name(version))]
    folder = ModelFolder(settings.model)
    for name in names:
        if folder.path(name).exists():
            raise BadInputError(f"the version {name} exists already: {folder.path(name)}. {_way_out(settings, name)}")
    return version


def check_in_use(settings: TrainSettings, model: Path, projection: Path | None) -> None:
    """Checks that a newly learnt projection does not disturb a signal.

    Args:
        settings: Of the training.
        model: The folder of the signal's models.
        projection: The file of the signal's projection; None: its codes have no values.

    Raises:
        BadInputError: The new model would be served beside models of other codes, or the new projection would replace
            the one that they need.
    """
    folder, file = ModelFolder(model), settings.fit_projection
    if file is None or folder.pointer_stamp() is None:
        return
    served = folder.served()
    codes = "a newly learnt projection makes other codes"
    together = "then change `projection` and `model` in the settings together, and build a new index"
    if settings.serve and _same(settings.model, model):
        raise BadInputError(
            f"{model} serves {served}, and {codes}, which scorer, index and store refuse: train with --no-serve or "
            f"into another folder (--model FOLDER); {together}"
        )
    if projection is not None and _same(file, projection):
        raise BadInputError(
            f"{file} is the projection of {served}, which {model} serves, and {codes}: write it to another file; "
            f"{together}"
        )


def large_name(version: str) -> str:
    """The name of the large network's version beside a compact one."""
    return f"{version}-large"


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _derived(settings: TrainSettings) -> str:
    text = json.dumps([settings.describe(), data_sha256(settings.photos)], sort_keys=True)
    return f"pair-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _way_out(settings: TrainSettings, name: str) -> str:
    if settings.version:
        return "A version never changes: give the new one another name (--version NAME)"
    return (
        "Its name comes from data and settings, which are the same: training would give the same model. "
        f"`neardup model use {name}` serves it; --version NAME trains it again"
    )
