"""What files must have been made for follows from the settings."""

from __future__ import annotations

from pathlib import Path

from stream.bootstrap.signal import load_signal
from stream.hashing import code_settings, term_settings
from stream.servers import store_identity
from stream.settings import load_settings

ROOT = Path(__file__).parents[3]


def test_it_is_that_of_the_servers() -> None:
    settings = load_settings(ROOT / "neardup.toml")
    name, signal = settings.signal()
    found = load_signal(settings)
    assert store_identity(settings, name).startswith(f"signal {found.name}; codes ")
    assert found.terms == term_settings(settings, signal).fingerprint
    assert found.code == code_settings(settings, signal).build().fingerprint
    assert found.code_bytes == code_settings(settings, signal).code_bytes
    assert (found.search_dimension, found.score_dimension) == (1280, 768)
    assert (found.groups, found.bits_per_group) == (signal.terms.groups, signal.terms.bits_per_group)
