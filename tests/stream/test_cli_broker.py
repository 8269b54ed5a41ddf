"""The commands that talk to Kafka, against a real broker and nothing else."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.errors import MismatchError
from core.notifications import Half, decode
from core.traces import trace_json
from core.types import Cause, ImageId, Versions
from examples.extending.alias_consumer import follow
from storage.records import HistoryEntry
from storage.serving.assignments import message_of
from storage.testing.decisions import EPOCH
from stream.broker import Broker, producer
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.local.parts import flink_parts
from stream.local.resolved import resolved_toml
from stream.local.supervisor import Deployment
from stream.settings import Settings
from stream.topic_check import require_topics
from stream.topic_plans import TopicPlan, topic_plans
from stream.topic_reader import TopicReader
from tests.support.stack import PHOTOS, eventually, stack_settings
from tests.support.traces import sample_trace

pytestmark = pytest.mark.cluster

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a deployment whose broker alone is up."""
    settings = stack_settings(tmp_path_factory.mktemp("broker"))
    broker = next(part for part in flink_parts(settings) if part.name == "broker")
    deployment = Deployment(settings, [broker])
    deployment.up()
    yield settings
    deployment.down()


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command against the broker; gives exit code, output, and what else was said."""
    for name in os.environ:
        if name.startswith("NEARDUP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NEARDUP_SETTINGS", str(settings.data_dir / "run" / "settings.toml"))

    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def topics(run: Run) -> None:
    assert run("topics", "create")[0] == Exit.OK


def images(path: Path, rows: int) -> Path:
    content: dict[str, Any] = {
        "image_id": [f"image-{row}" for row in range(rows)],
        "search": pa.array(list(np.ones((rows, 1280), np.float16)), pa.list_(pa.float16(), 1280)),
        "score": pa.array(list(np.ones((rows, 768), np.float32)), pa.list_(pa.float32())),
        "created_at": [1_714_521_600_000] * rows,
    }
    pq.write_table(pa.table(content), path)
    return path


def test_topics_are_made_once_and_as_they_must_be(run: Run, settings: Settings) -> None:
    code, first, _ = run("topics", "create")
    assert code == Exit.OK
    assert "joined: " in first
    assert "exists" in run("topics", "create")[1]
    listed = {row["topic"]: row for row in json.loads(run("topics", "list", "--json")[1])}
    assert listed["neardup.photos.joined"]["partitions"] == 1
    assert listed["neardup.photos.embeddings.search"]["partitions"] == settings.kafka.partitions
    assert (listed["neardup.aliases"]["signal"], listed["neardup.aliases"]["partitions"]) == ("", 1)
    assert all(row["exists"] for row in listed.values())


@pytest.mark.usefixtures("topics")
def test_topics_that_were_changed_are_refused_until_they_are_mended(run: Run, settings: Settings) -> None:
    assert run("topics", "check")[0] == Exit.OK
    search = "neardup.photos.embeddings.search"
    with Broker(settings.kafka_access("test")) as broker:
        broker.alter(search, {"message.timestamp.type": "CreateTime", "flush.ms": "60000"})
        broker.alter("neardup.photos.assignments", {"flush.messages": "1000"})
        code, said, _ = run("topics", "check")
        assert code == Exit.MISMATCH
        assert f"{search} has message.timestamp.type=CreateTime (needs LogAppendTime), flush.ms=60000" in said
        assert "neardup.photos.assignments has flush.messages=1000 (needs 1)" in said
        with pytest.raises(MismatchError, match="neardup topics create --update"):
            require_topics(broker, topic_plans(settings.signal()[1], settings.kafka))
    assert "exists" in run("topics", "create")[1]
    assert run("topics", "check")[0] == Exit.MISMATCH
    assert f"{search}: changed message.timestamp.type=LogAppendTime" in run("topics", "create", "--update")[1]
    assert run("topics", "check")[0] == Exit.OK


@pytest.mark.usefixtures("topics")
def test_a_flush_that_the_broker_does_not_look_after_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARDUP_KAFKA__FLUSH_MS", "200")
    assert run("topics", "create", "--update")[0] == Exit.OK
    code, said, _ = run("topics", "check")
    assert code == Exit.MISMATCH
    assert "broker 1 has log.flush.scheduler.interval.ms=1000, so flush.ms=200" in said
    monkeypatch.delenv("NEARDUP_KAFKA__FLUSH_MS")
    assert run("topics", "create", "--update")[0] == Exit.OK


def test_settings_that_the_brokers_refuse_are_told(settings: Settings) -> None:
    wrong = TopicPlan("refused", 1, 1, {"flush.messages": "0"})
    with Broker(settings.kafka_access("test")) as broker:
        with pytest.raises(MismatchError, match=r"refuse the settings of refused: .*kafka.flush = false"):
            broker.create([wrong])
        with pytest.raises(MismatchError, match=r"refuse the settings of neardup\.photos\.joined"):
            broker.alter("neardup.photos.joined", {"cleanup.policy": "sometimes"})


@pytest.mark.usefixtures("topics")
def test_published_images_are_notifications_of_both_embeddings(run: Run, settings: Settings, tmp_path: Path) -> None:
    with Broker(settings.kafka_access("test")) as broker:
        names = (f"neardup.photos.embeddings.{half}" for half in ("search", "score"))
        before = {name: broker.ends(name) for name in names}
        code, out, err = run("publish", str(images(tmp_path / "images.parquet", 50)), "--rate", "500")
        assert (code, out) == (Exit.OK, "")
        assert "50 images sent" in err
        signal = settings.signals["photos"]
        for topic, embedding in zip(before, (signal.search_embedding, signal.score_embedding), strict=True):
            ids = set()
            for partition, ends in broker.ends(topic).items():
                for offset in range(before[topic][partition].end, ends.end):
                    half = decode(broker.record(topic, offset, partition), embedding)
                    assert isinstance(half, Half)
                    assert (half.version, half.created_at_ms) == (1, 1_714_521_600_000)
                    ids.add(half.image_id)
            assert ids == {f"image-{row}" for row in range(50)}


@pytest.mark.usefixtures("topics")
def test_dead_letters_are_shown_newest_last(run: Run, settings: Settings) -> None:
    sender = producer(settings.kafka_access("test"), 1 << 20)
    for number, reason in enumerate(Reason):
        value = dead_letter(
            BadRecord(reason, f"detail {number}"), Provenance("embeddings.search", 1, number, 5), b"raw"
        )
        sender.send("neardup.photos.dead-letter", value=value, key=b"k")
    sender.send("neardup.photos.dead-letter", value=b"something else", key=b"k")
    sender.flush()
    code, out, _ = run("dead-letters", "--limit", "3")
    assert code == Exit.OK
    *_, before_last, last, stranger = (line for line in out.splitlines() if line.strip())
    assert "embeddings.search/1/" in before_last
    assert f"{list(Reason)[-1]}" in last
    assert "not a dead letter" in stranger
    told = [json.loads(line) for line in run("dead-letters", "--limit", "1000", "--json")[1].splitlines()]
    assert [dead["reason"] for dead in told[:-1]] == [reason.value for reason in Reason]
    assert "not_a_dead_letter" in told[-1]


def bad_file(folder: Path, broken: int, prefix: str = "broken") -> Path:
    """300 images; the vector of one is too short."""
    rng = np.random.default_rng(5)
    search = [rng.standard_normal(1280).astype("<f4").tolist() for _ in range(300)]
    search[broken] = [1.0, 2.0]
    score = [rng.standard_normal(768).astype("<f4").tolist() for _ in range(300)]
    columns = {
        "image_id": [f"{prefix}-{row}" for row in range(300)],
        "search": pa.array(search, pa.list_(pa.float32())),
        "score": pa.array(score, pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), folder / "broken.parquet")
    return folder / "broken.parquet"


def keys(settings: Settings, prefix: bytes) -> set[bytes]:
    """The keys of the search topic that begin so."""
    topic = "neardup.photos.embeddings.search"
    with Broker(settings.kafka_access("test")) as broker:
        consumer = KafkaConsumer(bootstrap_servers=settings.kafka.servers, enable_auto_commit=False)
        parts = {TopicPartition(topic, number): ends.end for number, ends in broker.ends(topic).items()}
    consumer.assign(list(parts))
    consumer.seek_to_beginning(*parts)
    found: set[bytes] = set()
    while any(consumer.position(part) < end for part, end in parts.items()):
        for records in consumer.poll(timeout_ms=1_000).values():
            found |= {each.key for each in records if each.key.startswith(prefix)}
    consumer.close()
    return found


@pytest.mark.usefixtures("topics")
def test_after_a_broken_row_publish_says_how_to_go_on(run: Run, settings: Settings, tmp_path: Path) -> None:
    file = bad_file(tmp_path, 280)
    code, _, err = run("publish", str(file))
    assert code == Exit.USAGE
    assert "go on with --skip 280" in err
    assert keys(settings, b"broken-") == {b"broken-%d" % row for row in range(280)}
    assert run("publish", str(file), "--skip", "280")[0] == Exit.USAGE  # the row is as broken as before
    assert run("publish", str(file), "--skip", "281")[0] == Exit.OK
    assert keys(settings, b"broken-") == {b"broken-%d" % row for row in range(300) if row != 280}


@pytest.mark.usefixtures("topics")
def test_halves_are_replayed_once_with_key_bytes_and_trace(run: Run, settings: Settings, tmp_path: Path) -> None:
    topic, name = "neardup.photos.embeddings.search", "neardup.photos.dead-letter"
    sender = producer(settings.kafka_access("test"), 1 << 20)
    for number in range(3):
        bad = BadRecord(Reason.MISSING_SCORE_HALF, "no partner")
        value = dead_letter(bad, Provenance(topic, 1, number, 5), b"half %d" % number, None)
        sender.send(name, value=value, key=b"replayed-%d" % number, headers=[("traceparent", b"00-trace")])
    sender.flush()
    ids = tmp_path / "ids.txt"
    ids.write_bytes(b"replayed-0\nreplayed-2\nnobody\n")

    def replayed(*words: str) -> dict[str, int]:
        code, out, _ = run("dead-letters", "replay", "--since", "1h", "--json", *words)
        assert code == Exit.OK
        counts: dict[str, int] = json.loads(out)["counts"]
        return counts

    def halves() -> list[tuple[bytes, bytes, dict[str, bytes]]]:
        found = []
        consumer = KafkaConsumer(bootstrap_servers=settings.kafka.servers, enable_auto_commit=False)
        parts = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        while any(consumer.position(part) < end for part, end in ends.items()):
            for records in consumer.poll(timeout_ms=1_000).values():
                found += [(each.key, each.value, dict(each.headers)) for each in records]
        consumer.close()
        return sorted((each for each in found if each[0].startswith(b"replayed-")), key=lambda each: each[:2])

    assert replayed("--ids-file", str(ids), "--dry-run")["sent"] == 2
    assert halves() == []
    assert replayed("--ids-file", str(ids))["sent"] == 2
    trace = {"traceparent": b"00-trace"}
    assert halves() == [(b"replayed-0", b"half 0", trace), (b"replayed-2", b"half 2", trace)]
    again = replayed()
    assert (again["sent"], again["settled"]) == (1, 2)
    assert replayed()["sent"] == 0
    assert len(halves()) == 3
    assert replayed("--ids-file", str(ids), "--again")["sent"] == 2
    assert len(halves()) == 5
    code, _, err = run("dead-letters", "replay", "--reason", "bored")
    assert code == Exit.USAGE
    assert "missing_score_half" in err
    assert "(replayed)" in run("dead-letters")[1]


@pytest.mark.usefixtures("topics")
def test_settled_dead_letters_leave_lists_and_counts(run: Run, settings: Settings) -> None:
    sender = producer(settings.kafka_access("test"), 1 << 20)
    for number in range(3):
        value = dead_letter(BadRecord(Reason.TIME_TOO_LATE, "why"), Provenance("joined", 0, number, 5), b"\x0a\x01a")
        sender.send("neardup.photos.dead-letter", value=value, key=b"settled-%d" % number)
    sender.flush()

    def listed(*words: str) -> list[str]:
        code, out, _ = run("dead-letters", "list", "--reason", "time_too_late", "--since", "1h", "--json", *words)
        assert code == Exit.OK
        ids = [one["image_id"] for group in json.loads(out)["reasons"] for one in group["dead_letters"]]
        return [image_id for image_id in ids if image_id.startswith("settled-")]

    def count(state: str) -> int:
        reasons = json.loads(run("dead-letters", "stats", "--json")[1])["reasons"]
        return int(next(each[state] for each in reasons if each["reason"] == "time_too_late"))

    assert listed() == ["settled-0", "settled-1", "settled-2"]
    opened, acknowledged = count("open"), count("acknowledged")
    words = ("dead-letters", "settle", "--image", "settled-1", "--because", "a test", "--author", "anna", "--json")
    assert json.loads(run(*words)[1])["settled"] == 1
    assert json.loads(run(*words)[1]) == {"dry_run": False, "settled": 0, "settled_before": 1, "reasons": {}}
    assert listed() == ["settled-0", "settled-2"]
    assert listed("--state", "settled") == ["settled-1"]
    assert (count("open"), count("acknowledged")) == (opened - 1, acknowledged + 1)


@pytest.mark.usefixtures("topics")
def test_traces_are_found_followed_and_drawn(run: Run, settings: Settings) -> None:
    sender = producer(settings.kafka_access("test"), 1 << 20)

    def put(image_id: str, version: int) -> None:
        trace = sample_trace(image_id=image_id, version=version)
        sender.send("neardup.photos.debug", value=trace_json(trace), key=image_id.encode())
        sender.flush()

    def versions(*words: str) -> list[int]:
        code, out, err = run("debug", *words, "--json")
        assert code == Exit.OK, err
        return [json.loads(line)["version"] for line in out.splitlines()]

    for version in range(3):
        put("drawn", version)
    put("other", 9)
    assert versions("show", "drawn", "--last", "2") == [1, 2]
    assert run("debug", "show", "drawn")[1].startswith("drawn version 2 -> harbour-1")
    assert run("debug", "show", "nobody")[0] == Exit.NOT_FOUND
    assert versions("grep", "drawn", "--min-score", "0.9") == [0, 1, 2]
    assert versions("grep", "--image", "other", "--since", "1h") == [9]
    assert versions("grep", "--until", "1h") == []
    assert versions("tail", "--from-start", "--limit", "2") == [0, 1]
    assert versions("tail", "--since", "1h", "--image", "other", "--limit", "1") == [9]


@pytest.mark.usefixtures("topics")
def test_traces_over_several_partitions_are_refused(
    run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__TOPICS__DEBUG", "spread")
    with Broker(settings.kafka_access("test")) as broker:
        broker.create([TopicPlan("neardup.photos.spread", 2, 1, {})])
    code, _, err = run("debug", "grep")
    assert code == Exit.MISMATCH
    assert "neardup.photos.spread has 2 partitions, but traces are read from one" in err


@pytest.mark.usefixtures("topics")
def test_assignments_are_followed_from_the_start(run: Run, settings: Settings) -> None:
    sender = producer(settings.kafka_access("test"), 1 << 20)
    for number in range(5):
        sender.send("neardup.photos.assignments", value=json.dumps({"history_number": number}).encode(), key=b"k")
    sender.flush()
    code, out, _ = run("tail", "assignments", "--from-start", "--limit", "3")
    assert code == Exit.OK
    assert [json.loads(line)["history_number"] for line in out.splitlines()] == [0, 1, 2]


@pytest.mark.usefixtures("topics")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_publish_and_tail_end_in_good_order_when_asked_to(
    run: Run, settings: Settings, tmp_path: Path, number: signal.Signals
) -> None:
    def started(*words: str) -> subprocess.Popen[str]:
        program = f"import sys; from stream.cli.main import main; sys.exit(main({list(words)!r}))"
        return subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    sender = producer(settings.kafka_access("test"), 1 << 20)
    sender.send("neardup.photos.assignments", value=b"{}", key=b"k")
    sender.flush()
    tail = started("tail", "assignments", "--from-start")
    assert tail.stdout is not None
    assert tail.stdout.readline().startswith("{")
    file = bad_file(tmp_path, 299, number.name)
    publishing = started("publish", str(file), "--rate", "5")
    prefix = number.name.encode()
    # Once the third image is there, the first is acknowledged.
    eventually(lambda: len(keys(settings, prefix)) > 2 or None, 60, lambda: "publish has sent next to nothing")
    for process in (tail, publishing):
        process.send_signal(number)
    assert tail.wait(30) == Exit.INTERRUPTED
    said = publishing.communicate(timeout=30)[1]
    assert publishing.returncode == Exit.INTERRUPTED
    done = int(re.search(r"go on with --skip (\d+)", said)[1])  # type: ignore[index]
    assert 0 < done < 299
    assert keys(settings, prefix) >= {prefix + b"-%d" % row for row in range(done)}


@pytest.mark.usefixtures("topics")
def test_the_last_records_of_a_topic(settings: Settings) -> None:
    sender = producer(settings.kafka_access("test"), 1 << 20)
    for number in range(2_500):
        sender.send("neardup.photos.joined", value=str(number).encode(), key=b"k")
    sender.flush()
    with TopicReader(settings.kafka_access("test"), "neardup.photos.joined") as reader:
        assert reader.ends() == (0, 2_500)
        assert [int(record.value) for record in reader.last(1_700)] == list(range(800, 2_500))
        assert len(list(reader.last(9_999))) == 2_500


@pytest.mark.usefixtures("topics")
@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_records_of_every_codec_are_read(settings: Settings, codec: str) -> None:
    """The broker, whose codecs are Java's, compresses what it is sent."""
    topic = f"compressed-{codec}"
    values = [bytes(3_000_000), os.urandom(30_000), b"x"]
    with Broker(settings.kafka_access("test")) as broker:
        configs = {"compression.type": codec, "max.message.bytes": "4194304"}
        broker.create([TopicPlan(topic, 1, 1, configs)])
        sender = producer(settings.kafka_access("test"), 4 << 20)
        for value in values:
            sender.send(topic, value=value)
        sender.close()
        assert [broker.record(topic, offset) for offset in range(3)] == values
    with TopicReader(settings.kafka_access("test"), topic) as reader:
        assert [record.value for record in reader.last(10)] == values


@pytest.mark.usefixtures("topics")
def test_the_end_of_a_topic_may_be_a_marker(settings: Settings) -> None:
    topic = "neardup.photos.embeddings.search"
    access = settings.kafka_access("test")
    sender = KafkaProducer(**access.python_options(), transactional_id="sender", acks="all")
    sender.init_transactions()
    with Broker(access) as broker, TopicReader(access, topic) as reader:
        first = broker.ends(topic)[0].end
        for value, end in ((b"taken back", sender.abort_transaction), (b"meant", sender.commit_transaction)):
            sender.begin_transaction()
            sender.send(topic, value=value, partition=0)
            sender.flush()
            end()
        end_offset = broker.ends(topic)[0].end
        assert end_offset == first + 4  # two records, each with a marker behind it
        assert [record.value for record in reader.last(4)] == [b"meant"]
        assert broker.unread(topic, 0, first) == 4
        assert broker.unread(topic, 0, first + 2) == 2
        assert broker.unread(topic, 0, first + 3) == 0
        assert list(reader.last(1)) == []
    sender.close()


def test_what_cannot_be_published_is_refused(run: Run, tmp_path: Path) -> None:
    code, _, err = run("publish", str(tmp_path / "nowhere.parquet"))
    assert code == Exit.USAGE
    assert "nowhere.parquet" in err
    pq.write_table(pa.table({"image_id": ["a"]}), tmp_path / "bare.parquet")
    code, _, err = run("publish", str(tmp_path / "bare.parquet"))
    assert code == Exit.USAGE
    assert "no column search" in err
    good = images(tmp_path / "good.parquet", 1)
    assert run("publish", str(good), "--rate", "0")[0] == Exit.USAGE
    assert run("publish", str(good), "--signal", "texts")[0] == Exit.USAGE


def test_a_topic_that_is_not_there_is_said(run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__TOPIC_PREFIX", "other.")
    code, _, err = run("dead-letters")
    assert code == Exit.UNAVAILABLE
    assert "other.dead-letter: run `neardup topics create`" in err


@pytest.fixture
def two_signals(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run) -> dict[str, str]:
    """The settings have two other signals, and every topic is there; gives the `assignments` of each."""
    both = stack_settings(tmp_path, {"older": PHOTOS, "newer": PHOTOS}).model_copy(update={"kafka": settings.kafka})
    file = tmp_path / "neardup.toml"
    file.write_text(resolved_toml(both), encoding="utf-8")
    monkeypatch.setenv("NEARDUP_SETTINGS", str(file))
    monkeypatch.setenv("NEARDUP_API_TOKEN", "write-key")
    assert run("topics", "create")[0] == Exit.OK
    return {name: signal.topic("assignments") for name, signal in both.signals.items()}


def change(number: int, image_id: str, head: str) -> bytes:
    """A record of `assignments`."""
    entry = HistoryEntry(
        number=number,
        image_id=ImageId(image_id),
        old_head=None,
        new_head=ImageId(head),
        cause=Cause.MATCHED,
        score=None,
        matched=None,
        place=0,
        offset=0,
        version=1,
        decided_at_ms=0,
        created_at_ms=0,
        arrived_at_ms=0,
        versions=Versions(),
    )
    return message_of(entry, EPOCH).value


def test_a_consumer_of_an_alias_goes_where_people_send_it(
    run: Run, settings: Settings, two_signals: dict[str, str]
) -> None:
    """The example of `docs/extending.md` against the commands and a real broker."""
    access = settings.kafka_access("test")
    sender = producer(access, 1 << 20)

    def send(signal: str, *values: bytes) -> None:
        for value in values:
            sender.send(two_signals[signal], value=value)
        sender.flush()

    send("older", change(1, "a", "a"), change(2, "b", "a"))
    send("newer", *(change(number, f"image-{number}", "image-1") for number in range(1, 2001)))
    seen = follow(settings.kafka.servers, settings.kafka.aliases_topic, "live")
    assert next(seen) == {}
    assert run("alias", "set", "live", "older", "--force")[0] == Exit.OK
    old = until(seen, lambda heads: heads.get("b") == "a")
    assert run("alias", "set", "live", "newer", "--expect", "older", "--force")[0] == Exit.OK
    # Between the two there is nothing: no heads of both, and none of the new ones before all are there.
    shown = []
    until(seen, lambda heads: bool(shown.append(dict(heads))) or "image-1" in heads)
    assert {frozenset(each.items()) for each in shown[:-1]} <= {frozenset(old.items())}
    assert shown[-1] == {f"image-{number}": "image-1" for number in range(1, 2001)}
    send("newer", change(2001, "late", "late"), change(2002, "image-7", ""))
    until(seen, lambda heads: heads.get("late") == "late" and "image-7" not in heads)
    assert run("alias", "back", "live", "--force")[0] == Exit.OK
    until(seen, lambda heads: heads == old)
    assert run("alias", "drop", "live")[0] == Exit.OK
    send("older", change(3, "c", "c"))
    until(seen, lambda heads: heads == {**old, "c": "c"})
    seen.close()
    with TopicReader(access, settings.kafka.aliases_topic) as reader:
        records = [(each.key, json.loads(each.value) if each.value else None) for each in reader.last(100)]
    assert [key for key, _ in records] == [b"live"] * 4
    assert [value and (value["signal"], value["previous"]) for _, value in records] == [
        ("older", None),
        ("newer", "older"),
        ("older", "newer"),
        None,
    ]
    sender.close()


def until(seen: Iterable[dict[str, str]], holds: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """A copy of the first heads of which something holds."""
    return dict(next(heads for heads in islice(seen, 300) if holds(heads)))


@pytest.mark.usefixtures("two_signals")
def test_an_alias_is_set_also_where_its_topic_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARDUP_KAFKA__ALIASES_TOPIC", "elsewhere")
    code, _, err = run("alias", "set", "live", "newer", "--force")
    assert code == Exit.UNAVAILABLE
    assert "no topic elsewhere: run `neardup topics create`" in err
    assert "run `neardup alias set live newer` once Kafka answers" in err
    assert json.loads(run("alias", "list", "--json")[1])[0]["signal"] == "newer"
    assert run("topics", "create")[0] == Exit.OK
    assert run("alias", "set", "live", "newer")[0] == Exit.OK


@pytest.mark.usefixtures("two_signals")
def test_the_topic_of_aliases_is_compacted_and_checked(run: Run, settings: Settings) -> None:
    topic = settings.kafka.aliases_topic
    assert run("topics", "check")[0] == Exit.OK
    with Broker(settings.kafka_access("test")) as broker:
        assert broker.topic_state(topic).configs["cleanup.policy"] == "compact"
        broker.alter(topic, {"cleanup.policy": "delete"})
    code, said, _ = run("topics", "check")
    assert code == Exit.MISMATCH
    assert f"{topic} has cleanup.policy=delete (needs compact)" in said
    assert run("topics", "check", "--signal", "older")[0] == Exit.OK
    assert f"{topic}: changed cleanup.policy=compact" in run("topics", "create", "--update")[1]
    assert run("topics", "check")[0] == Exit.OK
