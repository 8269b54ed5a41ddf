"""`neardup store convert` on a store that an earlier release wrote, and the index that is built from it afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.types import ImageId
from scoring.card import write_card
from scoring.model_folder import ModelFolder
from search.hashing.fitted_projection import write_projection
from search.index.generations import IndexGenerations
from search.index.opening import open_term_index
from search.serving.server import index_settings
from storage.opening import open_store
from storage.records import EmbeddingRecord
from storage.testing.decisions import put
from storage.verify import verify
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.hashing import code_identity, code_settings
from stream.servers import search_server_settings, store_identity
from stream.settings import Settings, load_settings
from tests.fixtures.make_coded_store import AGAIN, ALONE, BARE, FOLDER, GONE, SAME, projection, told
from tests.support.fake_model import card, write_version
from tests.support.ports import free_ports

FORMATS = sorted(path.name for path in FOLDER.iterdir())

Make = Callable[[str], Path]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Copies the store of a format to where its settings look for it, and makes a model for its codes."""

    def copy(format_version: str) -> Path:
        source = FOLDER / format_version
        for name in ("neardup.toml", "before.npz"):
            shutil.copy(source / name, tmp_path / name)
        shutil.copytree(source / "store", tmp_path / "var" / "signals" / "small" / "store")
        port, page = free_ports(2)
        with (tmp_path / "neardup.toml").open("a", encoding="utf-8") as file:
            file.write(f"storage = {{ port = {port}, metrics_port = {page} }}\n")
        write_version(tmp_path / "model", "v1")
        ModelFolder(tmp_path / "model").use("v1")
        fit_model(tmp_path)
        return tmp_path

    monkeypatch.setenv("NEARDUP_SETTINGS", str(tmp_path / "neardup.toml"))
    monkeypatch.setattr("stream.cli.index_command.os.nice", lambda niceness: niceness)
    return copy


def settings_of(folder: Path) -> Settings:
    return load_settings(folder / "neardup.toml")


def fit_model(folder: Path) -> None:
    """The model compares the codes of the settings."""
    settings = settings_of(folder)
    codes = code_identity(settings, settings.signal("small")[1])
    fitted = replace(
        card("v1"),
        bits=codes.bits,
        code_fingerprint=codes.code_fingerprint,
        embedding_name=codes.embedding_name,
        embedding_version=codes.embedding_version,
        values=codes.values,
    )
    write_card(fitted, folder / "model" / "v1")


def change_codes(folder: Path, seed: int = 2) -> None:
    """Another projection, and a model for it."""
    write_projection(projection(seed), folder / "after.npz")
    file = folder / "neardup.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("before.npz", "after.npz"), encoding="utf-8")
    fit_model(folder)


def content(folder: Path) -> dict[str, Any]:
    """All that a store holds beside its codes, and the codes by place and by head."""
    settings = settings_of(folder)
    with (
        closing(open_store("rocksdb", store_of(folder), store_identity(settings, "small"))) as store,
        store.snapshot() as view,
    ):
        assert [progress.problems for progress in verify(view)][-1] == ()
        return {
            "state": view.state(),
            "published": (view.published(), view.published_mark(), view.epoch()),
            "images": list(view.images()),
            "edges": list(view.edges()),
            "history": list(view.history_from(0)),
            "letters": list(view.dead_letters()),
            "tombstones": list(view.tombstones()),
            "clusters": [replace(one, founding_code=b"") for one in view.clusters()],
            "vectors": [replace(one, score_code=b"") for one in view.embeddings()],
            "codes": {one.image_id: one.score_code for one in view.embeddings()},
            "founding": {one.head: one.founding_code for one in view.clusters()},
        }


def store_of(folder: Path) -> Path:
    return folder / "var" / "signals" / "small" / "store"


def expected_code(folder: Path, embedding: EmbeddingRecord) -> bytes:
    """The code of an embedding with the settings as they are."""
    settings = settings_of(folder)
    coder = code_settings(settings, settings.signal("small")[1]).build()
    search, score = (np.frombuffer(one, "<f2") for one in (embedding.search_vector, embedding.score_vector))
    return coder.codes(score[None], search[None])[0].tobytes()


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("format_version", FORMATS)
def test_a_store_of_an_earlier_release_gets_other_codes_and_keeps_the_rest(
    format_version: str, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(format_version)
    before = content(folder)
    assert before["codes"] == {
        one.image_id: expected_code(folder, one) if one.image_id not in (ALONE, "plain") else b""
        for one in before["vectors"]
    }
    change_codes(folder)
    assert main(["store", "convert", "--json"]) == Exit.OK
    assert said(capsys) == {
        "signal": "small",
        "folder": str(store_of(folder)),
        "converted": True,
        "images": 6,
        "clusters": 3,
        "from_members": 2,
        "without": 1,
        "seconds": pytest.approx(0, abs=1e6),
    }
    after = content(folder)
    codes = ("codes", "founding")
    assert {key: value for key, value in after.items() if key not in codes} == {
        key: value for key, value in before.items() if key not in codes
    }
    new = {one.image_id: expected_code(folder, one) for one in after["vectors"]}
    assert after["codes"] == {image: code if before["codes"][image] else b"" for image, code in new.items()}
    # The founding vectors of two heads are gone: the member that is most like them stands in.
    assert after["founding"] == {
        SAME: new[SAME],
        AGAIN: new[ImageId("again-2")],
        GONE: new[ImageId("gone-1")],
        ALONE: b"",
        BARE: b"",
    }
    assert not any(new[image] == before["codes"][image] for image in new)
    assert [each.name for each in store_of(folder).iterdir() if each.is_dir()] == ["db-000002"]


def test_the_index_is_built_from_a_stopped_store_with_the_new_codes(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(FORMATS[-1])
    change_codes(folder)
    assert main(["store", "convert"]) == Exit.OK
    told_next = capsys.readouterr()
    assert "new codes of 6 images and 3 clusters" in told_next.out
    assert "neardup index build --from storage --no-catch-up" in told_next.err
    assert main(["index", "build", "--from", "storage", "--no-catch-up", "--json"]) == Exit.OK
    built = said(capsys)
    kept = content(folder)
    assert (built["images"], built["unfindable"], built["offset"]) == (6, 2, kept["state"].position.offset)
    server = search_server_settings(settings_of(folder), "small")
    told_index = index_settings(server, server.terms.build(), server.code.build())
    generations = IndexGenerations(server.folder)
    index = open_term_index(generations.folder(generations.serving(told_index.identity)), told_index)
    with closing(index):
        found = index.get([ImageId("same-1"), AGAIN])
        assert [None if one is None else one.code for one in found] == [
            kept["codes"][ImageId("same-1")],
            kept["codes"][AGAIN],
        ]
        assert index.position == kept["state"].position


def test_a_second_call_has_nothing_to_do(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(FORMATS[-1])
    change_codes(folder)
    assert main(["store", "convert"]) == Exit.OK
    after = content(folder)
    (store_of(folder) / "db-000003.new").mkdir()
    capsys.readouterr()
    assert main(["store", "convert", "--json"]) == Exit.OK
    assert not said(capsys)["converted"]
    assert main(["store", "convert"]) == Exit.OK
    assert "has these codes already" in capsys.readouterr().out
    assert not (store_of(folder) / "db-000003.new").exists()
    assert content(folder) == after


def test_back_to_the_old_codes(make: Make) -> None:
    folder = make(FORMATS[-1])
    before = content(folder)
    old = (folder / "neardup.toml").read_text(encoding="utf-8")
    change_codes(folder)
    assert main(["store", "convert"]) == Exit.OK
    (folder / "neardup.toml").write_text(old, encoding="utf-8")
    fit_model(folder)
    assert main(["store", "convert"]) == Exit.OK
    again = content(folder)
    assert again["codes"] == before["codes"]
    assert again["founding"][SAME] == before["founding"][SAME]
    assert [each.name for each in store_of(folder).iterdir() if each.is_dir()] == ["db-000003"]


def test_the_stream_goes_on_in_a_converted_store(make: Make) -> None:
    folder = make(FORMATS[-1])
    change_codes(folder)
    assert main(["store", "convert"]) == Exit.OK
    settings = settings_of(folder)
    with closing(open_store("rocksdb", store_of(folder), store_identity(settings, "small"))) as store:
        offset = store.position().offset + 1
        joined = replace(told(folder)[1], offset=offset, place=offset, image_id=ImageId("new"))
        put(store, replace(joined, moves=(replace(joined.moves[0], image_id=ImageId("new")),)))
        assert store.members(SAME, 9).items == (SAME, "same-1", "new")


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        (
            'model_version = "1", dimension = 4',
            'model_version = "2", dimension = 4',
            Exit.MISMATCH,
            "the same embeddings",
        ),
        ("[signals.small]", '[signals.small]\nstore_class = "memory"', Exit.USAGE, "only 'rocksdb' can be converted"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    old: str, new: str, code: Exit, message: str, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(FORMATS[-1])
    before = content(folder)
    file = folder / "neardup.toml"
    kept = file.read_text(encoding="utf-8")
    file.write_text(kept.replace(old, new), encoding="utf-8")
    fit_model(folder)
    assert main(["store", "convert"]) == code
    assert message in capsys.readouterr().err
    file.write_text(kept, encoding="utf-8")
    assert content(folder) == before


def test_a_model_of_the_old_codes_is_refused_first(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(FORMATS[-1])
    before = content(folder)
    old_card = (folder / "model" / "v1" / "metadata.json").read_bytes()
    old = (folder / "neardup.toml").read_text(encoding="utf-8")
    change_codes(folder)
    (folder / "model" / "v1" / "metadata.json").write_bytes(old_card)
    assert main(["store", "convert"]) == Exit.MISMATCH
    assert "the model v1 was made for other codes" in capsys.readouterr().err
    (folder / "neardup.toml").write_text(old, encoding="utf-8")
    assert content(folder) == before


def test_a_store_that_is_open_or_missing_is_refused(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(FORMATS[-1])
    opened = open_store("rocksdb", store_of(folder), store_identity(settings_of(folder), "small"))
    change_codes(folder)
    with closing(opened):
        assert main(["store", "convert"]) == Exit.UNAVAILABLE
        assert "one folder has one writer" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr("stream.store_conversion.runs", lambda settings: True)
        assert main(["store", "convert"]) == Exit.FAILED
        assert "`neardup down` first" in capsys.readouterr().err
    shutil.rmtree(store_of(folder))
    assert main(["store", "convert"]) == Exit.UNAVAILABLE
    assert "there is no store in" in capsys.readouterr().err


def test_a_server_with_the_new_settings_says_what_to_do(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(FORMATS[-1])
    change_codes(folder)
    assert main(["index", "build", "--from", "storage", "--no-catch-up"]) == Exit.MISMATCH
    assert "run `neardup store convert`" in capsys.readouterr().err


def test_no_index_is_built_from_a_store_whose_service_runs_or_is_elsewhere(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(FORMATS[-1])
    with monkeypatch.context() as patched:
        patched.setattr("stream.index_build.stored.runs", lambda settings: True)
        assert main(["index", "build", "--from", "storage", "--no-catch-up"]) == Exit.UNAVAILABLE
    shutil.rmtree(store_of(folder))
    assert main(["index", "build", "--from", "storage", "--no-catch-up"]) == Exit.UNAVAILABLE
    assert not store_of(folder).exists()
