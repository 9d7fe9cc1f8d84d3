"""The passwords of the superuser and of the log's owner, each in a file of its own."""

from pathlib import Path

from state.secret_files import new_secret, write_new_secret
from state.store.embedded.errors import SecretMissingError


def read_password(path: Path) -> str:
    """The password in a file; raises SecretMissingError when there is none."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise SecretMissingError(path, f"{exc.strerror}; put the password back") from exc
    if not text:
        raise SecretMissingError(path, "the file is empty")
    return text


def kept_password(path: Path) -> str:
    """The password in `path`, made first when the file is not there."""
    write_new_secret(path, new_secret())
    return read_password(path)
