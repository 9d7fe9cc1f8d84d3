"""TLS between machines: version 1.3, and each side shows a certificate of our own CA."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import msgspec

from mana_actors.keys.key_files import KeyFileInvalid, is_open_to_others

log = logging.getLogger("mana.keys")

_NO_PASSWORD = ""  # an encrypted key is refused, instead of asking a terminal for its password


class TlsFiles(msgspec.Struct, frozen=True):
    """What one side shows and trusts, by path: its certificate and key, the CA's certificate."""

    cert_file: str
    key_file: str
    ca_file: str


class TlsAddress(msgspec.Struct, frozen=True):
    """A key holder on another machine, and what to show it; no secret, only paths."""

    host: str
    port: int
    files: TlsFiles


class ServerTls:
    """What the key holder shows and trusts; a changed file counts from the next handshake on."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = _signature(files)
        self._context = server_context(files)

    def context(self) -> ssl.SSLContext:
        """By the files as they are now, or as they last were while the new ones are of no use."""
        seen = _signature(self._files)
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = server_context(self._files)
            except KeyFileInvalid as exc:  # often only one of two files is new so far
                log.error("key_certificates_unusable %s", exc)  # noqa: TRY400 - its text is all
            else:
                log.info("key_certificates_read")
        return self._context


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """A context that answers only holders of a certificate of our CA; raises KeyFileInvalid."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # each connection shows its certificate anew
    return _with(context, files)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """A context that accepts only a server of our CA under its own name; raises KeyFileInvalid."""
    return _with(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)


def _with(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        is_open = is_open_to_others(files.key_file)
    except OSError as exc:
        raise KeyFileInvalid(files.key_file, f"cannot be read ({type(exc).__name__})") from None
    if is_open:
        raise KeyFileInvalid(files.key_file, "can be read by others: chmod 600")
    try:
        context.load_cert_chain(files.cert_file, files.key_file, _NO_PASSWORD)
    except (OSError, ValueError) as exc:
        raise KeyFileInvalid(files.cert_file, f"no certificate for its key ({why(exc)})") from None
    try:
        context.load_verify_locations(files.ca_file)
    except (OSError, ValueError) as exc:
        raise KeyFileInvalid(files.ca_file, f"no certificate of a CA ({why(exc)})") from None
    return context


def why(exc: Exception) -> str:
    """OpenSSL's short code (CERTIFICATE_VERIFY_FAILED), or the kind of error; never its text."""
    return getattr(exc, "reason", None) or type(exc).__name__


def _signature(files: TlsFiles) -> tuple[tuple[int, int, int] | None, ...]:
    """Different whenever one of the files was written or replaced."""
    stamps: list[tuple[int, int, int] | None] = []
    for path in (files.cert_file, files.key_file, files.ca_file):
        try:
            found = Path(path).stat()
            stamps.append((found.st_mtime_ns, found.st_ino, found.st_size))
        except OSError:
            stamps.append(None)
    return tuple(stamps)
