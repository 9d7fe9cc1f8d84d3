"""From the shell's environment and options to a node's settings, without a secret left in it."""

import os
from collections.abc import Mapping
from pathlib import Path

from state.private_files import own_root
from state.store.embedded import data_root
from supervisor.node.credentials import read_secret, secrets_into_files
from supervisor.node.settings import Settings, read_settings


def folder(data_dir: str | None) -> Path:
    """The data directory a command is about: the option, MANA_DATA_DIR, or the platform's."""
    return Path(data_dir or os.environ.get("MANA_DATA_DIR") or data_root()).absolute()


def node_environment(
    options: Mapping[str, str | None], *, serves: bool = True
) -> tuple[dict[str, str], Settings]:
    """The environment to start a node with, and its settings; options win over variables."""
    env = _with(options)
    secrets_dir = Path(env.get("MANA_SECRETS_DIR") or folder(env.get("MANA_DATA_DIR")) / "secrets")
    if not secrets_dir.parent.exists():
        make_data_dir(secrets_dir.parent)
    env = secrets_into_files(env, secrets_dir)
    return env, read_settings(env, serves=serves)


def settings_of(options: Mapping[str, str | None]) -> Settings:
    """The settings for a command that looks at the database itself."""
    env = _with(options)
    secrets_dir = Path(env.get("MANA_SECRETS_DIR") or folder(env.get("MANA_DATA_DIR")) / "secrets")
    return read_settings(secrets_into_files(env, secrets_dir), serves=False)


def service_key(data_dir: Path) -> str:
    """The key to show the gateway: that of MANA_SERVICE_KEY_FILE, or the node's own."""
    given = os.environ.get("MANA_SERVICE_KEY")
    if given:
        return given
    named = os.environ.get("MANA_SERVICE_KEY_FILE")
    secrets_dir = Path(os.environ.get("MANA_SECRETS_DIR") or data_dir / "secrets")
    return read_secret("MANA_SERVICE_KEY_FILE", Path(named or secrets_dir / "service_key"))


def make_data_dir(path: Path) -> None:
    """Make the data directory, or see that it is ours; raises FolderNotOurs."""
    own_root(path)


def _with(options: Mapping[str, str | None]) -> dict[str, str]:
    return dict(os.environ) | {name: value for name, value in options.items() if value is not None}
