"""The metric that names the release."""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest

from core.build_info import UNKNOWN_VERSION, add_build_info, installed_version


def test_the_version_is_that_of_the_installed_distribution() -> None:
    assert installed_version("numpy") == version("numpy")


def test_code_that_is_not_installed_has_no_version() -> None:
    assert installed_version("neardup-that-nobody-installs") == UNKNOWN_VERSION


def test_the_metric_is_one_with_the_version_as_a_label() -> None:
    registry = CollectorRegistry()
    add_build_info(registry)
    (line,) = [each for each in generate_latest(registry).decode().splitlines() if not each.startswith("#")]
    assert line.startswith("neardup_build_info{")
    assert f'version="{installed_version()}"' in line
    assert line.endswith(" 1.0")
