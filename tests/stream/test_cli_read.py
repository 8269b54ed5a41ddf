"""The commands that ask, against the real HTTP API and gRPC service over a store in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from core.rpc import Listen, RpcServer
from core.types import Cause, Decision, ImageId, Move, Outcome, Versions
from storage.memory import MemoryStore
from storage.serving.metrics import StorageMetrics
from storage.serving.service import StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from storage.verify import VerifyProgress
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.index_comparison import Compared, Side
from stream.index_differences import Difference, Remedy
from tests.support.ports import free_ports
from tests.support.served_api import served_api

HEAD = "flowers/röse 1"
"""A head whose id needs care in a path."""

COUNT = 250
"""Members of its cluster: more than one page of the server below."""

MAX_PAGE = 100


def decision(offset: int, image: str, head: str) -> Decision:
    founded = image == head
    move = Move(
        image_id=ImageId(image),
        old_head=None,
        new_head=ImageId(head),
        cause=Cause.FOUNDED if founded else Cause.MATCHED,
        score=None if founded else 0.75,
        matched=None if founded else ImageId(head),
    )
    return Decision(
        offset=offset,
        checksum=offset,
        outcome=Outcome.DECIDED,
        image_id=ImageId(image),
        version=3,
        place=offset,
        moves=(move,),
        score_code=b"\x01" * 16,
        search_vector=b"\x00\x3c" * 4,
        score_vector=b"\x00\x3c" * 4,
        versions=Versions("model-1", "index-1"),
        created_at_ms=1_000,
        arrived_at_ms=2_000,
        decided_at_ms=1_714_521_600_123,
    )


MEMBERS = [HEAD, *(f"member-{number}" for number in range(COUNT - 1))]


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    store = MemoryStore()
    decisions = [decision(offset, image, HEAD) for offset, image in enumerate(MEMBERS)]
    decisions.append(replace(decision(len(decisions), "alone", "alone"), truncated=True))
    store.apply("log", decisions, -1, 0)
    return store


@pytest.fixture(scope="module")
def ports(store: MemoryStore) -> Iterator[list[int]]:
    """Of the HTTP API, gRPC, and its metrics."""
    grpc_port, metrics_port = free_ports(2)
    registry = CollectorRegistry()
    service = StorageService(store, StorageMetrics(registry, store.state(), 0))
    rpc = RpcServer(
        "storage",
        Listen("127.0.0.1", grpc_port, metrics_port, 1 << 20),
        partial(add_ClusterStorageServicer_to_server, service),
        registry,
    )
    rpc.start()
    with served_api(store, MAX_PAGE) as api_port:
        yield [api_port, grpc_port, metrics_port]
    rpc.stop(0)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(ports: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command against the servers; gives exit code, output, and what else was said."""
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", str(ports[0]))
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__MAX_PAGE", str(MAX_PAGE))
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__PORT", str(ports[1]))

    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def as_json(run: Run, *words: str) -> Any:
    code, out, _ = run(*words, "--json")
    assert code == Exit.OK
    return json.loads(out)


def test_head_says_why(run: Run) -> None:
    found = as_json(run, "head", "member-7")
    assert found["head"] == found["matched"] == HEAD
    assert (found["score"], found["cause"], found["place"], found["version"]) == (0.75, "matched", 8, 3)
    assert found["decided_at"] == "2024-05-01T00:00:00.123Z"
    assert found["versions"] == {"model": "model-1", "index": "index-1"}
    assert (found["truncated"], as_json(run, "head", "alone")["truncated"]) == (False, True)


def test_head_as_text_leaves_out_what_is_not_there(run: Run) -> None:
    code, out, _ = run("head", "alone")
    shown = dict(
        line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(("decided", "model", "index"))
    )
    assert code == Exit.OK
    assert shown["head"] == "alone"
    assert "score" not in shown
    assert "model version  model-1" in out
    assert "search         truncated at max_postings" in out
    assert "truncated" not in run("head", "member-7")[1]


def test_an_id_that_needs_care(run: Run) -> None:
    assert as_json(run, "head", HEAD)["image_id"] == HEAD


@pytest.mark.parametrize(
    "words", [("head", "nobody"), ("members", "nobody"), ("members", "member-7"), ("similar", "nobody")]
)
def test_unknown_is_not_found(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*words)
    assert code == Exit.NOT_FOUND
    assert out == ""
    assert words[1] in err


def test_members_stop_at_a_hundred_and_say_so(run: Run) -> None:
    code, out, err = run("members", HEAD)
    assert code == Exit.OK
    assert out.splitlines() == MEMBERS[:100]
    assert "150 more members" in err


@pytest.mark.parametrize("limit", [1, 100, 101, 250, 1000])
def test_members_up_to_a_limit(run: Run, limit: int) -> None:
    assert run("members", HEAD, "--limit", str(limit))[1].splitlines() == MEMBERS[:limit]


def test_all_members_over_several_pages(run: Run) -> None:
    code, out, err = run("members", HEAD, "--all")
    assert (code, err) == (Exit.OK, "")
    assert out.splitlines() == MEMBERS
    assert as_json(run, "members", HEAD, "--all")["members"] == MEMBERS


def test_the_newest_members_first(run: Run) -> None:
    assert run("members", HEAD, "--newest", "--limit", "3")[1].splitlines() == MEMBERS[:-4:-1]


def test_limit_and_all_exclude_each_other(run: Run) -> None:
    assert run("members", HEAD, "--all", "--limit", "5")[0] == Exit.USAGE


def test_similar_gives_the_whole_cluster(run: Run) -> None:
    code, out, err = run("similar", "member-7")
    assert code == Exit.OK
    assert out.splitlines() == MEMBERS
    assert f"250 members, head {HEAD}" in err
    found = as_json(run, "similar", "member-7")
    assert (found["image_id"], found["head"], found["count"]) == ("member-7", HEAD, COUNT)
    assert found["members"] == MEMBERS
    assert as_json(run, "similar", "member-7", "--limit", "3")["members"] == MEMBERS[:3]


def test_similar_to_an_image_alone(run: Run) -> None:
    assert as_json(run, "similar", "alone")["members"] == ["alone"]


def test_verify_a_sound_store(run: Run) -> None:
    code, out, _ = run("verify")
    assert code == Exit.OK
    assert out == "sound: 251 images in 2 clusters\n"
    assert as_json(run, "verify") == {
        "signal": "photos",
        "sound": True,
        "images": COUNT + 1,
        "clusters": 2,
        "problem_count": 0,
        "problems": [],
    }


def test_verify_a_store_that_is_not_sound(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage.serving import client

    unsound = VerifyProgress(
        done=True, checked=2, total=2, images=2, clusters=1, problems=("b is a member of nobody",), problem_count=1
    )
    monkeypatch.setattr(client.StorageClient, "verify", lambda self: iter([unsound]))
    code, out, err = run("verify")
    assert code == Exit.NOT_SOUND
    assert out == "b is a member of nobody\n"
    assert "1 problem" in err
    code, out, _ = run("verify", "--json")
    assert code == Exit.NOT_SOUND
    assert json.loads(out)["problems"] == ["b is a member of nobody"]


def test_verify_after_a_repair(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage.serving import client

    found = VerifyProgress(True, 2, 2, 2, 1, ("a", "b"), 2)
    monkeypatch.setattr(client.StorageClient, "repair", lambda self: iter([found]))
    code, out, _ = run("verify", "--repair")
    assert code == Exit.OK
    assert out == "repaired: 2 problems\nsound: 251 images in 2 clusters\n"
    said = as_json(run, "verify", "--repair")
    assert (said["repaired"], said["sound"], said["problem_count"]) == (2, True, 0)
    monkeypatch.setattr(
        client.StorageClient, "verify", lambda self: iter([replace(found, problems=("b",), problem_count=1)])
    )
    code, out, err = run("verify", "--repair")
    assert (code, out) == (Exit.NOT_SOUND, "b\n")
    assert "1 problem" in err


def test_verify_against_the_index(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    samples: list[int | None] = []
    sides = {Side.IMAGES: 5, Side.DELETES: 1, Side.INDEX: 7}

    def compare(storage: Any, index: Any, sample: int | None) -> Iterator[Compared]:
        samples.append(sample)
        yield Compared(Side.IMAGES, COUNT + 1, COUNT + 1, sides)

    monkeypatch.setattr("stream.index_comparison.compare_with_index", compare)
    code, out, _ = run("verify", "--against", "index", "--sample", "5")
    assert (code, samples) == (Exit.OK, [5])
    assert out.splitlines() == [
        "sound: 251 images in 2 clusters",
        "the index has 5 images and 1 delete as storage has",
        "the 7 images and deletes of the index are those of storage",
    ]
    said = as_json(run, "verify", "--against", "index")
    compared = ("compared_with_index", "deletes_compared_with_index", "index_compared_with_storage")
    assert [said[each] for each in compared] == [5, 1, 7]
    assert (said["sound"], said["index_problems"], said["index_remedies"]) == (True, {}, {})
    assert run("verify", "--sample", "5")[0] == Exit.USAGE


def test_verify_says_how_the_index_differs_and_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = {
        ImageId("x"): Difference("the index hides it"),
        ImageId("y"): Difference("storage does not know it", Remedy.SEND),
        ImageId("z"): Difference("the index does not have it"),
    }
    unlike = Compared(Side.INDEX, 1, 1, dict.fromkeys(Side, 1), problems)
    monkeypatch.setattr("stream.index_comparison.compare_with_index", lambda *asked: iter([unlike]))
    code, out, err = run("verify", "--against", "index")
    assert code == Exit.NOT_SOUND
    assert out.splitlines() == [
        "image 'x': the index hides it",
        "image 'y': storage does not know it",
        "image 'z': the index does not have it",
        f"to do about 2 images: {Remedy.BUILD}",
        f"to do about 1 image: {Remedy.SEND}",
    ]
    assert "differs from the store in 3 images" in err
    said = json.loads(run("verify", "--against", "index", "--json")[1])
    assert said["sound"] is False
    assert said["index_problems"] == {image_id: each.text for image_id, each in problems.items()}
    assert said["index_remedies"] == {"x": "build", "y": "send", "z": "build"}
    assert said["index_comparison_complete"] is True


def test_verify_says_that_a_comparison_ended_early(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = Compared(Side.IMAGES, 9, 99, {Side.IMAGES: 9, Side.DELETES: 0, Side.INDEX: 0}, cut_short=True)
    monkeypatch.setattr("stream.index_comparison.compare_with_index", lambda *asked: iter([compared]))
    code, out, err = run("verify", "--against", "index")
    assert (code, out) == (Exit.UNAVAILABLE, "")
    assert "ended early and is incomplete" in " ".join(err.split())
    code, out, _ = run("verify", "--against", "index", "--json")
    said = json.loads(out)
    assert (code, said["sound"], said["index_comparison_complete"]) == (Exit.UNAVAILABLE, False, False)
    unlike = replace(compared, problems={ImageId("x"): Difference("the index hides it")})
    monkeypatch.setattr("stream.index_comparison.compare_with_index", lambda *asked: iter([unlike]))
    code, _, err = run("verify", "--against", "index")
    assert code == Exit.NOT_SOUND
    assert "in 1 image, and the comparison ended early" in " ".join(err.split())


def test_nobody_there_is_unavailable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    port = str(free_ports(1)[0])
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", port)
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__PORT", str(free_ports(1)[0]))
    assert main(["head", "a"]) == Exit.UNAVAILABLE
    assert port in capsys.readouterr().err
    assert main(["verify"]) == Exit.UNAVAILABLE
    assert "Traceback" not in capsys.readouterr().err
