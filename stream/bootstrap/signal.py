"""From the settings of a signal to what files of clustered images must have been made for."""

from __future__ import annotations

from manifests.clustered_files import Signal
from manifests.value_checks import ValueChecks
from stream.bootstrap.convert import Hashing
from stream.hashing import code_settings, term_settings, vector_limits
from stream.names import signal_text
from stream.settings import Settings

__all__ = ["hashing", "load_signal", "value_checks"]


def load_signal(settings: Settings, signal_name: str | None = None) -> Signal:
    """What files must have been made for, to be loaded as images of this signal.

    Raises:
        SettingsError: There is no such signal, or its settings do not hold together.
        BadInputError: A file of the settings cannot be read.
    """
    name, signal = settings.signal(signal_name)
    search, score = signal.search_embedding, signal.score_embedding
    terms, code = term_settings(settings, signal), code_settings(settings, signal)
    return Signal(
        name=signal_text(name, signal),
        search_dimension=search.dimension,
        score_dimension=score.dimension,
        terms=terms.fingerprint,
        groups=terms.groups,
        bits_per_group=terms.bits_per_group,
        code=code.build().fingerprint,
        code_bytes=code.code_bytes,
    )


def value_checks(settings: Settings, signal_name: str | None = None) -> ValueChecks:
    """Which ids and embeddings the entrance of this signal takes.

    Raises:
        SettingsError: There is no such signal.
        BadInputError: The file of centres cannot be read.
    """
    _, signal = settings.signal(signal_name)
    return ValueChecks(*vector_limits(settings, signal))


def hashing(settings: Settings, signal_name: str | None = None) -> Hashing:
    """What makes the terms and codes of this signal.

    Raises:
        SettingsError: There is no such signal, or its settings do not hold together.
        BadInputError: A file of the settings cannot be read.
    """
    _, signal = settings.signal(signal_name)
    extractor, coder = term_settings(settings, signal).build(), code_settings(settings, signal).build()
    return lambda search, score: (extractor.terms(search), coder.codes(score, search))
