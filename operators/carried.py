"""What of the candidates travels on from score to assign: those that the cluster rule can use. Pure.

The rule reads the matches, and the scores of their heads against the image. A head that is a candidate has its score
already, unless that is below `head_accept`: such a head refuses, and its score is asked for again in the rare case. So
candidates that score below both limits are dropped, with their codes. Nothing is dropped of an image that gets a trace:
one that is traced, or whose search was truncated.
"""

from __future__ import annotations

import numpy as np

from operators.in_flight_pb2 import InFlight
from search.serving.search_pb2 import Candidates

__all__ = ["drop_losers"]

_PLACE_BYTES, _OVERLAP_BYTES, _SCORE_BYTES = 8, 2, 4


def drop_losers(one: InFlight) -> None:
    """Drops the candidates of a record that has left score, and their scores, as the module says.

    Those of a record without scores are all dropped: no rule looks at them.
    """
    found = one.answer.candidates
    one.given = len(found.image_ids)
    if not one.given or one.traced or found.truncated:
        return
    scored = one.scores
    values = np.frombuffer(scored.values, "<f4")
    # The nearest come first, so what follows a candidate without a score is beyond the gate too.
    found.exhausted |= len(values) < one.given
    rows: list[int] = np.flatnonzero(values >= np.float32(min(scored.accept, scored.head_accept))).tolist()
    if len(rows) == one.given:
        return
    if one.HasField("scores"):
        scored.values = values[rows].tobytes()
    _keep(found, rows)


def _keep(found: Candidates, rows: list[int]) -> None:
    """Leaves these rows of the columns."""
    image_ids = [found.image_ids[row] for row in rows]
    code_bytes = len(found.score_codes) // len(found.image_ids)
    del found.image_ids[:]
    found.image_ids.extend(image_ids)
    found.overlaps = _rows(found.overlaps, _OVERLAP_BYTES, rows)
    found.places = _rows(found.places, _PLACE_BYTES, rows)
    found.score_codes = _rows(found.score_codes, code_bytes, rows)
    if found.distances:
        found.distances = _rows(found.distances, _OVERLAP_BYTES, rows)


def _rows(packed: bytes, size: int, rows: list[int]) -> bytes:
    return b"".join([packed[row * size : (row + 1) * size] for row in rows])
