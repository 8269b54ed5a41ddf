"""`neardup debug tail|grep|show` on a topic without a broker; that they end in good order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from core.traces import Trace, trace_json
from core.types import Cause, Outcome
from stream.cli.exits import Exit
from stream.cli.main import main
from tests.support.fake_reader import FakeTopics
from tests.support.traces import sample_trace

TOPIC = "neardup.photos.debug"

Run = Callable[..., tuple[int, str, str]]


def put(topics: FakeTopics, trace: Trace) -> None:
    topics.append(TOPIC, trace_json(trace), trace.image_id.encode())


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> FakeTopics:
    topics = FakeTopics()
    topics.patch(monkeypatch)
    put(topics, sample_trace())
    put(topics, sample_trace(image_id="b", cause=Cause.FOUNDED))
    topics.append(TOPIC, b"junk")
    put(topics, sample_trace(version=2))
    return topics


@pytest.fixture
def run(topics: FakeTopics, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["debug", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def versions(run: Run, *words: str) -> list[tuple[str, int]]:
    code, out, err = run(*words, "--json")
    assert code == Exit.OK, err
    return [(each["image_id"], each["version"]) for each in map(json.loads, out.splitlines())]


def test_show_draws_the_last_verdict_of_an_image(run: Run) -> None:
    code, out, _ = run("show", "harbour-3")
    assert code == Exit.OK
    assert out.startswith("harbour-3 version 2 -> harbour-1")
    assert "+ harbour-2" in out
    assert versions(run, "show", "harbour-3", "--last", "5") == [("harbour-3", 1), ("harbour-3", 2)]
    code, out, _ = run("show", "harbour-3", "--candidates", "0")
    assert "crowd-4" not in out


def test_show_of_an_image_without_traces(run: Run) -> None:
    code, out, err = run("show", "nobody")
    assert (code, out) == (Exit.NOT_FOUND, "")
    assert "no trace of 'nobody' is in the topic" in err
    assert run("show", "b", "--since", "2023-11-14T22:13:24")[0] == Exit.NOT_FOUND


def test_grep_finds_by_text_and_by_filter(run: Run) -> None:
    assert versions(run, "grep", "crowd-4") == [("harbour-3", 1), ("b", 1), ("harbour-3", 2)]
    assert versions(run, "grep", "--cause", "founded") == [("b", 1)]
    assert versions(run, "grep", "--image", "harbour-3", "--limit", "1") == [("harbour-3", 1)]
    assert versions(run, "grep", "--min-score", "0.94") == []
    assert versions(run, "grep", "--since", "2023-11-14T22:13:22") == [("b", 1), ("harbour-3", 2)]
    assert versions(run, "grep", "--until", "2023-11-14T22:13:22") == [("harbour-3", 1)]
    code, out, _ = run("grep", "--image", "b")
    assert code == Exit.OK
    assert "  b  v1  ->  harbour-1  decided  founded  match harbour-2  0.93000  (flag)  search 9 ms" in out
    assert "(1 record could not be read; the first: not a trace" in run("grep")[2]
    assert "no trace is chosen" in run("grep", "nobody")[2]
    assert run("grep", "--image", "b", "--tree")[1].startswith("b version 1")


def test_tail_follows_from_the_end_the_start_or_a_time(run: Run, topics: FakeTopics) -> None:
    arrived: list[int] = []

    def arrive() -> None:
        arrived.append(1)
        put(topics, sample_trace(version=10 + len(arrived), outcome=Outcome.DECIDED))

    topics.on_idle = arrive
    assert versions(run, "tail", "--limit", "2") == [("harbour-3", 11), ("harbour-3", 12)]
    assert versions(run, "tail", "--from-start", "--image", "b", "--limit", "1") == [("b", 1)]
    assert versions(run, "tail", "--since", "2023-11-14T22:13:24", "--limit", "2") == [
        ("harbour-3", 2),
        ("harbour-3", 11),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tail", "--from-start", "--since", "1h"], "cannot be given together"),
        (["grep", "--slower", "sleep=1"], "--slower takes STEP=MS"),
        (["grep", "--until", "soon"], "--until takes"),
        (["tail", "--min-score", "2"], "min-score"),
    ],
)
def test_wrong_usage(run: Run, words: list[str], said: str) -> None:
    code, _, err = run(*words)
    assert code == Exit.USAGE
    assert said in err


def test_a_large_topic_takes_no_memory(run: Run, topics: FakeTopics) -> None:
    """Of 2,000 traces of 100 kB, the command never holds more than a few."""
    large = sample_trace(unscored="x" * 100_000)
    raw = trace_json(large)
    for _ in range(2_000):
        topics.append(TOPIC, raw, b"other")
    run("show", "harbour-3")  # what is imported once does not count
    tracemalloc.start()
    try:
        assert versions(run, "show", "b") == [("b", 1)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50 * len(raw)


PROGRAM = """
import sys
from core.traces import trace_json
from stream.cli.main import main
from tests.support.fake_reader import FakeTopics
from tests.support.traces import sample_trace
import stream.topic_reader, time
topics = FakeTopics()
for number in range(3):
    topics.append("neardup.photos.debug", trace_json(sample_trace()), b"harbour-3")
topics.on_idle = lambda: time.sleep(0.05)
class Patch:
    def setattr(self, name, value):
        module, _, name = name.rpartition(".")
        setattr(sys.modules[module], name, value)
import stream.publish
topics.patch(Patch())
sys.exit(main(sys.argv[1:]))
"""


def started(*words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_tail_with_whole_lines(number: signal.Signals) -> None:
    process = started("debug", "tail", "--from-start", "--json")
    assert process.stdout is not None
    first: dict[str, Any] = json.loads(process.stdout.readline())
    assert first["image_id"] == "harbour-3"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED
    assert all(json.loads(line)["image_id"] == "harbour-3" for line in out.splitlines())
    assert "Traceback" not in err


@pytest.mark.parametrize("form", [["--json"], ["--tree"], []])
def test_a_reader_that_is_gone_ends_an_idle_tail(form: list[str]) -> None:
    """As in `neardup debug tail | head -1`, also while no further trace comes."""
    process = started("debug", "tail", "--from-start", *form)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) in (Exit.OK, Exit.FAILED)
    assert process.stderr is not None
    assert process.stderr.read() == ""
