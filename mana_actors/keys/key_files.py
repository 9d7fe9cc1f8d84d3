"""The key files. Nobody else may read the private ones, and one that is wrong is named at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from state.errors import TerminalError
from state.grants.grant import Trust
from state.sealing import key_pairs
from state.sealing.key_pairs import KeyUnusable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey


class KeyFileInvalid(TerminalError):
    """A key file that cannot be used; the text names it, and never shows what it holds."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def read_trust(
    private_keys: Sequence[Path], issuers: Sequence[Path], *, accept_v1: bool = False
) -> Trust:
    """Whom the key holder trusts, newest private key first; raises KeyFileInvalid."""
    runners: list[RSAPrivateKey] = []
    for path in private_keys:
        text = _text(path)
        if path.stat().st_mode & 0o077:
            raise KeyFileInvalid(str(path), "can be read by others: chmod 600")
        try:
            runners.append(key_pairs.runner_private_key(text))
        except KeyUnusable as exc:
            raise KeyFileInvalid(str(path), exc.problem) from None
    known: dict[str, Ed25519PublicKey] = {}
    for path in issuers:
        try:
            key = key_pairs.issuer_public_key(_text(path))
        except KeyUnusable as exc:
            raise KeyFileInvalid(str(path), exc.problem) from None
        known[key_pairs.issuer_key_id(key)] = key
    return Trust(tuple(runners), known, accept_v1)


def is_open_to_others(path: str | Path) -> bool:
    """Whether others may read it; a group may, where root put the file there for that group."""
    found = Path(path).stat()
    allowed = 0o040 if found.st_uid == 0 and os.geteuid() != 0 else 0
    return bool(found.st_mode & 0o077 & ~allowed)


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise KeyFileInvalid(str(path), f"cannot be read ({type(exc).__name__})") from None
