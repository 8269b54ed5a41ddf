"""Counters of the machine, as `make bench-pipeline` reads them."""

from __future__ import annotations

import os

import pytest

from benchmarks.pipeline.usage import Reading, UsageMeter, connection_bytes, operator_bytes, per_image
from core.errors import UnavailableError
from stream.settings import load_settings

LISTED = """\
ESTAB 0 0 127.0.0.1:17001 127.0.0.1:40022 cubic rto:201 bytes_sent:900 bytes_acked:900 bytes_received:70 segs_out:9
ESTAB 0 0 [::ffff:127.0.0.1]:17001 [::ffff:127.0.0.1]:40024 cubic rto:201 bytes_sent:100 bytes_received:30 segs_out:9
ESTAB 0 0 127.0.0.1:40022 127.0.0.1:17001 cubic rto:201 bytes_sent:70 bytes_acked:70 bytes_received:900 segs_out:9
ESTAB 0 0 127.0.0.1:19092 127.0.0.1:40030 cubic rto:201
LISTEN 0 128 *:17002 *:*
"""

PAGE = """\
# HELP flink_taskmanager_job_task_numBytesOut numBytesOut (scope: taskmanager_job_task)
# TYPE flink_taskmanager_job_task_numBytesOut gauge
flink_taskmanager_job_task_numBytesOut{task_name="search",subtask_index="0",} 5000.0
flink_taskmanager_job_task_numBytesOut{task_name="decode search",subtask_index="0",} 100.0
flink_taskmanager_job_task_numBytesOut{task_name="decode search",subtask_index="1",} 11.0
flink_taskmanager_job_task_numBytesOut{task_name="join -> joined-sink: Writer",subtask_index="0",} 7.0
flink_taskmanager_job_task_numBytesOut{task_name="Source: a.b.sequence-756aacee1c1b41aca028f1df94b48ad3-source-v3"} 99.0
# HELP flink_taskmanager_job_task_numBytesIn numBytesIn (scope: taskmanager_job_task)
# TYPE flink_taskmanager_job_task_numBytesIn gauge
flink_taskmanager_job_task_numBytesIn{task_name="search",subtask_index="0",} 1.0
"""


def test_bytes_are_those_of_the_servers_ends() -> None:
    found = connection_bytes(LISTED, {17001: "search", 19092: "broker"})
    assert found == {"search requests": 100, "search answers": 1000, "broker requests": 0, "broker answers": 0}


def test_bytes_of_an_operator_are_those_of_all_its_subtasks() -> None:
    assert operator_bytes(PAGE) == {
        "search hands on": 5000,
        "decode search hands on": 111,
        "join hands on": 7,
        "sequence-source hands on": 99,
    }


def test_costs_are_differences_by_image_largest_first() -> None:
    found = per_image({"a": 1.0, "b": 2.0}, {"a": 1.5, "b": 4.0, "new": 3.0}, 10, 1000.0)
    assert list(found.items()) == [("new", 300.0), ("b", 200.0), ("a", 50.0)]


def test_the_processor_time_of_a_process_grows_with_its_work() -> None:
    meter = UsageMeter(load_settings(), {"this": os.getpid()})
    before = meter.read()
    while meter.read().processor_s["this"] <= before.processor_s["this"]:
        sum(range(1_000_000))
    assert isinstance(before, Reading)


def test_a_part_that_has_gone_is_named() -> None:
    with pytest.raises(UnavailableError, match="the part taken-back was started again"):
        UsageMeter(load_settings(), {"taken-back": 2**22 + 1}).read()
