"""From the settings to keys, rights and TLS: of each server that listens, and of each client that calls.

    DATA/secrets/parts/token    our own parts call each other with it
    DATA/secrets/read/key       reads the HTTP API and the gRPC servers from elsewhere
    DATA/secrets/write/key      snapshots, deletes, and all that people write
    DATA/secrets/write/NAME.key the same, by NAME: what is written with it has NAME as its author

Each lies in a folder of its own, so that a container is given only those that it needs. A part that has no file of a
key knows no such key.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

from core.access import Access, ClientTls, Credentials, Keys, Right, ServerTls, is_loopback, read_key_file
from core.errors import BadInputError, SettingsError
from core.files import write_text
from neardup.client import ApiClient
from stream.access_settings import TlsSettings
from stream.settings import ApiSettings, Settings

__all__ = [
    "add_owner",
    "api_access",
    "api_client",
    "api_url",
    "client_tls",
    "credentials",
    "credentials_elsewhere",
    "grpc_access",
    "key_file",
    "make_keys",
    "owned_keys",
    "server_tls",
]

KeyName = Literal["parts", "read", "write"]

_FILES: dict[KeyName, tuple[str, str]] = {
    "parts": ("parts_token_file", "token"),
    "read": ("read_key_file", "key"),
    "write": ("write_key_file", "key"),
}
"""The setting that names the file, and the name of the file in the folder of the key."""

_KEY_BYTES = 32

_OWNED = ".key"
"""The ending of the file of a key that belongs to somebody."""

_OWNER = re.compile(r"[A-Za-z0-9._-]{1,64}")


def key_file(settings: Settings, name: KeyName) -> Path:
    """The file of a key: the one that the settings name, else the one in the data folder."""
    setting, default = _FILES[name]
    named = str(getattr(settings.access, setting))
    return settings.path(Path(named)) if named else settings.data_dir / "secrets" / name / default


def make_keys(settings: Settings) -> list[Path]:
    """Makes the keys that are missing in the data folder, for its owner alone; returns the files made."""
    made = []
    for name, (setting, _) in _FILES.items():
        file = key_file(settings, name)
        if getattr(settings.access, setting) or file.exists():
            continue
        file.parent.parent.mkdir(parents=True, exist_ok=True)
        file.parent.mkdir(exist_ok=True, mode=0o700)
        write_text(file, f"{secrets.token_urlsafe(_KEY_BYTES)}\n", mode=0o600)
        made.append(file)
    return made


def grpc_access(settings: Settings, bind_host: str) -> Access:
    """Who may call a gRPC server that listens on this address.

    Without a key everyone on this machine may read. The stream's right is open only where there is no token of the
    parts. With client certificates, whoever shows one has these rights.
    """
    keys = _keys(settings)
    anyone: frozenset[Right] = frozenset()
    if settings.tls.client_ca_file:
        anyone = frozenset({Right.READ, Right.STREAM, Right.REQUIRE})
    elif is_loopback(bind_host) or not keys.parts:
        # Beyond loopback, the server refuses to start with this.
        anyone = frozenset({Right.READ} if keys.parts else {Right.READ, Right.STREAM, Right.REQUIRE})
    return Access(keys, anyone)


def api_access(settings: Settings, api: ApiSettings) -> Access:
    """Who may call the HTTP API: everyone on this machine may read; from elsewhere a key is needed.

    Raises:
        SettingsError: It listens beyond loopback, and there is no key for reading.
    """
    keys = _keys(settings)
    if is_loopback(api.bind_host):
        return Access(keys, frozenset({Right.READ}))
    if not keys.read:
        raise SettingsError(
            f"the HTTP API listens on {api.bind_host}, where others than this machine reach it, and has no key for"
            f" reading: run `neardup secrets make`, or name a file in access.read_key_file (looked for one in"
            f" {key_file(settings, 'read')}), or set bind_host to 127.0.0.1"
        )
    return Access(keys, frozenset())


def credentials(settings: Settings, right: Right) -> Credentials:
    """What a client of ours proves a right with, as far as this process has it.

    The key itself is inside only if it comes from `api_token`; else its file is named, and read by the client.
    """
    tls = client_tls(settings)
    if right is Right.WRITE and settings.api_token:
        return Credentials(key=settings.api_token, tls=tls)
    wanted: dict[Right, tuple[KeyName, ...]] = {
        Right.READ: ("read", "parts"),
        Right.WRITE: ("write",),
        Right.STREAM: ("parts",),
        Right.REQUIRE: ("write", "parts"),
    }
    for name in wanted[right]:
        if _present(settings, name):
            return Credentials(key_file=str(key_file(settings, name)), tls=tls)
    return Credentials(tls=tls)


def credentials_elsewhere(settings: Settings, key_file: Path | None, ca_file: Path | None) -> Credentials:
    """What a client shows to a server of another deployment: none of our keys.

    Args:
        settings: Of this deployment. It has TLS if this one has.
        key_file: The file with a key of the other one; None: no key is sent.
        ca_file: The authorities that vouch for the other one, which has TLS then; None: as for our own servers.
    """
    tls = client_tls(settings)
    if ca_file is not None:
        tls = replace(tls or ClientTls(), ca_file=str(ca_file))
    return Credentials(key_file="" if key_file is None else str(key_file), tls=tls)


def server_tls(settings: Settings) -> ServerTls | None:
    """TLS of our servers; None without."""
    tls = _absolute(settings)
    return ServerTls(tls.cert_file, tls.key_file, tls.client_ca_file) if tls.cert_file else None


def client_tls(settings: Settings) -> ClientTls | None:
    """TLS of clients of our servers; None without."""
    tls = _absolute(settings)
    return ClientTls(tls.ca_file, tls.client_cert_file, tls.client_key_file) if tls.cert_file else None


def api_url(settings: Settings, signal_name: str) -> str:
    """Where a client reaches the HTTP API of a signal."""
    api = settings.signals[signal_name].api
    return f"{'https' if settings.tls.cert_file else 'http'}://{api.host}:{api.port}"


def api_client(settings: Settings, signal_name: str, **options: Any) -> ApiClient:
    """A client of a signal's HTTP API, with the key for reading if there is one.

    Args:
        settings: Of the deployment.
        signal_name: The signal.
        options: Further arguments of `ApiClient`.
    """
    proof = credentials(settings, Right.READ)
    key = (proof.authorization() or "").removeprefix("Bearer ")
    ca_file = proof.tls.ca_file if proof.tls else ""
    page = settings.signals[signal_name].api.max_page
    return ApiClient(
        api_url(settings, signal_name), **{"page_size": page, "key": key or None, "ca_file": ca_file or None, **options}
    )


def add_owner(settings: Settings, owner: str) -> Path:
    """Makes a key for writing that belongs to somebody; returns its file. Servers know it from their next start on.

    Raises:
        BadInputError: The name has other characters than letters, digits, `.`, `_` and `-`, or has a key already.
    """
    if not _OWNER.fullmatch(owner):
        raise BadInputError(f"the name {owner!r} is not 1 to 64 letters, digits, '.', '_' or '-'")
    file = key_file(settings, "write").parent / f"{owner}{_OWNED}"
    if file.exists():
        raise BadInputError(f"{owner} has a key already, in {file}: remove that file first")
    file.parent.parent.mkdir(parents=True, exist_ok=True)
    file.parent.mkdir(exist_ok=True, mode=0o700)
    write_text(file, f"{secrets.token_urlsafe(_KEY_BYTES)}\n", mode=0o600)
    return file


def owned_keys(settings: Settings) -> dict[str, Path]:
    """The files of the keys that belong to somebody, by name."""
    folder = key_file(settings, "write").parent
    return {file.name.removesuffix(_OWNED): file for file in sorted(folder.glob(f"*{_OWNED}"))}


def _keys(settings: Settings) -> Keys:
    def read(name: KeyName) -> str:
        return read_key_file(key_file(settings, name)) if _present(settings, name) else ""

    owned = {owner: read_key_file(file) for owner, file in owned_keys(settings).items()}
    return Keys(read("parts"), read("read"), settings.api_token or read("write"), owned)


def _present(settings: Settings, name: KeyName) -> bool:
    """Whether this process is meant to have a key. A file that the settings name must be there."""
    return bool(getattr(settings.access, _FILES[name][0])) or key_file(settings, name).exists()


def _absolute(settings: Settings) -> TlsSettings:
    files = {each.name: str(getattr(settings.tls, each.name)) for each in fields(settings.tls)}
    return replace(settings.tls, **{name: str(settings.path(Path(file))) for name, file in files.items() if file})
