"""Aliases over HTTP: what stands behind `/v1/aliases/NAME/` is answered by the signal that the alias names.

    /v1/aliases/live/images/ID      the same as /v1/images/ID of the signal that `live` names

Where that is the signal of this server, the prefix is taken away before keys are checked and routes are found, so a
request has the rights, limits and answers of the path behind it. Otherwise the answer is 307 to the same path at the
other signal's API, once the key allows what is asked for. An answer to such a request names its signal in the header
`Neardup-Signal`. A request may carry that header too: another signal then refuses it.

The file is looked at again with each such request, by its inode and times. One that is damaged changes nothing: the
aliases stay what they were. One that the disk or the system does not give is read again a little later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter
from fastapi import Path as PathParameter
from fastapi.responses import RedirectResponse

from core.access import Access
from core.alias_file import read_aliases
from core.aliases import Alias, SignalPlace
from core.errors import BadInputError, UnavailableError
from storage.api.access import KeyCheck
from storage.api.alias_schemas import AliasesOut, AliasOut
from storage.api.errors import RETRY_AFTER_S, UnknownError, problem
from storage.api.page_tokens import OtherSignalError
from storage.api.paths import App, Scope
from storage.api.requests import AnyRequest
from storage.api.schemas import Problem

__all__ = ["NO_ALIASES", "AliasPrefix", "AliasSettings", "FollowedAliases", "alias_routes"]

log = logging.getLogger(__name__)

PREFIX = b"/v1/aliases/"

HEADER = b"neardup-signal"
"""Of an answer: the signal that gave it. Of a request: the one that is to answer."""

_RETRY_S = 1.0
"""After this time a file that could not be read is read again, in seconds."""

_ANSWERS: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "The file of aliases is damaged, and was since this server started."}
}


@dataclass(frozen=True, slots=True)
class AliasSettings:
    """What a server knows of aliases."""

    file: Path | None
    """The file that says which signal each alias names; None: there are no aliases."""
    signal: str
    """The signal that this server answers for."""
    places: Mapping[str, SignalPlace]
    """All signals of the deployment."""


NO_ALIASES = AliasSettings(None, "", {})
"""Of a server that knows no other signal."""


class FollowedAliases:
    """The aliases as the file has them now, or had them when it could last be read."""

    def __init__(
        self,
        settings: AliasSettings,
        failed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the file.

        Args:
            settings: Where it is.
            failed: Counts a file that cannot be read, once for each that is found.
            clock: In seconds.
        """
        self.settings = settings
        self.fault: str | None = None
        """Why the file cannot be read; None: it could."""
        self._failed = failed
        self._clock = clock
        self._aliases: Mapping[str, Alias] | None = None
        self._seen: tuple[int, ...] | None = ()
        """Tells one content of the file from another; None: there is no file."""
        self._again_at: float | None = None
        """When the same content is read once more; None: it was read, or is damaged."""
        self._look()

    def all(self) -> Mapping[str, Alias]:
        """Every alias by name.

        Raises:
            UnavailableError: No file could be read since the start.
        """
        self._look()
        if self._aliases is None:
            raise UnavailableError(f"no alias is known: {self.fault}")
        return self._aliases

    def one(self, name: str) -> Alias:
        """An alias by name.

        Raises:
            UnknownError: There is none.
            UnavailableError: No file could be read since the start.
        """
        found = self.all().get(name)
        if found is None:
            raise UnknownError("unknown-alias", f"there is no alias {name[:80]!r}")
        return found

    def place(self, alias: Alias) -> SignalPlace:
        """Where its signal is found.

        Raises:
            UnavailableError: The settings of this server do not know the signal.
        """
        found = self.settings.places.get(alias.signal)
        if found is None:
            raise UnavailableError(f"the settings of this server do not know the signal {alias.signal}: start it again")
        return found

    def _look(self) -> None:
        file = self.settings.file
        if file is None:
            self._aliases = {}
            return
        now = _content(file)
        known = now == self._seen
        if known and (self._again_at is None or self._clock() < self._again_at):
            return
        self._seen, self._again_at = now, None
        try:
            if now is None and self._aliases:
                # The last alias that is dropped leaves an empty file, so one that is gone was taken away.
                raise BadInputError("the file of aliases is gone")
            self._aliases, self.fault = read_aliases(file), None
        except BadInputError as error:
            self.fault = str(error)
            if isinstance(error.__cause__, OSError):  # such as too many open files, which passes
                self._again_at = self._clock() + _RETRY_S
            if not known:
                self._failed()
                log.error("%s: %s; the aliases stay as they were", file, error)


def _content(file: Path) -> tuple[int, ...] | None:
    """Changes with the file; None: there is none."""
    try:
        now = file.stat()
    except OSError:
        return None
    return now.st_ino, now.st_mtime_ns, now.st_ctime_ns, now.st_size


class AliasPrefix:
    """Middleware that takes the prefix of an alias away, or sends the caller to the other signal."""

    def __init__(self, app: App, aliases: FollowedAliases, access: Access) -> None:
        """Takes what answers without the prefix, which checks keys first."""
        self._app = app
        self._aliases = aliases
        self._access = access

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Passes the request on, as it is or without its prefix, or answers 307, 404, 409 or 503."""
        raw: bytes = (scope.get("raw_path") or b"") if scope["type"] == "http" else b""
        if not raw.startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        raw = raw.split(b"?", 1)[0]
        name, slash, rest = raw[len(PREFIX) :].partition(b"/")
        if not slash:  # that of the alias itself
            await self._app(scope, receive, send)
            return
        behind = b"/v1/" + rest
        asked = {**scope, "raw_path": behind, "path": unquote(behind)}
        answer = self._answer(unquote(name), raw, asked)
        if answer is not None:
            # Who may not ask is told neither that an alias is there nor where it leads.
            await KeyCheck(AnyRequest(answer), self._access)(asked, receive, send)
            return
        signal = self._aliases.settings.signal.encode()

        async def named(message: Any) -> None:
            # Who may not ask is not told that this is the signal.
            if message["type"] == "http.response.start" and message["status"] not in (401, 403):
                message = {**message, "headers": [*message["headers"], (HEADER, signal)]}
            await send(message)

        await self._app(asked, receive, named)

    def _answer(self, name: str, raw: bytes, asked: Scope) -> App | None:
        """What is answered here; None: what the path behind the prefix answers."""
        own = self._aliases.settings.signal
        try:
            alias = self._aliases.one(name)
            wanted = next((value.decode("latin-1") for key, value in asked["headers"] if key == HEADER), alias.signal)
            if wanted != alias.signal:
                raise OtherSignalError(alias.signal, f"the alias {name} names {alias.signal}, not {wanted[:80]!r}")
            if alias.signal == own:
                return None
            query = b"?" + asked["query_string"] if asked["query_string"] else b""
            return RedirectResponse(self._aliases.place(alias).api + (raw + query).decode("latin-1"), 307)
        except UnknownError as error:
            return problem(404, error.word, str(error))
        except OtherSignalError as error:
            return problem(409, "other-signal", str(error), signal=error.signal)
        except UnavailableError as error:
            return problem(503, "unavailable", str(error), {"Retry-After": str(RETRY_AFTER_S)})


def alias_routes(aliases: FollowedAliases) -> APIRouter:
    """The routes that tell which signal each alias names."""
    router = APIRouter(prefix="/v1/aliases", responses=_ANSWERS, tags=["aliases"])
    places = aliases.settings.places

    @router.get("")
    async def list_aliases() -> AliasesOut:
        """Every alias, and whether the file that says so can be read."""
        return AliasesOut(
            signal=aliases.settings.signal,
            aliases=[AliasOut.of(name, alias, places.get(alias.signal)) for name, alias in aliases.all().items()],
            fault=aliases.fault,
        )

    @router.get("/{alias}", responses={404: {"model": Problem, "description": "There is no such alias."}})
    async def one_alias(
        alias: Annotated[str, PathParameter(description="The name of the alias.", examples=["live"])],
    ) -> AliasOut:
        """Which signal an alias names, and where readers find it."""
        found = aliases.one(alias)
        return AliasOut.of(alias, found, places.get(found.signal))

    return router
