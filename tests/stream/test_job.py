"""The shape of the job graph, as Flink's own planner makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyflink.datastream import StreamExecutionEnvironment

from stream.job import STATE_FORMAT, build_job
from stream.job_plan import JobPlan
from stream.settings import Settings
from stream.submit import remote_environment

pytestmark = [pytest.mark.cluster]

PYTHON = ("decode", "join", "admit", "search", "score", "assign", "watch")


@pytest.fixture
def settings(flink_settings: Settings) -> Settings:
    """Those of the JVM of this process."""
    return flink_settings


def build(
    settings: Settings, start: int, submission: str = "r1", epoch: tuple[int, str] = (0, "topic-id")
) -> StreamExecutionEnvironment:
    starts = {"search": {0: 0, 1: 5}, "score": {0: 0, 1: 7}}
    base, log_id = epoch
    plan = JobPlan(
        "photos", log_id, base, start, starts, "replay-id", {0: 3, 1: 9}, submission, None, Path("/checkpoints")
    )
    env = remote_environment({"pipeline.operator-chaining.enabled": "true"})
    build_job(env, settings, plan)
    return env


def nodes(env: StreamExecutionEnvironment) -> list[Any]:
    graph = env._j_stream_execution_environment.getStreamGraph(False)
    return list(graph.getStreamNodes().toArray())


def uids(env: StreamExecutionEnvironment) -> set[str]:
    return {str(node.getTransformationUID()) for node in nodes(env)}


def test_no_two_python_operators_share_a_chain(settings: Settings) -> None:
    graph = build(settings, 0)._j_stream_execution_environment.getStreamGraph(False).getJobGraph()
    names = [vertex.getName() for vertex in graph.getVerticesSortedTopologicallyFromSources().toArray()]
    for name in names:
        chain = [part.strip(" []()") for part in name.split("->")]
        assert sum(part.split()[0] in PYTHON for part in chain) <= 1, name
    # Two decoders, join, two of admit, search, score, assign and five sources: nothing that we did not ask for.
    merged = [name for name in names if name.startswith("DataStreamToTable")]
    assert all("dead-letter-sink" in name or "debug-sink" in name for name in merged)
    assert len(names) == 13 + len(merged)


def test_records_of_the_embeddings_are_batched_where_they_are_read(settings: Settings) -> None:
    graph = build(settings, 0)._j_stream_execution_environment.getStreamGraph(False).getJobGraph()
    names = [vertex.getName() for vertex in graph.getVerticesSortedTopologicallyFromSources().toArray()]
    batching = [name for name in names if name.endswith("-> batch")]
    assert len(batching) == 2
    assert all(name.startswith("Source") for name in batching)


def test_uids_of_joining_stay_and_uids_of_the_sequence_are_those_of_the_submission(settings: Settings) -> None:
    first, second = uids(build(settings, 0)), uids(build(settings, 123, "r2"))
    kept = first & second
    version = f"v{STATE_FORMAT}"
    assert {f"{name}-{version}" for name in ("join", "decode-search", "decode-score")} <= kept
    assert any(uid.startswith(f"joined-sink-{version}") for uid in kept)
    # Sources begin where the plan says, never where a snapshot does.
    assert not any(uid.startswith(("search-source", "score-source")) for uid in kept)
    assert any(uid.startswith(f"search-source-r2-{version}") for uid in second)
    assert not any(uid.startswith(("sequence", "replay")) for uid in kept)
    assert {f"sequence-r2-{name}-{version}" for name in ("search", "score", "assign")} <= second
    assert any(uid.startswith(f"sequence-r2-source-{version}") for uid in second)
    assert "None" not in first | second


def test_uids_of_submissions_that_begin_alike_differ(settings: Settings) -> None:
    """In one log epoch or in two: a snapshot holds state of the sequence that no longer fits the stores."""
    begun = [("a", (0, "old")), ("b", (0, "old")), ("c", (100, "new")), ("d", (100, "newer"))]
    found = [
        {uid for uid in uids(build(settings, 100, submission, epoch)) if uid.startswith("sequence")}
        for submission, epoch in begun
    ]
    for number, one in enumerate(found):
        assert one
        assert all(one.isdisjoint(other) for other in found[:number])


def test_no_uid_of_another_state_format_comes_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources too: a source that went on behind halves whose state is not read would lose them."""
    before = uids(build(settings, 0))
    monkeypatch.setattr("stream.job.STATE_FORMAT", STATE_FORMAT + 1)
    assert before.isdisjoint(uids(build(settings, 0)))


def test_nothing_that_is_kept_or_sent_is_pickled(settings: Settings) -> None:
    """Pickles name classes by their path, which a release may move."""
    for node in nodes(build(watching(settings), 0)):
        types = [node.getTypeSerializerOut(), *node.getTypeSerializersIn()]
        assert not [each for each in types if "Pickled" in str(each)], node.getOperatorName()


def test_no_source_resets_its_offset_by_itself(settings: Settings) -> None:
    policies = []
    for each in build(settings, 0)._j_stream_execution_environment.getTransformations():
        for above in each.getTransitivePredecessors():
            if above.getClass().getSimpleName() == "SourceTransformation":
                properties = above.getSource().getClass().getDeclaredField("props")
                properties.setAccessible(True)
                policies.append(properties.get(above.getSource()).getProperty("auto.offset.reset"))
    assert policies
    assert set(policies) == {"none"}


def test_pipelines_with_no_edge_between(settings: Settings) -> None:
    all_nodes = nodes(build(settings, 0))
    parent = {node.getId(): node.getId() for node in all_nodes}

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for node in all_nodes:
        for edge in node.getOutEdges().toArray():
            parent[root(edge.getSourceId())] = root(edge.getTargetId())
    assert len({root(node) for node in parent}) == 4  # joining, two lanes of replays, the sequence


def watching(settings: Settings) -> Settings:
    name, signal = settings.signal()
    changed = signal.model_copy(update={"manifests": "/data/old"})
    return settings.model_copy(update={"signals": {name: changed}})


def test_a_folder_of_manifests_adds_a_source_and_one_operator_of_the_submission(settings: Settings) -> None:
    plain, watched = (uids(build(each, 0)) for each in (settings, watching(settings)))
    version = f"v{STATE_FORMAT}"
    assert watched - plain == {f"manifests-r1-{name}-{version}" for name in ("source", "watch")}
    again = uids(build(watching(settings), 0, "r2"))
    assert not any(uid.startswith("manifests") for uid in watched & again)
    graph = build(watching(settings), 0)._j_stream_execution_environment.getStreamGraph(False).getJobGraph()
    vertices = {vertex.getName(): vertex for vertex in graph.getVerticesSortedTopologicallyFromSources().toArray()}
    assert vertices["watch"].getParallelism() == vertices["watch"].getMaxParallelism() == 1
    assert len(vertices["watch"].getInputs().toArray()) == 1
