"""TLS and SASL against a real broker, with both clients: kafka-python, and the one inside Flink's connector.

The tiny job copies topics: each source and each sink logs in another way, through the project's own builders.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest

from stream.broker import Broker, producer
from stream.kafka_access import KafkaAccess, KafkaSecurity
from stream.local.certificates import ensure_certificate
from stream.local.files import tail
from stream.local.flink_home import flink_environment, prepare_flink
from stream.local.readiness import KafkaReady
from stream.settings import Settings
from stream.topic_plans import TopicPlan
from stream.topic_reader import TopicReader
from tests.support.secure_broker import SecureBroker, secure_broker
from tests.support.stack import ROOT, eventually, stack_settings

pytestmark = [pytest.mark.cluster]

KINDS = ("plain", "scram_256", "scram_512", "certificate")

COPY = """
import json, sys
from pyflink.table import StreamTableEnvironment
from operators.rows import RECORD_TYPE
from stream.kafka_access import KafkaAccess, KafkaSecurity
from stream.submit import remote_environment
from stream.table_sink import KafkaTarget, sink_properties, write_records
from stream.tables import joined_stream

options = {"execution.target": "local", "execution.attached": "true", "rest.port": "0"}
env = remote_environment(options)
env.set_parallelism(1)
tables = StreamTableEnvironment.create(env)
for name, bootstrap, security in json.load(sys.stdin):
    access = KafkaAccess(bootstrap, f"copy-{name}", KafkaSecurity(**security))
    joined_stream(tables, uid=name, topic=f"{name}-in", access=access, group=name, start=0)
    # The same table again, as rows that a sink takes: under names of their own.
    tables.get_config().set("table.exec.uid.format", f"{name}-copy-<type>-<transformation>")
    rows = tables.to_data_stream(tables.sql_query(f"SELECT payload, payload, CAST(NULL AS BYTES) FROM `{name}`"))
    rows._j_data_stream.getTransformation().setOutputType(RECORD_TYPE.get_java_type_info())
    target = KafkaTarget(f"{name}-out", "text/plain", sink_properties(access, 1 << 20))
    write_records(tables, rows, target, uid=f"{name}-sink")
env.execute("copy")
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return stack_settings(tmp_path_factory.mktemp("secure"))


@pytest.fixture(scope="module")
def broker(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with secure_broker(settings, tmp_path_factory.mktemp("certificates")) as broker:
        with Broker(settings.kafka_access("test")) as admin:
            topics = [f"{kind}-{end}" for kind in KINDS for end in ("in", "out")]
            admin.create([TopicPlan(topic, 1, 1, {}) for topic in topics])
        yield broker


def access(broker: SecureBroker, kind: str) -> KafkaAccess:
    security: KafkaSecurity = getattr(broker, kind)()
    return KafkaAccess(broker.mutual if kind == "certificate" else broker.sasl, f"test-{kind}", security)


@pytest.mark.parametrize("kind", KINDS)
def test_kafka_python_gets_in(broker: SecureBroker, kind: str) -> None:
    client = access(broker, kind)
    assert KafkaReady(client)() is None
    with Broker(client) as admin, TopicReader(client, f"{kind}-in") as reader:
        assert f"{kind}-in" in admin.topics()
        before = reader.ends()[1]
        sender = producer(client, 1 << 20)
        sender.send(f"{kind}-in", value=kind.encode(), key=b"k").get(timeout=30)
        sender.close()
        assert reader.ends()[1] == before + 1
        assert [record.value for record in reader.last(1)] == [kind.encode()]


@pytest.mark.parametrize("kind", ["plain", "certificate", "stranger"])
def test_who_must_not_get_in_is_told_why(broker: SecureBroker, kind: str) -> None:
    wrong = {
        "plain": KafkaAccess(broker.sasl, "x", broker.plain(password="wrong")),
        "certificate": KafkaAccess(broker.mutual, "x", replace(broker.certificate(), client_pem="")),
        # The broker's certificate is vouched for by nobody that the system trusts.
        "stranger": KafkaAccess(broker.sasl, "x", replace(broker.plain(), ca_file="")),
    }[kind]
    assert KafkaReady(access(broker, "certificate" if kind == "certificate" else "plain"))() is None
    reason = KafkaReady(wrong)()
    assert reason is not None
    assert wrong.bootstrap in reason


def test_flink_gets_in(broker: SecureBroker, settings: Settings) -> None:
    ensure_certificate(settings)
    prepare_flink(settings)
    for kind in KINDS:
        sender = producer(access(broker, kind), 1 << 20)
        sender.send(f"{kind}-in", value=b"through Flink", key=b"k").get(timeout=30)
        sender.close()
    log = settings.data_dir / "copy.log"
    told = [(kind, access(broker, kind).bootstrap, asdict(access(broker, kind).security)) for kind in KINDS]
    job = subprocess.Popen(
        [sys.executable, "-c", COPY],
        cwd=ROOT,
        env={**os.environ, **flink_environment(settings), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    try:
        assert job.stdin is not None
        job.stdin.write(json.dumps(told))
        job.stdin.close()
        for kind in KINDS:
            with TopicReader(access(broker, kind), f"{kind}-out") as reader:
                assert eventually(partial(_copied, reader, job, log), 120, lambda: tail(log, 60))
    finally:
        # The JVM is a child of its own.
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()


def _copied(reader: TopicReader, job: subprocess.Popen[str], log: Path) -> bool | None:
    assert job.poll() is None, tail(log, 60)
    return any(record.value == b"through Flink" for record in reader.last(10)) or None
