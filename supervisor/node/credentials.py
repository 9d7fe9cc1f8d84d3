"""The secrets a deployment brings along: read from files, or moved there from the environment.

And what Ray would leave open to everybody on the machine: its token, its folder.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from state.private_files import private_folder, socket_folder
from state.secret_files import kept_secret, new_secret, replace_secret, write_new_secret
from supervisor.node.settings import Settings, SettingsError, without_password

MIN_KEY_CHARS = 16
RAY_TEMP = "t"  # short, for its sockets' sake
_RAY_SESSION = "session_2026-11-27_22-52-35_126422_4194304"
_RAY_SESSIONS_KEPT = 3
KNOWN_KEYS = frozenset({"dev-service-key"})  # the original's default, known to everybody


def read_service_key(settings: Settings) -> str:
    """The service key; in embedded mode made when absent. Raises SettingsError."""
    path = settings.service_key_path
    if settings.is_embedded and settings.service_key_file is None:
        write_new_secret(path, new_secret())
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


def ray_token_file(settings: Settings) -> Path:
    """The file with what Ray's own processes show each other, made when absent."""
    path = Path(settings.secrets_dir, "ray_token")
    kept_secret(path)
    return path


def ray_folder(data_dir: Path) -> Path:
    """A folder for Ray's sockets and logs; the last few sessions stay. Raises FolderNotOurs.

    Ray lets everybody write into it, so it lies in one that nobody else may enter.
    """
    ours = ray_place(data_dir)
    private_folder(ours)
    theirs = ours / RAY_TEMP
    sessions = sorted(path for path in theirs.glob("session_*") if not path.is_symlink())
    for old in sessions[:-_RAY_SESSIONS_KEPT]:
        shutil.rmtree(old, ignore_errors=True)  # it ended, and nobody needs its logs
    return theirs


def ray_place(data_dir: Path) -> Path:
    """The folder of mode 0700 that has Ray's folder `RAY_TEMP` in it."""
    longest = f"/{RAY_TEMP}/{_RAY_SESSION}/sockets/plasma_store"
    return socket_folder(data_dir, "ray", len(longest))


def secrets_into_files(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment with every secret moved into a file in `folder`, and that named instead.

    What a node process inherits, each Ray worker inherits too; so no secret may stay in it.
    """
    moved = dict(env)
    key = moved.pop("MANA_SERVICE_KEY", None)
    if key is not None:
        replace_secret(folder / "service_key", checked_key(key.strip()))
        moved["MANA_SERVICE_KEY_FILE"] = str(folder / "service_key")
    model_key = moved.pop("MANA_LLM_API_KEY", None)
    if model_key is not None:
        if not model_key.strip():
            raise SettingsError("MANA_LLM_API_KEY", "is empty; give it a value or leave it out")
        replace_secret(folder / "llm_api_key", model_key.strip())
        moved["MANA_LLM_API_KEY_FILE"] = str(folder / "llm_api_key")
    try:
        url, password = without_password(moved.get("SYNC_DATABASE_URL", ""))
    except ValueError:
        return moved  # read_settings says what is wrong with it
    if password is None:
        return moved
    replace_secret(folder / "database", password)
    database = {
        "SYNC_DATABASE_URL": url,
        "MANA_DATABASE_PASSWORD_FILE": str(folder / "database"),
    }
    return moved | database
