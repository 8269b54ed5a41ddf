"""Prometheus scrapes every part; alerts use metrics that exist, fire when they should, and have a runbook section."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
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


@pytest.fixture(scope="module")
def promtool(root: Path) -> str:
    """Prometheus's own tool for rules."""
    found = shutil.which("promtool", path=os.pathsep.join([str(root / ".venv" / "bin"), os.environ["PATH"]]))
    assert found is not None, "promtool is missing: run `make test-tools`"
    return found


def test_every_alert_has_a_severity_and_says_what_it_means(rules: list[dict[str, Any]]) -> None:
    names = {rule["alert"] for rule in rules}
    assert {"HalvesWait", "RecordsBehind", "DeadLetters", "CheckpointOld", "PartDown", "JobNotRunning"} <= names
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}


def test_every_alert_leads_to_its_section_of_the_runbook(rules: list[dict[str, Any]], root: Path) -> None:
    for rule in rules:
        document, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert anchor == rule["alert"].lower()
        assert anchor in anchors(root / document), anchor


def test_every_way_of_failing_has_a_section(root: Path) -> None:
    text = (root / "docs" / "runbook.md").read_text(encoding="utf-8")
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert len(sections) > 15
    for section in sections:
        said = re.findall(r"^\*\*(You see|It means|Do):\*\*", section, re.MULTILINE)
        assert said == ["You see", "It means", "Do"], section.splitlines()[0]


def test_messages_that_the_runbook_quotes_are_those_of_the_code(root: Path) -> None:
    text = (root / "docs" / "runbook.md").read_text(encoding="utf-8")
    # Commands and settings have quotation marks of their own.
    prose = re.sub(r'^    .*|`[^`\n]*"[^`\n]*`', "", text, flags=re.MULTILINE)
    quoted = [" ".join(words.split()) for words in re.findall(r'"([a-z][^"]+)"', prose)]
    assert len(quoted) > 3
    sources = "".join(path.read_text(encoding="utf-8") for path in (root / "stream").glob("*.py"))
    sources = re.sub(r'"\s+f?"', "", sources)  # a message may be written as several strings
    assert [words for words in quoted if words.removesuffix(" ...") not in sources and words != "try again"] == []


def test_links_inside_the_documents_of_operations_lead_to_a_heading(root: Path) -> None:
    for name in ("runbook.md", "operations.md"):
        document = root / "docs" / name
        links = re.findall(r"\]\(([\w.-]*)#([\w-]+)\)", document.read_text(encoding="utf-8"))
        assert links
        for other, anchor in links:
            assert anchor in anchors(document.parent / (other or name)), f"{name}: {other}#{anchor}"


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as Markdown renderers make them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_prometheus_accepts_configuration_and_rules(root: Path, promtool: str) -> None:
    deploy = root / "deploy"
    for check in (["check", "config", deploy / "prometheus.yml"], ["check", "rules", deploy / "alerts.yml"]):
        done = subprocess.run([promtool, *check], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should(root: Path, promtool: str) -> None:
    rules_test = [promtool, "test", "rules", root / "deploy" / "alerts_test.yml"]
    done = subprocess.run(rules_test, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire(rules: list[dict[str, Any]], root: Path) -> None:
    content = yaml.safe_load((root / "deploy" / "alerts_test.yml").read_text(encoding="utf-8"))
    fired = set()
    for case in content["tests"]:
        fired |= {test["alertname"] for test in case.get("alert_rule_test", []) if test.get("exp_alerts")}
        for test in case.get("promql_expr_test", []):
            labels = "".join(sample["labels"] for sample in test.get("exp_samples", []))
            fired |= set(re.findall(r'alertname="(\w+)",alertstate="firing"', labels))
    assert fired == {rule["alert"] for rule in rules}


def test_alerts_use_metrics_that_exist(rules: list[dict[str, Any]], root: Path) -> None:
    operators = (root / "operators" / "metrics.py").read_text(encoding="utf-8")
    sources = [
        path for name in ("core", "search", "scoring", "storage", "stream") for path in (root / name).rglob("*.py")
    ]
    texts = "".join(path.read_text(encoding="utf-8") for path in sources)
    metrics = {name for rule in rules for name in re.findall(r"\b(?:flink|neardup)_[a-z_]+", rule["expr"])}
    assert metrics
    for metric in metrics:
        if metric.startswith(OPERATOR):
            # The name of a label precedes the name of its counter.
            name = re.sub(r"^(reason|kind|cause|band|end)_", "", metric.removeprefix(OPERATOR))
            assert f'"{name}"' in operators, metric
        else:
            # A histogram has several series; some parts write the prefix of all their metrics once.
            name = metric.removesuffix("_bucket")
            assert {f'"{name}"', f'"{re.sub(r"^neardup_[a-z]+_", "", name)}"'} & _quoted(texts), metric


def _quoted(text: str) -> set[str]:
    """All names in double quotes."""
    return set(re.findall(r'"[a-z_]+"', text))
