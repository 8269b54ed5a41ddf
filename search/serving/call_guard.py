"""The door of the search server: who calls, whether the call may come in now, whether it brings the token."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import grpc

from core.errors import BusyError, DeniedError, UnavailableError
from core.rpc import CALLER, TOKEN, metadata_of
from search.serving.admission import Admission, Caller, caller_named
from search.serving.metrics import SearchMetrics

__all__ = ["CallGuard"]


class CallGuard:
    """Lets calls in, and counts them by the class of their caller."""

    def __init__(self, admission: Admission, metrics: SearchMetrics, token: str) -> None:
        """Takes its parts; without a token nothing that needs one is done."""
        self._admission = admission
        self._metrics = metrics
        self._token = token
        for caller in Caller:
            metrics.waiting.labels(caller.value).set_function(partial(admission.waiting, caller))

    @contextmanager
    def enter(self, context: grpc.ServicerContext, items: int) -> Iterator[Caller]:
        """Holds a place in the server while the block runs.

        Args:
            context: Of the call.
            items: What it asks for: entries, queries or ids.

        Raises:
            BadInputError: There is no such class of callers.
            BusyError: The call is rejected for now.
            UnavailableError: The caller has gone while it waited.
        """
        caller = caller_named(metadata_of(context, CALLER) or Caller.INTERACTIVE)
        with ExitStack() as place:
            try:
                place.enter_context(self._admission.admit(caller, items, context.time_remaining()))
            except BusyError:
                self._metrics.rejected.labels(caller.value).inc()
                raise
            if not context.is_active():
                raise UnavailableError("the caller has gone")
            self._metrics.admitted.labels(caller.value).inc(items)
            yield caller

    def check_token(self, context: grpc.ServicerContext) -> None:
        """Lets a write of people pass.

        Raises:
            DeniedError: The settings have no token, or the call brought another.
        """
        if not self._token:
            raise DeniedError("writes are off: set api_token in the settings of the server")
        brought = metadata_of(context, TOKEN) or ""
        if not hmac.compare_digest(brought.encode(), self._token.encode()):
            raise DeniedError("the call needs the api_token of the server's settings")
