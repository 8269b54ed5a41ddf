"""`neardup replay` through the order, against the real gRPC service over a store in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.known_verdicts import KnownVerdict
from core.notifications import RECORD_KINDS
from core.replay_requests import Lane, ReplayRequest, encode_request
from core.settlements import parse_settlement
from core.traces import Trace, TracedStep, trace_json
from core.types import Cause, ImageId, Move, Versions
from storage.testing.decisions import decided, founds, joins
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.cli.replay_output import SHOWN, show_differences
from stream.replay.differences import DiffReport
from stream.replay.sending import LeftOut
from stream.topic_reader import TopicRecord
from tests.support.served_store import REPLAY_ID, TOPIC_ID, ReplayLanes, ServedStore, served_store

A, B, C, D = (ImageId(name) for name in "abcd")


class FakeBroker:
    """Knows the topic of replays."""

    def __init__(self, access: Any) -> None:
        """Connects to nothing."""

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(self, *unused: object) -> None:
        """Nothing to close."""

    def topic_id(self, topic: str) -> str:
        assert topic.endswith(".replay")
        return REPLAY_ID


class FakeDeadLetters:
    """The topic `dead-letter`, read and appended to."""

    records: list[TopicRecord]

    def __init__(self, *unused: object) -> None:
        """Connects to nothing."""

    def __enter__(self) -> FakeDeadLetters:
        return self

    def __exit__(self, *unused: object) -> None:
        """Nothing to close."""

    def ends(self) -> tuple[int, int]:
        return 0, len(self.records)

    def between(self, at: int, end: int) -> Iterator[TopicRecord]:
        return iter(self.records[at:end])

    def send_raw(self, topic: str, key: bytes, value: bytes, headers: Any = None) -> None:
        self.records.append(TopicRecord(len(self.records), 5, key, value))

    def flush(self) -> None:
        """Everything is there."""


def unscored(offset: int, image: ImageId) -> Any:
    return decided(offset, image, Move(image, None, image, Cause.UNSCORED))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedStore]:
    with served_store() as world:
        monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__PORT", str(world.port))
        monkeypatch.setattr("stream.replay.service.Broker", FakeBroker)
        monkeypatch.setattr("stream.replay.service.ReplayTopic", lambda *unused: ReplayLanes(world))
        monkeypatch.setattr("stream.replay.service.TopicReader", FakeDeadLetters)
        monkeypatch.setattr("stream.replay.service.Publisher", FakeDeadLetters)
        monkeypatch.setattr("stream.replay.topic.TopicReader", partial(LaneReader, world))
        monkeypatch.setattr(FakeDeadLetters, "records", [], raising=False)
        decisions = [founds(0, A), joins(1, B, A), unscored(2, C), founds(3, D, search_vector=b"")]
        world.store.apply(TOPIC_ID, decisions, -1, 0, RECORD_KINDS)
        yield world


class LaneReader:
    """Reads a lane of the topic `replay`."""

    def __init__(self, world: ServedStore, access: Any, topic: str, *, partition: int) -> None:
        self._requests = world.requests[Lane(partition)]

    def __enter__(self) -> LaneReader:
        return self

    def __exit__(self, *unused: object) -> None:
        """Nothing to close."""

    def ends(self) -> tuple[int, int]:
        return 0, len(self._requests)

    def between(self, at: int, end: int) -> Iterator[TopicRecord]:
        return (TopicRecord(offset, 0, b"", encode_request(self._requests[offset])) for offset in range(at, end))


class FakeTraces:
    """The topic `debug`: a step and a verdict of each image that was replayed, and traces of others."""

    world: ServedStore

    def __init__(self, *unused: object) -> None:
        """Connects to nothing."""
        self._shown = 0

    def __exit__(self, *unused: object) -> None:
        """Nothing to close."""

    def ends(self) -> tuple[int, int]:
        return 0, 7

    def seek(self, offset: int) -> None:
        assert offset == 7

    def poll(self, timeout_s: float) -> list[TopicRecord]:
        new = self.world.requests[Lane.NAMED][self._shown :]
        self._shown += len(new)
        records = []
        for each in new:
            for request, kind in ((each.request, "step"), ("another", "replay"), (each.request, "replay")):
                about = Trace(
                    kind=kind,
                    image_id=each.image_id,
                    version=1,
                    position=5,
                    place=0,
                    outcome=None if kind == "step" else "replayed",
                    cause=None,
                    reason="replay",
                    request_id=request,
                    steps=(TracedStep("search", 5, 9, 1),),
                )
                records.append(TopicRecord(len(records), 5, each.image_id.encode(), trace_json(about)))
        return records


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["replay", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def sent(world: ServedStore) -> dict[str, list[str]]:
    return {lane.name: [each.image_id for each in requests] for lane, requests in world.requests.items()}


def test_named_images_go_into_the_lane_of_named_ones_and_the_rest_is_named(world: ServedStore, run: Run) -> None:
    code, out, err = run("--id", "a", "--id", "nobody", "--id", "d", "--id", "a", "--force")
    assert code == Exit.OK
    assert sent(world) == {"NAMED": ["a"], "BULK": []}
    [request] = world.requests[Lane.NAMED]
    assert (request.force, request.dry_run, request.watch, request.bulk) == (True, False, False, False)
    assert request.requested_at_ms > 1_700_000_000_000
    assert out == f"1 image decided again (request {request.request})\n"
    assert re.search(r"deciding .* 1/1 .* left \d", err)
    assert "1 image not known to storage: nobody" in err
    assert "1 image left out: their embeddings are not stored: d" in err
    assert world.store.state().required == {"replay"}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--head", "a"), ["a", "b"]),
        (("--cause", "unscored"), ["c"]),
        (("--cause", "founded", "--cause", "unscored"), ["a", "c"]),
        (("--head", "a", "--cause", "matched"), ["b"]),
        (("--since", "1970-01-01T00:00:00.031Z"), ["b", "c"]),
        (("--since", "1970-01-01T00:00:00.031Z", "--until", "1970-01-01T00:00:00.032Z"), ["b"]),
    ],
)
def test_a_selection_goes_into_the_lane_of_selections(
    world: ServedStore, run: Run, words: tuple[str, ...], found: list[str]
) -> None:
    code, out, _ = run(*words, "--json")
    assert code == Exit.OK
    assert sent(world) == {"NAMED": [], "BULK": found}
    said = json.loads(out)
    assert (said["sent"], said["applied"], said["sent_before"], said["unknown"]) == (len(found), len(found), 0, [])


def test_many_named_images_are_a_selection(world: ServedStore, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(["a", "b", *(f"no{number}" for number in range(100))]))
    code, out, _ = run("--ids-file", str(file), "--json")
    assert code == Exit.OK
    assert sent(world) == {"NAMED": [], "BULK": ["a", "b"]}
    assert len(json.loads(out)["unknown"]) == 100


def test_a_diff_shows_what_has_changed(world: ServedStore, run: Run) -> None:
    world.verdicts[B] = Move(B, A, B, Cause.FOUNDED)
    code, out, _ = run("--head", "a", "--diff")
    assert code == Exit.OK
    assert "other head" in out
    assert "matched -> founded" in out
    assert "other head: 1\nsame: 1\n" in out
    world.verdicts.clear()
    code, out, _ = run("--id", "b", "--diff", "--json")
    said = json.loads(out)
    assert (said["counts"]["same"], said["changed"]) == (1, [])


def test_the_table_of_a_diff_begins_with_the_most_important_changes(capsys: pytest.CaptureFixture[str]) -> None:
    def known(head: ImageId, cause: Cause, model: str) -> KnownVerdict:
        return KnownVerdict(head, cause, None, None, Versions(model, "i1"))

    report = DiffReport()
    for number in range(SHOWN):
        image_id = ImageId(f"as-before-{number}")
        report.add(image_id, known(A, Cause.MATCHED, "m1"), known(A, Cause.MATCHED, "m2"))
    report.add(B, known(A, Cause.MATCHED, "m1"), known(B, Cause.FOUNDED, "m2"))
    report.add(C, known(A, Cause.MATCHED, "m1"), None)
    show_differences(report, LeftOut(), as_json=False)
    said = capsys.readouterr()
    rows = [line.split()[0] for line in said.out.splitlines()[2 : 2 + SHOWN]]
    assert rows == ["c", "b", *(f"as-before-{number}" for number in range(SHOWN - 2))]
    assert "and 2 more" in said.err


def test_the_json_of_a_diff_has_both_verdicts(world: ServedStore, run: Run) -> None:
    world.verdicts[B] = Move(B, A, B, Cause.FOUNDED)
    _, out, _ = run("--head", "a", "--diff", "--json")
    [changed] = json.loads(out)["changed"]
    assert (changed["image_id"], changed["change"]) == ("b", "other head")
    assert (changed["old"]["head"], changed["old"]["cause"], changed["old"]["matched"]) == ("a", "matched", "a")
    assert changed["new"] == {
        "head": "b",
        "cause": "founded",
        "score": None,
        "matched": None,
        "model": "m2",
        "index": "i1",
    }


def test_a_request_goes_on_where_an_earlier_run_ended(world: ServedStore, run: Run) -> None:
    world.replay(Lane.BULK, ReplayRequest("another", A, bulk=True))
    world.replay(Lane.BULK, ReplayRequest("mine", B, bulk=True))
    code, out, _ = run("--head", "a", "--request", "mine")
    assert code == Exit.OK
    assert sent(world)["BULK"] == ["a", "b", "a"]
    assert out == "2 images decided again, 1 of them by an earlier run (request mine)\n"
    code, out, _ = run("--head", "a", "--request", "mine")
    assert sent(world)["BULK"] == ["a", "b", "a"]


def test_a_diff_covers_what_earlier_runs_of_the_request_sent(
    world: ServedStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("stream.replay.sending.wait_until_applied.__defaults__", (lambda: None, interrupt))
        world.applies = False
        assert run("--id", "b", "--request", "mine")[0] == Exit.INTERRUPTED
    world.applies, world.verdicts[B] = True, Move(B, A, B, Cause.FOUNDED)
    world.apply_replays(Lane.NAMED)
    code, out, _ = run("--id", "a", "--id", "b", "--request", "mine", "--diff", "--json")
    said = json.loads(out)
    assert (code, said["sent"], said["sent_before"], said["counts"]["same"]) == (Exit.OK, 2, 1, 1)
    assert [(each["image_id"], each["old"]["head"], each["new"]["head"]) for each in said["changed"]] == [
        ("b", "a", "b")
    ]


def test_after_ctrl_c_the_last_line_says_how_to_go_on(
    world: ServedStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.applies = False

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stream.replay.sending.time.sleep", interrupt)
    monkeypatch.setattr("stream.replay.sending.wait_until_applied.__defaults__", (lambda: None, interrupt))
    code, out, err = run("--id", "a")
    assert (code, out) == (Exit.INTERRUPTED, "")
    [request] = world.requests[Lane.NAMED]
    assert f"go on with `neardup replay --request {request.request}`" in err


def test_images_among_dead_letters_are_replayed_by_force_and_settled(world: ServedStore, run: Run) -> None:
    for offset, image in enumerate([C, A, B]):
        bad = BadRecord(Reason.FAULTED if image != B else Reason.MISSING_SCORE_HALF, "why")
        source = Provenance("neardup.photos.joined", 0, offset, 5)
        FakeDeadLetters.records.append(TopicRecord(offset, 5, image.encode(), dead_letter(bad, source, b"x", None)))
    code, out, _ = run("--dead-letters")
    assert code == Exit.OK
    assert sent(world) == {"NAMED": [], "BULK": ["c", "a"]}
    assert all(each.force for each in world.requests[Lane.BULK])
    assert "1 image of dead letters settled" in out  # c is unscored still
    settlement = parse_settlement(FakeDeadLetters.records[-1].value)
    assert settlement is not None
    assert settlement.ranges == ((1, 1),)
    world.verdicts[C] = Move(C, C, C, Cause.FOUNDED)
    assert run("--dead-letters")[0] == Exit.OK
    assert sent(world)["BULK"] == ["c", "a", "c"]
    code, out, _ = run("--dead-letters", "--json")
    assert json.loads(out)["sent"] == 0


def test_dead_letters_replay_decides_refused_and_faulted_images_again(
    world: ServedStore, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for offset, (image, reason) in enumerate([(C, Reason.REFUSED), (A, Reason.FAULTED), (B, Reason.FAULTED)]):
        source = Provenance("neardup.photos.joined", 0, offset, 5)
        value = dead_letter(BadRecord(reason, "why"), source, b"x", None)
        FakeDeadLetters.records.append(TopicRecord(offset, 5, image.encode(), value))
    assert main(["dead-letters", "replay", "--reason", "faulted"]) == Exit.OK
    assert "2 images of dead letters settled" in capsys.readouterr().out
    assert sent(world) == {"NAMED": [], "BULK": ["a", "b"]}
    assert all(each.force and each.request.startswith("dead-letters-") for each in world.requests[Lane.BULK])
    world.verdicts[C] = Move(C, C, C, Cause.FOUNDED)
    assert main(["dead-letters", "replay", "--reason", "faulted", "--reason", "refused", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["sent"] == 1
    assert sent(world)["BULK"] == ["a", "b", "c"]
    assert main(["dead-letters", "replay", "--reason", "faulted", "--reason", "unparsable"]) == Exit.USAGE
    assert main(["dead-letters", "replay", "--reason", "refused", "--again"]) == Exit.USAGE
    assert "are reasons of images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "choose images"),
        (("--id", "a", "--head", "a"), "only one of these"),
        (("--dead-letters", "--since", "1d"), "only one of these"),
        (("--cause", "luck"), "there is no cause 'luck'"),
        (("--cause", "deleted"), "there is no cause 'deleted'"),
        (("--since", "soon"), "--since takes"),
        (("--until", "soon"), "--until takes"),
        (("--since", "2025-01-02", "--until", "2025-01-01"), "ends"),
        (("--id", "a", "--model-version", "v2"), "--model-version needs --dry-run"),
        (("--id", "a", "--dry-run", "--request", "r"), "sends no request"),
        (("--id", "a", "--dry-run", "--watch", "--diff"), "leave --watch or --diff out"),
    ],
)
def test_what_makes_no_sense_is_refused(world: ServedStore, run: Run, words: tuple[str, ...], said: str) -> None:
    code, _, err = run(*words)
    assert code == Exit.USAGE
    assert said in err
    assert sent(world) == {"NAMED": [], "BULK": []}


def test_a_job_that_does_not_know_replays_gets_none(world: ServedStore, run: Run) -> None:
    state = world.store.state()
    world.store.apply(TOPIC_ID, [], state.position.offset, state.revision, ["image"])
    code, _, err = run("--id", "a")
    assert code == Exit.MISMATCH
    assert "replay" in err
    assert sent(world) == {"NAMED": [], "BULK": []}


def test_a_watched_replay_shows_each_step_and_each_verdict_of_its_own(
    world: ServedStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTraces, "world", world, raising=False)
    monkeypatch.setattr("stream.topic_reader.TopicReader", FakeTraces)
    code, out, _ = run("--id", "a", "--id", "b", "--watch", "--dry-run")
    assert code == Exit.OK
    lines = out.splitlines()
    assert len(lines) == 2 * 2 + 1
    assert [("step" in line, "search 4 ms" in line) for line in lines[:2]] == [(True, True), (False, True)]
    assert lines[-1].startswith("2 images decided again")
    assert all(each.watch and each.dry_run for each in world.requests[Lane.NAMED])
    code, out, _ = run("--id", "a", "--watch", "--json")
    *traces, result = _json_values(out)
    assert [(each["kind"], each["image_id"]) for each in traces] == [("step", "a"), ("replay", "a")]
    assert (result["sent"], result["applied"]) == (1, 1)


def _json_values(text: str) -> list[dict[str, Any]]:
    """JSON values behind each other, as `jq` reads them."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


def test_a_dry_run_shows_what_would_change_and_sends_nothing(
    world: ServedStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def tried(images: Any, servers: Any, settings: Any, now_ms: int) -> dict[ImageId, KnownVerdict]:
        asked.append((settings.model_version, [each.embedding.search_vector for each in images]))
        same = {each.image.image_id: KnownVerdict.of(each.image) for each in images}
        return same | {B: KnownVerdict(B, Cause.FOUNDED, None, None, Versions("v9", "i1"))}

    monkeypatch.setattr("stream.replay.trial_service.try_images", tried)
    before = world.store.position()
    code, out, err = run("--id", "b", "--id", "a", "--id", "d", "--id", "x", "--dry-run", "--model-version", "v9")
    assert code == Exit.OK
    assert "other head: 1\nsame: 1\n" in out
    assert "2 images tried" in err
    assert "not known to storage: x" in err
    assert "their embeddings are not stored: d" in err
    assert asked == [("v9", [b"search", b"search"])]
    code, out, _ = run("--head", "a", "--dry-run", "--json")
    said = json.loads(out)
    assert [each["image_id"] for each in said["changed"]] == ["b"]
    assert said["changed"][0]["new"]["model"] == "v9"
    assert sent(world) == {"NAMED": [], "BULK": []}
    assert world.store.position() == before
    assert world.store.state().required == frozenset()


def test_a_dry_run_that_is_stopped_shows_what_it_has(
    world: ServedStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(images: Any, servers: Any, settings: Any, now_ms: int) -> dict[ImageId, KnownVerdict]:
        if images[0].image.image_id == B:
            raise KeyboardInterrupt
        return {A: KnownVerdict(B, Cause.MATCHED, 0.9, B, Versions("v9", "i1"))}

    monkeypatch.setattr("stream.replay.trial_service.try_images", tried)
    monkeypatch.setattr("stream.replay.service.PAGE", 1)
    code, out, err = run("--id", "x", "--id", "a", "--id", "b", "--dry-run")
    assert (code, "other head: 1\n" in out) == (Exit.INTERRUPTED, True)
    assert "1 image tried" in err
    assert "not known to storage: x" in err
    code, out, _ = run("--id", "b", "--dry-run")
    assert (code, out) == (Exit.INTERRUPTED, "")
