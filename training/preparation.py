"""What can be wrong with a training before it starts, found before it costs anything; and the new version's name.

Nothing that is in use changes under it: versions never change, and a projection that is learnt anew, which makes other
codes, neither takes the place of the one in use nor makes its model the served one.
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
    """Checks what a training reads and where it writes.

    Returns:
        The name of the version that it will make; a large network's is `large_name` of it.

    Raises:
        BadInputError: A file is missing or cannot be read, the folder of the projection is missing, the name is none,
            or a version of that name is there already.
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
            raise BadInputError(f"the version {name} is there already: {folder.path(name)}. {_way_out(settings, name)}")
    return version


def check_in_use(settings: TrainSettings, model: Path, projection: Path | None) -> None:
    """Makes sure that a projection learnt anew leaves alone what a signal uses.

    Args:
        settings: Of the training.
        model: The folder of the signal's models.
        projection: The file of the signal's projection; None: its codes have no values.

    Raises:
        BadInputError: Its model would be served where models of other codes are, or its projection take the place of
            the one that they need.
    """
    folder, file = ModelFolder(model), settings.fit_projection
    if file is None or folder.pointer_stamp() is None:
        return
    served = folder.served()
    codes = "a projection that is learnt anew makes other codes"
    together = "then name projection and folder in the settings together, and build the index anew"
    if settings.serve and _same(settings.model, model):
        raise BadInputError(
            f"{model} serves {served}, and {codes}, which scorer, index and store refuse: train with --no-serve or "
            f"into another folder (--model FOLDER), {together}"
        )
    if projection is not None and _same(file, projection):
        raise BadInputError(
            f"{file} is the projection that {served}, which {model} serves, was trained with, and {codes}: write it to "
            f"another file, {together}"
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
        return "A version never changes: name the new one differently (--version NAME)"
    return (
        "Its name is made of data and settings, which are the same: this training would give the same model. "
        f"`neardup model use {name}` serves it; --version NAME trains it once more"
    )
