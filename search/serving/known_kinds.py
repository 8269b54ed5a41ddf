"""A job of an older release takes a record of a newer kind for unreadable, and would make the index skip it.

Then storage refuses that job, but the index has passed the record, and the image of a delete would stay in it for ever.
So the index refuses the record first.
"""

from __future__ import annotations

from collections.abc import Collection

from core.dead_letters import Reason
from core.errors import MismatchError
from core.notifications import RECORD_KINDS
from search.serving.search_pb2 import InsertAndSearchRequest

__all__ = ["check_known"]


def check_known(request: InsertAndSearchRequest, kinds: Collection[str] = RECORD_KINDS) -> None:
    """Checks that what the caller skips is unknown to us too.

    Args:
        request: What the caller asks for.
        kinds: Those that we know.

    Raises:
        MismatchError: It skips a record that may be of a kind that we know and it does not. Nothing was applied.
    """
    missing = sorted(set(kinds) - set(request.kinds))
    if not missing:
        return
    for entry in request.entries:
        if entry.skip.reason == Reason.UNKNOWN_RECORD:
            raise MismatchError(
                f"the job would skip the record at position {entry.offset}, which may be of a kind that it does not "
                f"know ({', '.join(missing)}): start a job of this release with `neardup job start`"
            )
