"""`neardup model`: what is listed, and the served version changed with and without a running scorer."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import BadInputError, UnavailableError
from scoring.card import write_card
from scoring.code_identity import CodeIdentity
from scoring.model_folder import ModelFolder
from scoring.serving.scorer_pb2 import DescribeResponse
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.model_versions import Change, ModelVersion, change_served, kept_versions, roll_back_served
from stream.times import time_text
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


class DescribingScorer:
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
    assert change_served(folder, "v2", CODES, DescribingScorer()) == Change("v1", "v2", confirmed=False)
    assert roll_back_served(folder, CODES, DescribingScorer()) == Change("v2", "v1", confirmed=False)
    assert folder.served_since() == ["v1"]


def test_a_running_scorer_is_waited_for(folder: ModelFolder) -> None:
    slept: list[float] = []
    scorer = DescribingScorer(serving("v1"), serving("v1", "v0", "of an earlier change"), serving("v2"))
    assert change_served(folder, "v2", CODES, scorer, sleep=slept.append) == Change("v1", "v2", confirmed=True)
    assert len(slept) == 2


def test_a_refusal_puts_the_pointer_back(folder: ModelFolder) -> None:
    scorer = DescribingScorer(serving("v1"), serving("v1", "v2", "weights are damaged"))
    with pytest.raises(BadInputError, match="refused it: weights are damaged; it goes on serving v1"):
        change_served(folder, "v2", CODES, scorer, sleep=lambda _: None)
    assert folder.served_since() == ["v1"]


def test_a_scorer_that_never_switches_is_told(folder: ModelFolder) -> None:
    with pytest.raises(UnavailableError, match="still serves v1 after 1 s, not v2"):
        change_served(folder, "v2", CODES, DescribingScorer(serving("v1")), patience_s=1.0, sleep=lambda _: None)


def test_damaged_versions_are_listed_with_the_reason(folder: ModelFolder) -> None:
    (folder.path("v2") / "metadata.json").unlink()
    first, second = kept_versions(folder)
    assert (first.version, first.served, first.problem) == ("v1", True, "")
    assert second.card is None
    assert "v2 has no metadata.json" in second.problem


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({}, ("", None, None)),
        ({"val_precision_at_accept": 0.75, "val_recall_at_accept": 0.5}, ("val", 0.75, 0.5)),
        # Never one split's precision beside another's recall.
        (
            {"test_precision_at_accept": 1.0, "val_precision_at_accept": 0.75, "val_recall_at_accept": 0.5},
            ("val", 0.75, 0.5),
        ),
        (
            {
                "test_precision_at_accept": 1.0,
                "test_recall_at_accept": 0.25,
                "val_precision_at_accept": 0.75,
                "val_recall_at_accept": 0.5,
            },
            ("test", 1.0, 0.25),
        ),
    ],
)
def test_the_figures_of_a_version_are_of_one_split(
    metrics: dict[str, float], expected: tuple[str, float | None, float | None]
) -> None:
    one = ModelVersion("v1", served=True, card=replace(card(), metrics=metrics))
    assert (one.split, one.precision, one.recall) == expected


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
    write_card(replace(folder.card(served), version="copy"), folder.path("copy"))

    assert main(["--settings", str(settings), "model", "list", "--json"]) == Exit.OK
    listed = json.loads(capsys.readouterr().out)["versions"]
    assert {one["version"]: one["served"] for one in listed} == {"copy": False, served: True}
    assert all(0 < one["recall"] < one["precision"] <= 1 for one in listed)
    assert {one["split"] for one in listed} == {"test"}

    assert main(["--settings", str(settings), "model", "use", "copy", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"before": served, "now": "copy", "confirmed": False}
    since = time_text((folder.folder / "served").stat().st_mtime_ns // 10**6)
    assert main(["--settings", str(settings), "model", "list"]) == Exit.OK
    assert f"copy is served since {since}, before it {served}\n" in capsys.readouterr().out
    assert main(["--settings", str(settings), "model", "list", "--json"]) == Exit.OK
    answer = json.loads(capsys.readouterr().out)
    assert (answer["served_since"], answer["served_before"]) == (since, [served])
    assert main(["--settings", str(settings), "model", "rollback"]) == Exit.OK
    said = capsys.readouterr()
    assert f"{served} instead of copy" in said.out
    assert f"`neardup replay --since {since} --diff`" in said.err
    assert main(["--settings", str(settings), "model", "rollback"]) == Exit.USAGE
    assert "no version was in use before" in capsys.readouterr().err

    assert main(["--settings", str(settings), "model", "use", "gone"]) == Exit.USAGE
    assert "no model version 'gone'" in " ".join(capsys.readouterr().err.split())
    assert folder.served() == served


def test_the_list_shows_date_data_parameters_and_split(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ModelFolder(settings.parent / "model")
    old = folder.card(folder.served())
    made = replace(
        old,
        version="made",
        parameters=1234,
        exported_at="2026-11-21T19:00:00Z",
        training_sha256="abcdef0123",
        gate=427,
        metrics={"val_precision_at_accept": 0.99, "val_recall_at_accept": 0.8},
    )
    folder.path("made").mkdir()
    write_card(made, folder.path("made"))
    dated = replace(made, version="undated", exported_at="", metrics={}, gate=None)
    folder.path("undated").mkdir()
    write_card(dated, folder.path("undated"))

    assert main(["--settings", str(settings), "model", "list"]) == Exit.OK
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    limits = [f"{one:.4f}" for one in (old.thresholds.accept, old.thresholds.head_accept, old.thresholds.adopt)]
    assert " ".join(lines[0]) == "version made data parameters split precision recall accept head_accept adopt gate"
    assert ["made", "2026-11-21", "abcdef01", "1,234", "val", "0.9900", "0.8000", *limits, "427"] in lines
    assert ["undated", "unknown", "abcdef01", "1,234", *limits, "none"] in lines

    (folder.path("undated") / "metadata.json").unlink()
    assert main(["--settings", str(settings), "model", "list", "--json"]) == Exit.OK
    listed = {one["version"]: one for one in json.loads(capsys.readouterr().out)["versions"]}
    assert listed["made"]["exported_at"] == "2026-11-21T19:00:00Z"
    assert (listed["made"]["training_sha256"], listed["made"]["split"]) == ("abcdef0123", "val")
    assert listed["made"]["gate"] == 427
    assert main(["--settings", str(settings), "model", "list"]) == Exit.OK
    assert "undated has no metadata.json" in capsys.readouterr().out


def test_a_model_for_other_codes_is_not_served(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_version(settings.parent / "model", "other")
    before = ModelFolder(settings.parent / "model").served()
    assert main(["--settings", str(settings), "model", "use", "other"]) == Exit.MISMATCH
    assert "bits 64 instead of 512" in capsys.readouterr().err
    assert ModelFolder(settings.parent / "model").served() == before
