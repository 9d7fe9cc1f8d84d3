"""What is wrong with a database, in words, and what helps: the one table from errors to remedies.

Looked up by the name of the driver's error or by SQLSTATE; no text of the server's is passed on.
"""

from __future__ import annotations

import msgspec

from state.errors import StateError


class DatabaseTrouble(msgspec.Struct, frozen=True):
    """What happened, and what an operator can do about it; neither ends with a full stop."""

    what: str
    remedy: str


UNKNOWN = DatabaseTrouble(
    "it does not answer", "look at its address, and at what Postgres says in its own log"
)
_REFUSED = DatabaseTrouble(
    "nothing listens at its address", "start it, or correct SYNC_DATABASE_URL; see mana logs"
)
_BROKEN_OFF = DatabaseTrouble(
    "the connection broke off", "it goes on by itself; if it lasts, look at Postgres' own log"
)
_STARTING = DatabaseTrouble(
    "it is starting up or shutting down", "wait; recovery after a crash takes its time"
)
_FULL = DatabaseTrouble(
    "its disk is full", "make room on the disk that Postgres writes to; it goes on by itself"
)
_MEMORY = DatabaseTrouble(
    "it is out of memory", "give its machine more, or lower work_mem and max_connections"
)
_CROWDED = DatabaseTrouble(
    "it has no connection left",
    "raise max_connections or the role's connection limit, or lower MANA_AGENT_SLOTS",
)
_CANCELLED = DatabaseTrouble(
    "a statement took too long and was cancelled",
    "ask again when it is less busy; run ANALYZE after a large import",
)
_PASSWORD = DatabaseTrouble(
    "the password is wrong", "look at the role's password file; mana migrate makes new ones"
)
_NO_PASSWORD = DatabaseTrouble(
    "a role's password file is missing or not ours to read", "run mana migrate, as the same OS user"
)
_NOT_ALLOWED = DatabaseTrouble(
    "it lets this login or this machine not in",
    "add a line to pg_hba.conf, and check that the role may log in",
)
_NO_DATABASE = DatabaseTrouble("there is no such database", "correct the name in SYNC_DATABASE_URL")
_READ_ONLY = DatabaseTrouble(
    "it is read-only", "name the primary in SYNC_DATABASE_URL, or promote this server"
)
_TLS = DatabaseTrouble(
    "TLS with it failed", "look at sslmode in SYNC_DATABASE_URL and at the server's certificate"
)
_NAME = DatabaseTrouble(
    "its host name is unknown", "correct the host in SYNC_DATABASE_URL, or the DNS"
)
_ROUTE = DatabaseTrouble(
    "its address cannot be reached",
    "start it, or look at host and port in SYNC_DATABASE_URL, the network and the firewall",
)
_TIMEOUT = DatabaseTrouble(
    "it did not answer in time", "see whether it is overloaded, stopped or behind a firewall"
)
_LOCKED = DatabaseTrouble(
    "somebody holds what was asked for", "try again; mana status names who holds it for long"
)
_NOT_MIGRATED = DatabaseTrouble("it has not the schema of this release", "run mana migrate")
_NOT_GRANTED = DatabaseTrouble("a role lacks a privilege", "run mana doctor, then mana migrate")
_BUG = DatabaseTrouble(
    "it refused a statement", "run mana doctor; if that is well, report the code"
)

BY_NAME = {
    "ConnectionRefusedError": _REFUSED,
    "FileNotFoundError": _REFUSED,
    "ConnectionResetError": _BROKEN_OFF,
    "BrokenPipeError": _BROKEN_OFF,
    "ConnectionDoesNotExistError": _BROKEN_OFF,
    "ConnectionFailureError": _BROKEN_OFF,
    "InterfaceError": _BROKEN_OFF,
    "InternalClientError": _BROKEN_OFF,
    "AdminShutdownError": _STARTING,
    "CrashShutdownError": _STARTING,
    "CannotConnectNowError": _STARTING,
    "DiskFullError": _FULL,
    "OutOfMemoryError": _MEMORY,
    "TooManyConnectionsError": _CROWDED,
    "InsufficientResourcesError": _CROWDED,
    "QueryCanceledError": _CANCELLED,
    "InvalidPasswordError": _PASSWORD,
    "PasswordFileUnreadable": _NO_PASSWORD,
    "InvalidAuthorizationSpecificationError": _NOT_ALLOWED,
    "InvalidCatalogNameError": _NO_DATABASE,
    "ReadOnlySQLTransactionError": _READ_ONLY,
    "ConnectionError": _TLS,  # the driver's, where the server refuses TLS
    "SSLError": _TLS,
    "SSLCertVerificationError": _TLS,
    "CertificateError": _TLS,
    "gaierror": _NAME,
    "TimeoutError": _TIMEOUT,
    "LockNotAvailableError": _LOCKED,
    "DeadlockDetectedError": _LOCKED,
    "SerializationError": _LOCKED,
    "OSError": _ROUTE,
}
_BY_STATE = {
    "25006": _READ_ONLY,
    "28000": _NOT_ALLOWED,
    "28P01": _PASSWORD,
    "3D000": _NO_DATABASE,
    "3F000": _NOT_MIGRATED,
    "42501": _NOT_GRANTED,
    "42703": _NOT_MIGRATED,
    "42883": _NOT_MIGRATED,
    "42P01": _NOT_MIGRATED,
    "53100": _FULL,
    "53200": _MEMORY,
    "53300": _CROWDED,
    "55P03": _LOCKED,
    "57014": _CANCELLED,
    "57P01": _STARTING,
    "57P02": _STARTING,
    "57P03": _STARTING,
}


def trouble_of(error: StateError | OSError) -> DatabaseTrouble:
    """What an error of the database means; of an unknown one, its code and where to look."""
    code = str(error.args[0]) if isinstance(error, StateError) and error.args else ""
    name = code or type(error).__name__
    known = BY_NAME.get(name) or _BY_STATE.get(name)
    if known is not None:
        return known
    if len(name) == 5 and name.isalnum():  # an SQLSTATE
        return DatabaseTrouble(f"{_BUG.what} ({name})", _BUG.remedy)
    return UNKNOWN
