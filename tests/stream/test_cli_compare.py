"""`neardup compare`: what is shown of two systems, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.access import Credentials, ServerTls
from core.types import ImageId
from storage.serving.client import StorageClient
from storage.testing.decisions import founds, joins, put
from stream.access import key_file, make_keys
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.settings import load_settings
from tests.stream.comparing.test_sources import TOML
from tests.support.secure_broker import make_certificates
from tests.support.served_store import ServedStore, served_store

OLD = "photo,group\nx,1\ny,1\nz,1\nw,2\n"
"""In the store x and y are together; z and w are; v is there alone, and u is not there."""


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedStore]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEARDUP_SETTINGS", raising=False)
    (tmp_path / "old.csv").write_text(OLD + "u,3\n", encoding="utf-8")
    with served_store() as served:
        (tmp_path / "neardup.toml").write_text(TOML.format(port=served.port), encoding="utf-8")
        x, y, z, w, v = map(ImageId, "xyzwv")
        put(served.store, founds(0, x), joins(1, y, x), founds(2, z), joins(3, w, z), founds(4, v))
        yield served


COMMAND = ["compare", "old.csv", "store", "--image-id", "photo", "--cluster", "group"]


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main([*COMMAND, *words, "--json"]) == Exit.OK
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys)
    assert found["a"] == {
        "name": "old.csv", "moment": "", "images": 5, "only_here": 1, "clusters": 3, "singletons": 2
    }  # fmt: skip
    assert found["b"] == {
        "name": "store of photos", "moment": "position 4", "images": 5, "only_here": 1, "clusters": 3, "singletons": 1
    }  # fmt: skip
    assert (found["common"], found["equal_clusters"], found["lost_pairs"], found["gained_pairs"]) == (4, 0, 2, 1)
    assert found["pairwise"] == {"precision": 0.5, "recall": pytest.approx(1 / 3), "f1": pytest.approx(0.4)}
    assert found["bcubed"]["precision"] == 0.5
    (lost,) = found["lost"]
    assert (lost["cluster"], lost["pairs"], lost["part_count"]) == ("1", 2, 2)
    assert lost["parts"] == [{"cluster": "x", "images": 2}, {"cluster": "z", "images": 1}]
    assert {"image_id": "z", "a": "1", "b": "z"} in lost["members"]
    assert [each["cluster"] for each in found["gained"]] == ["z"]


def test_only_common_leaves_out_what_one_side_alone_has(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "--only-common", "--examples", "0")
    assert [found[side]["images"] for side in "ab"] == [4, 4]
    assert [found[side]["only_here"] for side in "ab"] == [1, 1]
    assert [found[side]["singletons"] for side in "ab"] == [1, 0]
    assert found["lost"] == found["gained"] == []


def test_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMAND) == Exit.OK
    out = capsys.readouterr().out
    assert "A: old.csv\nB: store of photos, position 4\n" in out
    assert "4 images on both sides, 0 clusters exactly equal\n2 pairs of A lost in B, 1 pair gained\n" in out
    assert "cluster '1' of A: 2 pairs of 3 images not together in B: 2 in 'x', 1 in 'z'\n" in out
    assert "\n    'z': '1' in A, 'z' in B\n" in out
    assert "cluster 'z' of B: 1 pair of 2 images not together in A: " in out


def test_a_script_can_fail(capsys: pytest.CaptureFixture[str]) -> None:
    f1 = told(capsys)["bcubed"]["f1"]
    assert main([*COMMAND, "--fail-below", str(f1)]) == Exit.OK
    assert main([*COMMAND, "--fail-below", "0.9"]) == Exit.NOT_SOUND
    assert f"BCubed F1 is {f1:.6f}, lower than 0.9" in capsys.readouterr().err
    assert main([*COMMAND, "--fail-below", "1.5"]) == Exit.USAGE


@pytest.mark.parametrize("words", [(), ("--only-common",)])
def test_a_script_can_fail_if_images_are_missing(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    """Of the 5 images of each side, 4 are on both, whether the others are left out or not; F1 knows nothing of them."""
    assert told(capsys, *words)["common_share"] == 0.8
    assert main([*COMMAND, *words, "--common-at-least", "0.8"]) == Exit.OK
    assert main([*COMMAND, *words, "--common-at-least", "0.81", "--fail-below", "0.9"]) == Exit.NOT_SOUND
    err = capsys.readouterr().err
    assert "lower than 0.9; 0.800000 of the images of one side are on both, less than 0.81" in err
    assert main([*COMMAND, *words, "--common-at-least", "1.1"]) == Exit.USAGE


def test_the_side_with_more_images_that_the_other_lacks_decides(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "few.csv").write_text("image_id,head\nx,x\n", encoding="utf-8")
    for sides in (("few.csv", "store"), ("store", "few.csv")):
        assert main(["compare", *sides, "--common-at-least", "0.2"]) == Exit.OK
        assert main(["compare", *sides, "--common-at-least", "0.21", "--fail-below", "1"]) == Exit.NOT_SOUND
        assert "0.200000 of the images" in capsys.readouterr().err


def test_examples_are_bounded() -> None:
    """Each takes a look at all images."""
    assert main([*COMMAND, "--examples", "1000"]) == Exit.OK
    assert main([*COMMAND, "--examples", "1001"]) == Exit.USAGE


def test_names_of_columns_for_each_side(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "new.tsv").write_text("id\thead\nx\tx\ny\tx\n", encoding="utf-8")
    both = ["--image-id", "photo", "--image-id", "id", "--head", "group", "--head", "head"]
    assert main(["compare", "old.csv", "new.tsv", *both, "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["common"] == 2
    assert main(["compare", "old.csv", "new.tsv", *both, "--head", "x"]) == Exit.USAGE
    assert "give --head or --cluster once, or twice" in capsys.readouterr().err


def test_another_service_is_shown_no_key_of_ours(
    tmp_path: Path, world: ServedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(tmp_path / "neardup.toml")
    make_keys(settings)
    (tmp_path / "their.key").write_text("theirs\n", encoding="utf-8")
    shown: dict[str, Credentials] = {}
    real = StorageClient.__init__

    def noting(client: StorageClient, address: str, *rest: Any) -> None:
        shown[address] = rest[-1]
        real(client, address, *rest)

    monkeypatch.setattr(StorageClient, "__init__", noting)
    address = f"localhost:{world.port}"
    assert main(["compare", "store", address]) == Exit.OK
    ours = key_file(settings, "read").read_text(encoding="utf-8").strip()
    assert shown.pop(address).authorization() is None
    assert [each.authorization() for each in shown.values()] == [f"Bearer {ours}"]
    assert main(["compare", "store", address, "--key", "their.key"]) == Exit.OK
    assert shown[address].authorization() == "Bearer theirs"


def test_another_service_has_authorities_of_its_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """This deployment has no TLS, and the other one has."""
    authority, _, _ = make_certificates(tmp_path)
    with served_store(ServerTls(str(tmp_path / "server.crt"), str(tmp_path / "server.key"))) as other:
        put(other.store, founds(0, ImageId("x")))
        command = ["compare", "store", f"localhost:{other.port}"]
        assert main(command) == Exit.UNAVAILABLE
        assert main([*command, "--ca-file", str(authority)]) == Exit.OK
        capsys.readouterr()
        assert main([*command, "--ca-file", "none.pem"]) == Exit.USAGE
        assert "none.pem cannot be read" in capsys.readouterr().err


def test_what_cannot_be_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("image_id,head\nnobody,nobody\n", encoding="utf-8")
    assert main(["compare", "other.csv", "store"]) == Exit.USAGE
    assert "other.csv and store of photos have no image in common" in capsys.readouterr().err
    assert main(["compare", "other.csv", "127.0.0.1:1"]) == Exit.UNAVAILABLE
    assert main(["compare", "other.csv", "store:others"]) == Exit.USAGE
