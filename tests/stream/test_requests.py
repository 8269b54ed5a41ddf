"""Names of requests."""

from __future__ import annotations

import re

from stream.requests import new_request, user_name


def test_names_tell_their_time_and_never_repeat() -> None:
    names = {new_request("replay", 1_800_000_000.0) for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"replay-20270115-080000-[0-9a-f]{6}", name) for name in names)
    assert re.fullmatch(r"delete-\d{8}-\d{6}-[0-9a-f]{6}", new_request("delete"))


def test_the_user_has_a_name_or_none() -> None:
    assert isinstance(user_name(), str)
