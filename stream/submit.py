"""The process that builds a job graph and hands it to Flink: `python -m stream.submit`, three lines on standard input.

It is a process of its own because it starts a JVM and the planner, which need Flink's environment variables from the
beginning. Lines: the settings as JSON, the folder that relative paths start from, the plan as JSON.
The id of the job is that of the plan, so whoever submits knows it before Flink does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway

from stream.job import build_job
from stream.job_plan import JobPlan
from stream.names import job_name
from stream.settings import Settings

_JOB_ID = "$internal.pipeline.job-id"
"""Flink gives each job a random id unless this option has 32 hexadecimal digits."""


def submit(settings: Settings, plan: JobPlan) -> None:
    """Builds and submits."""
    plan.checkpoints.mkdir(parents=True, exist_ok=True)
    options = {
        "execution.target": "remote",
        "execution.attached": "false",
        "execution.checkpointing.dir": plan.checkpoints.as_uri(),
        # Python operators start chains of their own, so the Java ones beside them may share theirs.
        "pipeline.operator-chaining.enabled": "true",
        "pipeline.name": job_name(plan.signal),
        _JOB_ID: plan.submission,
    }
    if plan.snapshot is not None:
        options["execution.state-recovery.path"] = plan.snapshot.as_uri()
        # The earlier job's sequence is dropped on purpose (index and storage keep its position), and so is old state.
        options["execution.state-recovery.ignore-unclaimed-state"] = "true"
    env = remote_environment(options)
    build_job(env, settings, plan)
    env.execute_async(job_name(plan.signal))


def remote_environment(options: Mapping[str, str]) -> StreamExecutionEnvironment:
    """An environment for the cluster that the configuration folder names, with further options.

    `get_execution_environment` runs the job in its own process, unless Flink's own client calls it.
    """
    jvm = get_gateway().jvm
    configuration = jvm.org.apache.flink.configuration.GlobalConfiguration.loadConfiguration()
    for key, value in options.items():
        configuration.setString(key, value)
    java = jvm.org.apache.flink.streaming.api.environment.StreamExecutionEnvironment(configuration)
    return StreamExecutionEnvironment(java)


def main() -> None:
    """Reads the three lines and submits."""
    settings, base, plan = (sys.stdin.readline() for _ in range(3))
    values = {**json.loads(settings), "base": Path(base.rstrip("\n"))}
    submit(Settings(**values), JobPlan.from_json(plan))


if __name__ == "__main__":
    main()
