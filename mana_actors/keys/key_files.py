"""The key files: private ones that nobody else may read, loud about any that is wrong."""

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
    """What the key holder goes by, newest private key first; raises KeyFileInvalid."""
    keys = [_issuer(path) for path in issuers]
    return Trust(
        private_keys=tuple(_runner(path) for path in private_keys),
        issuers={key_pairs.issuer_key_id(key): key for key in keys},
        accept_v1=accept_v1,
    )


def is_open_to_others(path: str | Path) -> bool:
    """Whether others may read it; a group may where root put the file there for it."""
    found = Path(path).stat()
    allowed = 0o040 if found.st_uid == 0 and os.geteuid() != 0 else 0
    return bool(found.st_mode & 0o077 & ~allowed)


def _runner(path: Path) -> RSAPrivateKey:
    text = _text(path)
    if path.stat().st_mode & 0o077:
        raise KeyFileInvalid(str(path), "can be read by others: chmod 600")
    try:
        return key_pairs.runner_private_key(text)
    except KeyUnusable as exc:
        raise KeyFileInvalid(str(path), exc.problem) from None


def _issuer(path: Path) -> Ed25519PublicKey:
    try:
        return key_pairs.issuer_public_key(_text(path))
    except KeyUnusable as exc:
        raise KeyFileInvalid(str(path), exc.problem) from None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise KeyFileInvalid(str(path), f"cannot be read ({type(exc).__name__})") from None
