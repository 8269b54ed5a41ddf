"""How many dead letters are open, as the job's runner counts them."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from core.errors import UnavailableError

__all__ = ["OPEN_METRIC", "open_counts"]

OPEN_METRIC = "neardup_job_dead_letters_open"
"""The metric of the runner, with the label `reason`."""

_CALL_S = 3.0


def open_counts(host: str, port: int) -> dict[str, int] | None:
    """The open dead letters by reason, without reasons that have none; None: the runner still reads the topic.

    Args:
        host: Of the runner's page.
        port: Of the runner's page.

    Raises:
        UnavailableError: The page does not answer.
    """
    url = f"http://{host}:{port}/metrics"
    try:
        answer = httpx.get(url, timeout=_CALL_S, trust_env=False)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise UnavailableError(f"{url}: {error or type(error).__name__}") from error
    samples = [
        sample
        for family in text_string_to_metric_families(answer.text)
        if family.name == OPEN_METRIC
        for sample in family.samples
    ]
    return {each.labels["reason"]: int(each.value) for each in samples if each.value > 0} if samples else None
