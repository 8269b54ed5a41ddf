"""Faults while images flow: killed parts, a store that was restored to an earlier state, a topic that was recreated."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from core.dead_letters import Reason
from core.errors import MismatchError, ServiceError
from core.types import ImageId
from search.serving.client import SearchClient
from stream.broker import Broker
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.flink_rest import JobState
from stream.job_control import JobControl
from stream.local.broker import prepare_broker
from stream.local.processes import marked_processes
from stream.local.resolved import resolved_toml
from stream.publish import notification
from stream.topic_check import topic_problems
from stream.topic_plans import topic_plans
from tests.cluster.test_waiting_halves import named
from tests.support.faults import VICTIMS, check_calm, kill_while_flowing, replay_and_delete
from tests.support.full_disk import full_disk
from tests.support.stack import Stack, eventually, running, sample_rows, stack_settings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SEED = 20261121
"""Seed of the order and the moments of the kills."""


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running deployment that the tests of this module may break."""
    with running(stack_settings(tmp_path_factory.mktemp("harmed"))) as harmed:
        yield harmed


def test_kills_lose_nothing_and_change_nothing(harmed: Stack, tmp_path: Path) -> None:
    """Images flow, others are replayed three times, and some of them are deleted."""
    rows = sample_rows(600)
    random.Random(SEED).shuffle(rows)
    known = [ImageId(row.image_id) for row in harmed.publish(named("storm", 120))]
    harmed.await_heads(known)
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(replay_and_delete, harmed, known[:80], known[80:], rounds=3)
        kills = kill_while_flowing(harmed, rows, rate=15.0, rounds=1, seed=SEED)
        asked.result()
    assert sorted(kill.part for kill in kills) == sorted(VICTIMS)
    assert check_calm(harmed, tmp_path / "calm").images > 100
    with harmed.storage() as storage:
        assert {each.image.image_id for each in storage.named(known)} == set(known[:80])
    assert harmed.dead_letters() == []


def test_a_store_put_back_to_an_earlier_state_goes_on_once_the_index_is_built_from_it(
    harmed: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The running job sends records after a gap, and storage refuses them. No job starts on the index as it is."""
    store, copy = harmed.settings.signal_dir("photos", "store"), harmed.settings.data_dir / "copy-of-storage"
    before, after, more = sample_rows(40, skip=700), sample_rows(40, skip=740), sample_rows(60, skip=780)
    # The last images are no copies of `after`: a copy could move a singleton among them.
    photographs = {_photograph(row.image_id) for row in after}
    last = [row for row in more if _photograph(row.image_id) not in photographs][:10]
    harmed.await_heads([row.image_id for row in harmed.publish(before)])
    harmed.deployment.stop("photos-storage")
    shutil.copytree(store, copy)
    harmed.deployment.start("photos-storage")
    expected = harmed.await_heads([row.image_id for row in harmed.publish(after)])
    with harmed.storage() as storage:
        applied = storage.describe().offset
    others = iter(sample_rows(60, skip=1340))

    def released() -> bool | None:
        harmed.publish(islice(others, 2))
        return _released(harmed) >= applied or None

    eventually(released, 60, lambda: f"the index has released up to {_released(harmed)}, not {applied}")
    harmed.deployment.stop("photos-storage")
    shutil.rmtree(store)
    copy.rename(store)
    harmed.deployment.start("photos-storage")
    assert harmed.heads(row.image_id for row in after) == {}
    control = JobControl(harmed.settings, "photos")
    job = control.state()
    harmed.publish(last)

    def refused() -> bool | None:
        with pytest.raises(MismatchError, match=r"released the order up to position .*--from storage"):
            control.start()
        return True

    eventually(lambda: not control.flink.live("neardup-photos") or None, 60, lambda: "the job is not cancelled")
    eventually(refused, 30, lambda: "a part does not answer")
    _use_settings(harmed, tmp_path, monkeypatch)
    assert main(["index", "build", "--from", "storage"]) == 0
    harmed.await_heads([row.image_id for row in last])
    assert harmed.heads(row.image_id for row in after) == expected
    assert harmed.problems() == []
    again = control.state()
    assert job is not None
    assert again is not None
    assert again.job_id != job.job_id


def test_an_index_snapshot_is_restored_while_the_rest_runs(
    harmed: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came after the snapshot is sent to the index again, so copies of it find their clusters."""
    _use_settings(harmed, tmp_path, monkeypatch)
    first, second = sample_rows(20, skip=1400), sample_rows(20, skip=1420)
    before = harmed.await_heads([row.image_id for row in harmed.publish(first)])
    assert main(["index", "snapshot", "made-by-a-test"]) == Exit.OK
    before |= harmed.await_heads([row.image_id for row in harmed.publish(second)])
    assert main(["index", "restore", "made-by-a-test"]) == Exit.FAILED
    harmed.deployment.stop("photos-search")
    assert main(["index", "restore", "made-by-a-test"]) == Exit.OK
    copies = [replace(row, image_id=f"copy-{row.image_id}") for row in [*first, *second]]
    harmed.publish(copies)
    harmed.deployment.start("photos-search")
    assert harmed.await_heads([row.image_id for row in copies]) == {f"copy-{each}": before[each] for each in before}
    assert harmed.heads(before) == before
    assert harmed.problems() == []


def test_a_copy_of_the_data_folder_of_a_stopped_service_goes_on_in_its_place(harmed: Stack) -> None:
    data, rows = harmed.settings.data_dir, sample_rows(30, skip=1440)
    backup, waiting = data.with_name("backup"), rows[20:]
    before = harmed.await_heads([row.image_id for row in harmed.publish(rows[:20])])
    halves = [(row.image_id.encode(), notification(row, harmed.signal.search_embedding, row.search)) for row in waiting]
    harmed.send_raw(harmed.signal.topic("search"), halves)
    JobControl(harmed.settings, "photos").stop()
    harmed.deployment.down()
    shutil.copytree(data, backup, symlinks=True)
    shutil.rmtree(data)
    backup.rename(data)
    harmed.deployment.up()
    # Parts that have just started may not answer at once on a busy machine.
    eventually(JobControl(harmed.settings, "photos").start, 60, lambda: "the job does not start")
    copies = [replace(row, image_id=f"after-{row.image_id}") for row in rows[:20]]
    harmed.publish(copies)
    halves = [(row.image_id.encode(), notification(row, harmed.signal.score_embedding, row.score)) for row in waiting]
    harmed.send_raw(harmed.signal.topic("score"), halves)
    assert harmed.await_heads([row.image_id for row in copies]) == {f"after-{each}": before[each] for each in before}
    harmed.await_heads([row.image_id for row in waiting])
    assert harmed.heads(before) == before
    assert harmed.problems() == []


def _use_settings(stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this process use the settings of the stack from now on."""
    file = folder / "neardup.toml"
    file.write_text(resolved_toml(stack.settings), encoding="utf-8")
    monkeypatch.setenv("NEARDUP_SETTINGS", str(file))


def _released(stack: Stack) -> int:
    """The position that the index has released."""
    part = stack.signal.search
    with closing(SearchClient(part.address, 5.0, part.max_message_bytes)) as search:
        return int(search.describe().released)


def test_full_disks_of_broker_and_task_manager_make_images_wait(harmed: Stack) -> None:
    """The broker ends and is started again and again, checkpoints fail; with space again, all images are placed."""
    rows = sample_rows(60, skip=1500)
    harmed.await_heads([row.image_id for row in harmed.publish(rows[:20])])
    broker = _pid(harmed, "broker")
    waiting = threading.Thread(target=harmed.publish, args=(rows[20:],))
    with full_disk(harmed.deployment, ["broker", "taskmanager"]):
        waiting.start()
        eventually(lambda: _pid(harmed, "broker") not in (None, broker) or None, 60, lambda: "the broker goes on")
    waiting.join()
    harmed.await_heads([row.image_id for row in rows])
    assert harmed.problems() == []


def _pid(stack: Stack, part: str) -> int | None:
    return next(status.pid for status in stack.deployment.status() if status.name == part)


def test_damaged_files_of_all_checkpoints_cost_nothing(harmed: Stack) -> None:
    """Incremental checkpoints share files. With these gone none can be restored, and waiting halves are read again."""
    control = JobControl(harmed.settings, "photos")
    signal, waiting = harmed.signal, sample_rows(60, skip=1250)
    harmed.send_raw(
        signal.topic("search"),
        [(row.image_id.encode(), notification(row, signal.search_embedding, row.search)) for row in waiting],
    )
    before = eventually(control.state, 60, lambda: "Flink does not know the job")
    own = control.snapshots.checkpoints / before.job_id

    def damaged() -> list[Path] | None:
        files = [file for file in (own / "shared").glob("*") if file.stat().st_size > 0]
        for file in files:  # the job removes old ones meanwhile: then all are damaged once more
            file.write_bytes(bytes(file.stat().st_size))
        return files or None

    # The checkpoint after the next one holds the halves.
    first = eventually(lambda: _completed(control, before), 60, lambda: "Flink does not answer")
    eventually(lambda: _completed(control, before) >= first + 2 or None, 180, lambda: "no checkpoint is completed")
    eventually(damaged, 60, lambda: f"{own} has no shared files")
    harmed.deployment.kill("taskmanager")
    after = eventually(lambda: _other_job(control, before), 300, lambda: f"{before.job_id} is not replaced")
    assert after.job_id != before.job_id
    harmed.send_raw(
        signal.topic("score"),
        [(row.image_id.encode(), notification(row, signal.score_embedding, row.score)) for row in waiting],
    )
    # That job may be replaced too, once it reads what is damaged. The last one reads the embedding topics again.
    harmed.await_heads([row.image_id for row in waiting], timeout_s=300)
    assert harmed.problems() == []


def _completed(control: JobControl, job: JobState) -> int:
    """How many checkpoints a job has completed."""
    return int(control.flink.checkpoints(job.job_id)["counts"]["completed"])


def _other_job(control: JobControl, before: JobState) -> JobState | None:
    """The job that runs in the place of another."""
    state = control.state()
    if state is None or state.job_id == before.job_id or not control.flink.running(state.job_id):
        return None
    return state


def test_new_images_at_offsets_that_a_power_cut_freed_are_all_read(harmed: Stack) -> None:
    """The broker loses records that the job has read; others take their offsets, while the job runs."""
    old, new = sample_rows(60, skip=840), sample_rows(150, skip=960)
    heads = harmed.await_heads([row.image_id for row in harmed.publish(old)])
    control = JobControl(harmed.settings, "photos")
    before = control.state()
    _await_marks(control, harmed)
    harmed.deployment.stop("broker")
    log = harmed.settings.data_dir / "kafka" / "log"
    # What a clean stop leaves would tell the broker not to look at its files.
    for name in (".kafka_cleanshutdown", "recovery-point-offset-checkpoint"):
        (log / name).unlink(missing_ok=True)
    for side in ("search", "score"):
        for file in log.glob(f"{harmed.signal.topic(side)}-*/*.log"):
            os.truncate(file, int(file.stat().st_size * 0.9))
    harmed.deployment.start("broker")
    harmed.deployment.wait_ready(["broker"], timeout_s=120)
    harmed.await_heads([row.image_id for row in harmed.publish(new)])
    assert set(harmed.heads(heads)) == set(heads)
    assert harmed.problems() == []
    again = control.state()
    assert before is not None
    assert again is not None
    assert again.job_id != before.job_id
    assert control.reading.book().rewinds > 0


def test_a_runner_that_is_killed_in_a_submission_leaves_one_job(harmed: Stack) -> None:
    """The submission outlives it, and the next runner knows the job by the id that it was to have."""
    control = JobControl(harmed.settings, "photos")
    before = control.state()
    assert before is not None
    control.flink.cancel(before.job_id)
    eventually(lambda: _submissions(harmed) or None, 60, lambda: "no submission begins")
    harmed.deployment.kill("photos-job")
    after = eventually(lambda: _other_job(control, before), 120, lambda: f"{before.job_id} is not replaced")
    rows = sample_rows(10, skip=1140)
    harmed.await_heads([row.image_id for row in harmed.publish(rows)])
    assert [job.job_id for job in control.flink.live(after.name)] == [after.job_id]
    marks = control.reading.book().begun(after.job_id).newest
    assert marks is not None
    assert marks.job_id == after.job_id


def _submissions(stack: Stack) -> list[int]:
    """The processes that hand a job to Flink."""
    return [
        process.pid for process in marked_processes(stack.settings.data_dir) if "stream.submit" in process.cmdline()
    ]


def test_topics_that_were_made_anew_while_the_job_was_stopped_are_read_from_their_beginning(harmed: Stack) -> None:
    control = JobControl(harmed.settings, "photos")
    control.stop()
    harmed.remake(harmed.signal.topic("search"), harmed.signal.topic("score"))
    rows = sample_rows(30, skip=1110)
    harmed.publish(rows)
    control.start()
    harmed.await_heads([row.image_id for row in rows])


def _await_marks(control: JobControl, stack: Stack) -> None:
    """Waits until the runner has marked all that was published."""

    def all_marked() -> bool | None:
        marks = control.reading.book().newest
        with Broker(stack.settings.kafka_access("test")) as broker:
            return (
                marks is not None
                and all(
                    mark.offset == broker.ends(topic)[part].end
                    for topic, then in marks.topics.items()
                    for part, mark in then.partitions.items()
                )
            ) or None

    eventually(all_marked, 60, lambda: f"the newest marks are {control.reading.book().newest}")


def _photograph(image_id: str) -> str:
    """The photograph that an image of the sample shows, from its id `clothing-NUMBER-eNN`."""
    return "-".join(image_id.split("-")[:2])


def test_topics_that_change_while_images_flow(harmed: Stack) -> None:
    """Every codec is read by the job and by our readers; partitions that are added are found, or not written to."""
    signal = harmed.signal
    search, joined = signal.topic("search"), signal.topic("joined")
    topics = [plan.name for plan in topic_plans(signal, harmed.settings.kafka)]
    rows = iter(sample_rows(80, skip=1160))
    with Broker(harmed.settings.kafka_access("test")) as broker:
        for codec in ("gzip", "snappy", "lz4", "zstd"):
            for topic in topics:
                broker.alter(topic, {"compression.type": codec})
            seen = len(harmed.dead_letters())
            harmed.send_raw(search, [(b"junk", codec.encode() * 100)])
            harmed.await_heads([row.image_id for row in harmed.publish(islice(rows, 10))])
            eventually(lambda seen=seen: len(harmed.dead_letters()) > seen or None, 30, lambda: "no dead letter")
        for topic in topics:
            broker.alter(topic, {"compression.type": "producer"})
        admin = KafkaAdminClient(bootstrap_servers=harmed.settings.kafka.servers)
        admin.create_partitions({search: 4, joined: 3})
        admin.close()
        harmed.await_heads([row.image_id for row in harmed.publish(rows)])
        assert all(broker.ends(search)[partition].end > 0 for partition in range(4))
        assert [broker.ends(joined)[partition].end for partition in (1, 2)] == [0, 0]
        problems = topic_problems(broker, topic_plans(signal, harmed.settings.kafka))
    assert [problem for problem in problems if f"{joined} has 3 partitions" in problem]
    assert harmed.problems() == []


def test_a_log_that_was_made_anew_is_refused_until_it_is_renewed(harmed: Stack) -> None:
    """Images that come after the renewal join the clusters from before it, and none of those changes."""
    control = JobControl(harmed.settings, "photos")
    originals = sample_rows(20, skip=900)
    before = harmed.await_heads([row.image_id for row in harmed.publish(originals)])
    with pytest.raises(ServiceError, match="stop it with `neardup job stop`"):
        control.renew_log(dry_run=False)
    joined = harmed.signal.topic("joined")
    harmed.remake(joined)
    # The job runs on in the new topic until its runner sees that.
    eventually(lambda: not control.flink.live("neardup-photos") or None, 60, lambda: "the job is not cancelled")
    with pytest.raises(MismatchError, match="deleted and created again"):
        control.start()
    assert control.flink.live("neardup-photos") == []

    copies = [replace(row, image_id=f"again-{row.image_id}") for row in originals]
    harmed.publish(copies)
    with harmed.storage() as storage:
        applied = storage.describe().offset
    assert control.renew_log(dry_run=True).base == control.renew_log(dry_run=False).base == applied + 1
    control.start()
    heads = harmed.await_heads([row.image_id for row in copies])
    assert heads == {f"again-{image_id}": head for image_id, head in before.items()}
    assert harmed.heads(before) == before
    assert harmed.problems() == []
    with harmed.api() as api:
        assert min(api.image(row.image_id).place for row in copies) > applied
    eventually(lambda: not any(control.lag().values()) or None, 60, lambda: f"the lag is {control.lag()}")


def _told(stack: Stack) -> int:
    """The last change that a reader of `assignments` knows, which takes each number only after the one before it."""
    known = 0
    for entry in stack.assignments():
        known += entry["history_number"] == known + 1
    return known


def test_another_kafka_cluster_takes_over_with_a_renewal(harmed: Stack) -> None:
    """It is empty: images of it join the clusters from before, and `assignments` tells the whole history again."""
    control = JobControl(harmed.settings, "photos")
    originals = sample_rows(20, skip=940)
    before = harmed.await_heads([row.image_id for row in harmed.publish(originals)])
    control.stop()
    harmed.deployment.stop("broker")
    kafka = harmed.settings.data_dir / "kafka"
    kafka.rename(kafka.with_name("kafka-before"))
    prepare_broker(harmed.settings)
    harmed.deployment.start("broker")
    with Broker(harmed.settings.kafka_access("test")) as broker:
        broker.create(topic_plans(harmed.signal, harmed.settings.kafka))
    with pytest.raises(MismatchError, match="deleted and created again"):
        control.start()
    copies = [replace(row, image_id=f"moved-{row.image_id}") for row in originals]
    harmed.publish(copies)
    control.renew_log(dry_run=False)
    control.start()
    heads = harmed.await_heads([row.image_id for row in copies])
    assert heads == {f"moved-{image_id}": head for image_id, head in before.items()}
    assert harmed.heads(before) == before
    with harmed.storage() as storage:
        last = int(storage.describe().history_number)
    eventually(lambda: _told(harmed) == last or None, 60, lambda: f"{_told(harmed)} of {last} changes are published")
    assert harmed.problems() == []


def test_records_that_are_damaged_on_the_brokers_disk_are_skipped_by_hand(harmed: Stack) -> None:
    """The last of this module: the topic stays damaged, and a job that reads it again by time stops there again."""
    control = JobControl(harmed.settings, "photos")
    control.stop()
    rows = sample_rows(20, skip=1320)
    harmed.publish(rows)
    topic, image_id = harmed.signal.topic("search"), rows[10].image_id.encode()
    files = (harmed.settings.data_dir / "kafka" / "log").glob(f"{topic}-*/*.log")
    [file] = (file for file in files if image_id in file.read_bytes())
    content = bytearray(file.read_bytes())
    content[content.index(image_id)] ^= 1
    file.write_bytes(content)
    [damage] = control.damage()
    assert damage.topic == topic
    control.skip([damage])
    harmed.publish(rows)
    harmed.await_heads([row.image_id for row in rows])
    lost = [dead for dead in harmed.dead_letters() if dead.reason is Reason.LOST]
    assert [(dead.source.topic, dead.source.offset) for dead in lost] == [(topic, damage.first)]
    assert control.reading.book().lost == {topic: damage.records}
