"""What happens before a call reaches the index: its caller class, the right to it, and admission."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import grpc

from core.access import AUTHORIZATION, Access, Right
from core.errors import BusyError, UnavailableError
from core.rpc import CALLER, metadata_of
from search.serving.admission import Admission, Caller, caller_named
from search.serving.metrics import SearchMetrics

__all__ = ["CallGuard"]


class CallGuard:
    """Admits calls and counts them by caller class."""

    def __init__(self, admission: Admission, metrics: SearchMetrics, access: Access) -> None:
        """Takes its parts."""
        self._admission = admission
        self._metrics = metrics
        self._access = access
        for caller in Caller:
            metrics.waiting.labels(caller.value).set_function(partial(admission.waiting, caller))

    @contextmanager
    def enter(self, context: grpc.ServicerContext, items: int) -> Iterator[Caller]:
        """Admits the call while the block runs, and gives its caller class.

        Args:
            context: Of the call.
            items: How many entries, queries or ids it asks for.

        Raises:
            BadInputError: There is no such caller class.
            DeniedError: It says that it is the stream, and has not the stream's right.
            BusyError: The call is rejected; the error says when to try again.
            UnavailableError: The client went away while the call waited.
        """
        caller = caller_named(metadata_of(context, CALLER) or Caller.INTERACTIVE)
        if caller is Caller.STREAM:
            self.check(context, Right.STREAM)
        with ExitStack() as admitted:
            try:
                admitted.enter_context(self._admission.admit(caller, items, context.time_remaining()))
            except BusyError:
                self._metrics.rejected.labels(caller.value).inc()
                raise
            if not context.is_active():
                raise UnavailableError("the client has gone")
            self._metrics.admitted.labels(caller.value).inc(items)
            yield caller

    def check(self, context: grpc.ServicerContext, needed: Right) -> None:
        """Makes sure that a call has a right.

        Raises:
            DeniedError: It has not.
        """
        self._access.check(needed, metadata_of(context, AUTHORIZATION))
