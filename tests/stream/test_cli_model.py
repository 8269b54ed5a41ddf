"""`neardup model`: what is listed, and the served version changed with and without a running scorer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from search.errors import BadInputError, UnavailableError
from search.scoring.code_identity import CodeIdentity
from search.scoring.model_folder import ModelFolder
from search.serving.scorer_pb2 import DescribeResponse
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.model_versions import Change, change_served, kept_versions, roll_back_served
from tests.support.fake_model import card, write_version
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[2]
SAMPLE_MODEL = ROOT / "examples" / "photos" / "model"
CODES = CodeIdentity.of(card())


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    for version in ("v1", "v2"):
        write_version(tmp_path, version)
    made = ModelFolder(tmp_path)
    made.use("v1")
    return made


class Scorer:
    """Answers with what it was given, one answer a question; the last for ever."""

    def __init__(self, *answers: DescribeResponse) -> None:
        self.answers = list(answers)

    def describe(self) -> DescribeResponse:
        if not self.answers:
            raise UnavailableError("down")
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def serving(version: str, refused: str = "", refusal: str = "") -> DescribeResponse:
    return DescribeResponse(model_version=version, refused_version=refused, refusal=refusal)


def test_without_a_scorer_the_pointer_alone_changes(folder: ModelFolder) -> None:
    assert change_served(folder, "v2", CODES, Scorer()) == Change("v1", "v2", confirmed=False)
    assert roll_back_served(folder, CODES, Scorer()) == Change("v2", "v1", confirmed=False)
    assert folder.served_since() == ["v1"]


def test_a_running_scorer_is_waited_for(folder: ModelFolder) -> None:
    slept: list[float] = []
    scorer = Scorer(serving("v1"), serving("v1", "v0", "of an earlier change"), serving("v2"))
    assert change_served(folder, "v2", CODES, scorer, sleep=slept.append) == Change("v1", "v2", confirmed=True)
    assert len(slept) == 2


def test_a_refusal_puts_the_pointer_back(folder: ModelFolder) -> None:
    scorer = Scorer(serving("v1"), serving("v1", "v2", "weights are damaged"))
    with pytest.raises(BadInputError, match="refused it: weights are damaged; v1 is served as before"):
        change_served(folder, "v2", CODES, scorer, sleep=lambda _: None)
    assert folder.served_since() == ["v1"]


def test_a_scorer_that_never_switches_is_told(folder: ModelFolder) -> None:
    with pytest.raises(UnavailableError, match="still serves v1 after 1 s, not v2"):
        change_served(folder, "v2", CODES, Scorer(serving("v1")), patience_s=1.0, sleep=lambda _: None)


def test_damaged_versions_are_listed_with_the_reason(folder: ModelFolder) -> None:
    (folder.path("v2") / "metadata.json").unlink()
    first, second = kept_versions(folder)
    assert (first.version, first.served, first.problem) == ("v1", True, "")
    assert second.card is None
    assert "v2 has no metadata.json" in second.problem


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Settings whose model folder is a copy of the sample's, and whose scorer does not run."""
    shutil.copytree(SAMPLE_MODEL, tmp_path / "model")
    (port,) = free_ports(1)
    file = tmp_path / "neardup.toml"
    text = (ROOT / "neardup.toml").read_text()
    for old, new in (
        ('"examples/photos/model"', '"model"'),
        ('"examples/photos/', f'"{ROOT}/examples/photos/'),
        ("port = 17002", f"port = {port}"),
    ):
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return file


def test_list_use_and_rollback_as_commands(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ModelFolder(settings.parent / "model")
    served = folder.served()
    shutil.copytree(folder.path(served), folder.path("copy"))
    text = (folder.path("copy") / "metadata.json").read_text().replace(f'"{served}"', '"copy"')
    (folder.path("copy") / "metadata.json").write_text(text)

    assert main(["--settings", str(settings), "model", "list", "--json"]) == Exit.OK
    listed = json.loads(capsys.readouterr().out)["versions"]
    assert {one["version"]: one["served"] for one in listed} == {"copy": False, served: True}
    assert all(0 < one["recall"] < one["precision"] <= 1 for one in listed)

    assert main(["--settings", str(settings), "model", "use", "copy", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"before": served, "now": "copy", "confirmed": False}
    assert main(["--settings", str(settings), "model", "rollback"]) == Exit.OK
    assert f"{served} instead of copy" in capsys.readouterr().out
    assert main(["--settings", str(settings), "model", "rollback"]) == Exit.USAGE
    assert "no version was in use before" in capsys.readouterr().err

    assert main(["--settings", str(settings), "model", "use", "gone"]) == Exit.USAGE
    assert "no model version 'gone'" in " ".join(capsys.readouterr().err.split())
    assert folder.served() == served


def test_a_model_for_other_codes_is_not_served(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_version(settings.parent / "model", "other")
    before = ModelFolder(settings.parent / "model").served()
    assert main(["--settings", str(settings), "model", "use", "other"]) == Exit.MISMATCH
    assert "bits 64 instead of 1024" in capsys.readouterr().err
    assert ModelFolder(settings.parent / "model").served() == before
