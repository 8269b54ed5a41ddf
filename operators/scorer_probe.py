"""Asks a scorer for one blank pair: whether it scores anything at all, when a call has missed its deadline."""

from __future__ import annotations

from contextlib import suppress

from core.errors import FaultError, RefusedError
from operators.clients import Scorer
from scoring.serving.scorer_pb2 import PairBlock

__all__ = ["probe"]


def probe(scorer: Scorer) -> None:
    """Returns when the scorer has answered a call that is unlike every image's.

    A scorer whose queue hangs still describes itself. Without this call its images would be isolated one by one.

    Raises:
        UnavailableError: It did not answer.
    """
    code = bytes(scorer.describe().code_bytes)
    with suppress(FaultError, RefusedError):  # these are answers too
        scorer.score([PairBlock(query_code=code, candidate_codes=code)])
