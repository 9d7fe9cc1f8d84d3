"""The settings we give our Postgres: one file, written anew at each start."""

from collections.abc import Mapping
from pathlib import Path

FILE = "mana.conf"
# Beside the data and not in it, so that as root we never write into another account's folder.
INCLUDE = f"include_if_exists = '../{FILE}'"

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    # One file per weekday, each begun anew after a week.
    "log_filename": "postgres-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    # Statements and the details of errors carry people's titles and texts.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


def write_settings(
    path: Path, *, port: int, sockets: Path, logs: Path, extra: Mapping[str, str]
) -> None:
    """Write our settings; what an operator puts in place with ALTER SYSTEM still wins."""
    chosen = {
        **SETTINGS,
        "port": str(port),
        "unix_socket_directories": str(sockets),
        "log_directory": str(logs),
        **extra,
    }
    lines = [f"{name} = {_quoted(value)}\n" for name, value in chosen.items()]
    text = "# Written anew at each start; put your own settings in place with ALTER SYSTEM.\n"
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text + "".join(lines), encoding="utf-8")
    unfinished.chmod(0o644)  # the account that runs Postgres reads it and cannot change it
    unfinished.replace(path)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
