"""The service key and other secrets that arrive from outside: kept in files of mode 0600 only."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from supervisor.node.settings import Settings, SettingsError, without_password

MIN_KEY_CHARS = 16
KNOWN_KEYS = frozenset({"dev-service-key"})  # the original's default, known to everybody


def read_service_key(settings: Settings) -> str:
    """The service key; in embedded mode made when absent. Raises SettingsError."""
    path = settings.service_key_path
    if settings.is_embedded and settings.service_key_file is None and not path.exists():
        write_secret(path, secrets.token_urlsafe(32))
    return checked_key(read_secret("MANA_SERVICE_KEY_FILE", path))


def checked_key(key: str) -> str:
    """The key itself unless it is guessable or does not fit into a header."""
    if len(key) < MIN_KEY_CHARS or key in KNOWN_KEYS:
        problem = f"the key must be a secret of {MIN_KEY_CHARS} or more characters"
        raise SettingsError("MANA_SERVICE_KEY_FILE", problem)
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError("MANA_SERVICE_KEY_FILE", "the key must be printable ASCII, no spaces")
    return key


def read_secret(variable: str, path: Path) -> str:
    """The one secret a file holds; raises SettingsError naming the variable."""
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(variable, f"cannot read {path} ({type(exc).__name__})") from exc
    if not text:
        raise SettingsError(variable, f"{path} is empty")
    return text


def write_secret(path: Path, secret: str) -> None:
    """Put a secret into a file that only we can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret + "\n")
    unfinished.replace(path)


def secrets_into_files(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment with every secret moved into a file in `folder`, and that named instead.

    What a node process inherits, each Ray worker inherits too; so no secret may stay in it.
    """
    moved = dict(env)
    key = moved.pop("MANA_SERVICE_KEY", None)
    if key is not None:
        write_secret(folder / "service_key", checked_key(key.strip()))
        moved["MANA_SERVICE_KEY_FILE"] = str(folder / "service_key")
    model_key = moved.pop("MANA_LLM_API_KEY", None)
    if model_key is not None:
        if not model_key.strip():
            raise SettingsError("MANA_LLM_API_KEY", "is empty; give it a value or leave it out")
        write_secret(folder / "llm_api_key", model_key.strip())
        moved["MANA_LLM_API_KEY_FILE"] = str(folder / "llm_api_key")
    return _database_password_into_file(moved, folder)


def _database_password_into_file(env: dict[str, str], folder: Path) -> dict[str, str]:
    try:
        url, password = without_password(env.get("SYNC_DATABASE_URL", ""))
    except ValueError:
        return env  # read_settings says what is wrong with it
    if password is None:
        return env
    write_secret(folder / "database", password)
    return env | {
        "SYNC_DATABASE_URL": url,
        "MANA_DATABASE_PASSWORD_FILE": str(folder / "database"),
    }
