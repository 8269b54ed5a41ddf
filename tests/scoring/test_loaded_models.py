"""The models in memory: loaded once, bounded, of one kind of codes, and the served one changed while it serves."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from core.errors import BadInputError, MismatchError
from scoring.card import ModelCard
from scoring.code_identity import CodeIdentity
from scoring.loaded_models import LoadedModels, Refusal
from scoring.model_folder import ModelFolder
from tests.support.fake_model import FakeModel, card, write_version


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    for version in ("v1", "v2", "v3"):
        write_version(tmp_path, version)
    made = ModelFolder(tmp_path)
    made.use("v1")
    return made


class Recorded(FakeModel):
    """Remembers which versions were loaded; can be made to fail. Each test gets a class of its own."""

    loaded: ClassVar[list[str]]
    load_error: ClassVar[Exception | None]

    @classmethod
    def load(cls, folder: Path, card: ModelCard) -> FakeModel:
        cls.loaded.append(folder.name)
        if cls.load_error is not None:
            raise cls.load_error
        return cls(card)


@pytest.fixture
def kind() -> type[Recorded]:
    class Own(Recorded):
        loaded: ClassVar[list[str]] = []
        load_error = None

    return Own


def test_models_are_loaded_once_warm_and_the_last_used_stay(folder: ModelFolder, kind: type[Recorded]) -> None:
    models = LoadedModels(folder, kind, kept=1)
    for version in ("", "v1", "v2", "v2", "v3", "v2"):
        model = models.get(version)
        assert model.card.version == (version or "v1")
        assert isinstance(model, FakeModel)
        assert model.warm
    assert kind.loaded == ["v1", "v2", "v3", "v2"]


def test_loading_fails_at_once_without_a_served_model(folder: ModelFolder) -> None:
    (folder.folder / "served").unlink()
    with pytest.raises(BadInputError, match="train a model first"):
        LoadedModels(folder, FakeModel)


def test_a_look_without_a_change_reads_nothing(folder: ModelFolder, kind: type[Recorded]) -> None:
    models = LoadedModels(folder, kind)
    assert not models.refresh()
    assert kind.loaded == ["v1"]


def test_a_changed_pointer_changes_the_served_model_and_keeps_the_old_in_memory(
    folder: ModelFolder, kind: type[Recorded]
) -> None:
    models = LoadedModels(folder, kind)
    folder.use("v2")
    assert models.served.card.version == "v1"
    assert models.refresh()
    assert (models.served.card.version, models.refusal) == ("v2", None)
    assert models.get("v1").card.version == "v1"
    assert kind.loaded == ["v1", "v2"]
    folder.roll_back()
    assert models.refresh()
    assert kind.loaded == ["v1", "v2"]


def test_a_new_version_is_warm_before_it_is_served_and_the_old_one_serves_until_then(folder: ModelFolder) -> None:
    warmed: list[tuple[str, str]] = []

    class Watched(FakeModel):
        def warm_up(self) -> None:
            super().warm_up()
            if self.card.version == "v2":
                warmed.append((self.card.version, models.served.card.version))

    models = LoadedModels(folder, Watched)
    folder.use("v2")
    assert models.refresh()
    assert warmed == [("v2", "v1")]
    assert models.served is models.get("v2")
    assert isinstance(models.served, Watched)
    assert models.served.warm


def test_a_version_that_cannot_be_warmed_up_is_not_served(folder: ModelFolder) -> None:
    class Cold(FakeModel):
        def warm_up(self) -> None:
            if self.card.version == "v2":
                raise RuntimeError("no memory for its shapes")

    models = LoadedModels(folder, Cold)
    folder.use("v2")
    assert not models.refresh()
    assert (models.served.card.version, models.refusal) == ("v1", Refusal("v2", "no memory for its shapes"))
    with pytest.raises(RuntimeError, match="no memory"):
        models.get("v2")


@pytest.mark.parametrize("error", [BadInputError("damaged"), RuntimeError("damaged"), MemoryError()])
def test_what_cannot_be_loaded_leaves_the_old_one_until_the_pointer_is_written_again(
    folder: ModelFolder, kind: type[Recorded], error: Exception
) -> None:
    models = LoadedModels(folder, kind)
    kind.load_error = error
    folder.use("v2")
    assert not models.refresh()
    assert models.served.card.version == "v1"
    assert models.refusal == Refusal("v2", str(error) or "MemoryError")
    assert not models.refresh()
    assert kind.loaded == ["v1", "v2"]
    kind.load_error = None
    folder.use("v2")
    assert models.refresh()
    assert models.refusal is None


def test_models_for_other_codes_are_refused_before_they_are_opened(folder: ModelFolder, kind: type[Recorded]) -> None:
    write_version(folder.folder, "other", fingerprint="f" * 64)
    models = LoadedModels(folder, kind)
    with pytest.raises(MismatchError, match=r"other codes: code fingerprint ffffffffffff\.\.\. instead of code"):
        models.get("other")
    folder.use("other")
    assert not models.refresh()
    assert models.served.card.version == "v1"
    assert kind.loaded == ["v1"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bits": 128}, "bits 64 instead of 128"),
        ({"code_fingerprint": "else"}, "code fingerprint code instead of else"),
        ({"embedding_name": "resnet"}, "embedding name net instead of resnet"),
        ({"embedding_version": "2", "bits": 8}, "bits 64 instead of 8; embedding version 1 instead of 2"),
    ],
)
def test_the_first_model_must_fit_the_settings(folder: ModelFolder, values: dict[str, str], message: str) -> None:
    wanted = {"bits": 64, "code_fingerprint": "code", "embedding_name": "net", "embedding_version": "1"} | values
    with pytest.raises(MismatchError, match=message):
        LoadedModels(folder, FakeModel, codes=CodeIdentity(**wanted))  # type: ignore[arg-type]


def test_a_model_of_the_same_codes_fits() -> None:
    CodeIdentity.of(card("v1")).check(card("v2"))
