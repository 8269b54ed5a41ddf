"""Settings that earlier releases knew under other names, so that a refused key can say what it is called now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["RENAMED", "renamed"]

RENAMED: Mapping[tuple[str, str], str] = {
    ("batching", "strikes"): "max_faults",
    ("batching", "hold_ms"): "throttle_ms",
    ("terms", "root"): "signed_sqrt",
    ("admission", "people_per_s"): "interactive_per_s",
}
"""(section, old key): the new key in the same section. The section is the innermost, such as `terms` of a signal."""


def renamed(path: Sequence[str | int]) -> str | None:
    """What the setting at a path (`signals`, `photos`, `terms`, `root`) is called now; none if it never was one."""
    if len(path) < 2:
        return None
    *_, section, key = path
    new = RENAMED.get((str(section), str(key)))
    return None if new is None else f"{key} is now {new}"
