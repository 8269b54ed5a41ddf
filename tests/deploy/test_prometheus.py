"""What is scraped is what the parts show, and alerts rest on metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.settings import Settings

OPERATOR = "flink_taskmanager_job_task_operator_neardup_"


@pytest.fixture(scope="module")
def rules(root: Path) -> list[dict[str, Any]]:
    content = yaml.safe_load((root / "deploy" / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


def test_every_metrics_port_is_scraped_once(root: Path, container_settings: Settings) -> None:
    config = yaml.safe_load((root / "deploy" / "prometheus.yml").read_text(encoding="utf-8"))
    targets = [
        target for job in config["scrape_configs"] for static in job["static_configs"] for target in static["targets"]
    ]
    flink, signal = container_settings.flink, container_settings.signals["photos"]
    servers = [f"{server.host}:{server.metrics_port}" for server in (signal.search, signal.scorer, signal.storage)]
    assert sorted(targets) == sorted(
        [
            f"{flink.host}:{flink.jobmanager_metrics_port}",
            f"taskmanager:{flink.taskmanager_metrics_port}",
            f"{signal.job_host}:{signal.job_metrics_port}",
            *servers,
        ]
    )
    assert config["rule_files"] == ["alerts.yml"]


def test_the_stated_dangers_have_an_alert(rules: list[dict[str, Any]]) -> None:
    names = {rule["alert"] for rule in rules}
    assert {"HalvesWait", "RecordsBehind", "DeadLetters", "CheckpointOld", "PartDown", "JobNotRunning"} <= names
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "warn")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_alerts_rest_on_metrics_that_exist(rules: list[dict[str, Any]], root: Path) -> None:
    operators = (root / "operators" / "metrics.py").read_text(encoding="utf-8")
    names = ("search/serving/metrics.py", "search/serving/index_collector.py", "scoring/serving/metrics.py")
    others = [root / "stream" / "job_watch.py", *(root / name for name in names)]
    texts = "".join(path.read_text(encoding="utf-8") for path in others)
    metrics = {name for rule in rules for name in re.findall(r"\b(?:flink|neardup)_[a-z_]+", rule["expr"])}
    assert metrics
    for metric in metrics:
        if metric.startswith(OPERATOR):
            # A label's name stands before that of its counter, and a histogram's counters end in what they count.
            name = re.sub(r"^(le|reason|kind|cause)_", "", metric.removeprefix(OPERATOR)).removesuffix("_bucket")
            assert f'"{name}"' in operators, metric
        else:
            assert f'"{metric}"' in texts, metric
