"""From the settings of a signal to the settings of its terms and score codes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from core.vector_limits import VectorLimits
from scoring.code_identity import CodeIdentity
from search.hashing.fitted_projection import read_projection
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from search.tuning.drift import ChosenDensity
from stream.centres import SIGNED_SQRT_SEARCH, Centres, read_centres
from stream.settings import Settings, Signal

__all__ = [
    "centre",
    "chosen_density",
    "code_embedding",
    "code_identity",
    "code_settings",
    "term_settings",
    "vector_limits",
]


log = logging.getLogger(__name__)


def term_settings(settings: Settings, signal: Signal) -> TermSettings:
    """How a signal's search embedding becomes terms."""
    terms = signal.terms
    return TermSettings(
        dimension=signal.search_embedding.dimension,
        seed=terms.seed,
        bits=terms.bits,
        groups=terms.groups,
        bits_per_group=terms.bits_per_group,
        centre=centre(settings, signal, SIGNED_SQRT_SEARCH if terms.signed_sqrt else "search"),
        signed_sqrt=terms.signed_sqrt,
        normalise=signal.search_embedding.normalise,
    )


def code_settings(settings: Settings, signal: Signal) -> CodeSettings:
    """How a signal's embeddings become the code that the classifier compares."""
    code = signal.code
    projection = None if code.projection is None else read_projection(settings.path(code.projection))
    score, search = signal.score_embedding.dimension, signal.search_embedding.dimension
    return CodeSettings(
        dimension=score,
        bits=code.bits,
        seed=code.seed,
        centre=centre(settings, signal, "score"),
        projection=projection,
        search_dimension=search if projection is not None and projection.dimension == score + search else 0,
        signs=code.signs,
        normalise=signal.score_embedding.normalise,
        normalise_search=signal.search_embedding.normalise,
    )


def code_embedding(signal: Signal, code: CodeSettings) -> tuple[str, str]:
    """Name and version of the embedding that a signal's codes are made of; if of both, joined by a plus."""
    used = [signal.score_embedding, signal.search_embedding][: 2 if code.search_dimension else 1]
    return " + ".join(one.name for one in used), " + ".join(one.model_version for one in used)


def code_identity(settings: Settings, signal: Signal) -> CodeIdentity:
    """The codes that a signal's models must compare."""
    code = code_settings(settings, signal)
    return CodeIdentity(code.bits, code.build().fingerprint, *code_embedding(signal, code), code.values)


def chosen_density(signal: Signal) -> ChosenDensity | None:
    """The density that a signal's terms were chosen for; None when it is not known."""
    return signal.density if signal.density.images else None


def centre(settings: Settings, signal: Signal, name: str) -> NDArray[np.float32] | None:
    """The vector that is subtracted from an embedding (`search`, `signed_sqrt_search` or `score`); None: no centring.

    Raises:
        BadInputError: The file of centres cannot be read or lacks the mean.
        MismatchError: The file is for normalised vectors and the settings are not, or the other way round.
    """
    if signal.centres is None:
        return None
    path = settings.path(signal.centres)
    mean = _checked_centres(path, signal).means.get(name)
    if mean is None:
        raise BadInputError(f"no centre of {name!r} in {path}; `neardup centres` makes one")
    return mean


def vector_limits(settings: Settings, signal: Signal) -> tuple[VectorLimits, VectorLimits]:
    """What the entrance accepts as the vectors of the search and of the score embedding.

    Raises:
        BadInputError: The file of centres cannot be read.
        MismatchError: The file is for normalised vectors and the settings are not, or the other way round.
    """
    search, score = signal.search_embedding, signal.score_embedding
    if signal.centres is None:
        log.warning("the signal has no `centres`: only vectors that are zero or constant up to rounding are refused")
        return VectorLimits(search), VectorLimits(score)
    path = settings.path(signal.centres)
    measured = _checked_centres(path, signal).measured
    if not measured:
        log.warning(
            "%s has no measurements of norms: vectors of an unusual norm are not refused. "
            "`neardup centres SAMPLE.parquet %s --keep-means` adds them",
            path,
            path,
        )
    return VectorLimits(search, measured.get("search")), VectorLimits(score, measured.get("score"))


def _checked_centres(path: Path, signal: Signal) -> Centres:
    centres = read_centres(path)
    for side, spec in (("search", signal.search_embedding), ("score", signal.score_embedding)):
        centres.check(side, spec, path)
    return centres
