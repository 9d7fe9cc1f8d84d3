"""Where a key holder answers that is not on this machine. No secret: paths of files only."""

from __future__ import annotations

import msgspec


class TlsFiles(msgspec.Struct, frozen=True):
    """What one side shows and trusts, by path: certificate and key, and the CA's certificate."""

    cert_file: str
    key_file: str
    ca_file: str


class TlsAddress(msgspec.Struct, frozen=True):
    """A key holder on another machine, and what to show it."""

    host: str
    port: int
    files: TlsFiles
