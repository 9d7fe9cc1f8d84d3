"""Files that hold a secret: the one place that writes them.

A file appears under its name whole or not at all, with mode 0600 from its first byte, and is on
disk on return. Folders that lack are made with mode 0700.
"""

import os
import secrets
from pathlib import Path

from state.errors import StateError, TerminalError

SECRET_BYTES = 32


class SecretEmpty(StateError, TerminalError):
    """A file of a secret holds none: whoever believed it would let everybody in."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} is empty: remove it, and a new secret is made"


def new_secret() -> str:
    """A random text of 256 bits, safe in URLs, headers and SQL literals."""
    return secrets.token_urlsafe(SECRET_BYTES)


def write_new_secret(path: Path, text: str) -> bool:
    """Write a secret unless its file is there: false, and that stays as it is.

    Of several processes that write one file at once, exactly one is told true.
    """
    if path.exists():
        return False
    unfinished = _unfinished(path, text)
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        return False
    finally:
        unfinished.unlink()
    _sync_folder(path)
    return True


def kept_secret(path: Path) -> str:
    """The secret in a file, made when there is none; raises SecretEmpty and OSError."""
    write_new_secret(path, new_secret())
    text = path.read_text("utf-8").strip()
    if not text:
        raise SecretEmpty(str(path))
    return text


def replace_secret(path: Path, text: str) -> None:
    """Write a secret, in the place of what its file may hold."""
    _unfinished(path, text).replace(path)
    _sync_folder(path)


def _unfinished(path: Path, text: str) -> Path:
    """A file beside `path` with the whole text; nobody else has its name."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text.rstrip("\n") + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        unfinished.unlink()
        raise
    return unfinished


def _sync_folder(path: Path) -> None:
    """A synced file can still lose its name with the machine: that stands in its folder."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
