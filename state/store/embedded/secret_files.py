"""Passwords in files that only their owner can read."""

import os
import secrets
from pathlib import Path

from state.store.embedded.errors import SecretMissingError

PASSWORD_BYTES = 32


def read_password(path: Path) -> str:
    """The password in a file; raises SecretMissingError when there is none."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise SecretMissingError(path, f"{exc.strerror}; put the password back") from exc
    if not text:
        raise SecretMissingError(path, "the file is empty")
    return text


def new_password() -> str:
    """A random password of 256 bits, safe in URLs and SQL literals."""
    return secrets.token_urlsafe(PASSWORD_BYTES)


def write_secret(path: Path, text: str) -> None:
    """Put `text` into a file of mode 0600, whole or not at all, durable on return."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def kept_password(path: Path) -> str:
    """The password in `path`, made first when the file is not there."""
    if not path.exists():
        write_secret(path, new_password())
    return read_password(path)
