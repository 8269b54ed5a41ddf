"""What happens before a call reaches the index: its caller class, admission, and the check of its token."""

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
    """Admits calls and counts them by caller class."""

    def __init__(self, admission: Admission, metrics: SearchMetrics, token: str) -> None:
        """Takes its parts. With an empty token, all calls that need one are denied."""
        self._admission = admission
        self._metrics = metrics
        self._token = token
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
            BusyError: The call is rejected; the error says when to try again.
            UnavailableError: The client went away while the call waited.
        """
        caller = caller_named(metadata_of(context, CALLER) or Caller.INTERACTIVE)
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

    def check_token(self, context: grpc.ServicerContext) -> None:
        """Makes sure that a call may write by hand.

        Raises:
            DeniedError: The settings have no token, or the call has another one.
        """
        if not self._token:
            raise DeniedError("writes are off: set api_token in the settings of the server")
        given = metadata_of(context, TOKEN) or ""
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise DeniedError("the call needs the api_token of the server's settings")
