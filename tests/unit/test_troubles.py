import builtins
import socket
import ssl

import asyncpg
import pytest

from state.errors import StateError
from state.store.connect import Refused, Superseded, Unavailable
from state.troubles import BY_NAME, UNKNOWN, trouble_of

OURS = {"PasswordFileUnreadable"}


def test_every_error_that_is_known_by_name_exists():
    homes = (asyncpg.exceptions, asyncpg, builtins, ssl, socket)
    lost = [n for n in BY_NAME if n not in OURS and not any(hasattr(h, n) for h in homes)]
    assert lost == []


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (Unavailable("DiskFullError"), "make room"),
        (Unavailable("OutOfMemoryError"), "more"),
        (Unavailable("TooManyConnectionsError"), "max_connections"),
        (Unavailable("QueryCanceledError"), "ANALYZE"),
        (Unavailable("CannotConnectNowError"), "wait"),
        (Unavailable("ConnectionRefusedError"), "start it"),
        (Unavailable("gaierror"), "DNS"),
        (Unavailable("SSLCertVerificationError"), "certificate"),
        (Unavailable("ReadOnlySQLTransactionError"), "primary"),
        (Unavailable("InvalidAuthorizationSpecificationError"), "pg_hba.conf"),
        (Unavailable("PasswordFileUnreadable"), "mana migrate"),
        (Unavailable("TimeoutError"), "overloaded"),
        (Refused("28P01"), "password file"),
        (Refused("3D000"), "name"),
        (Refused("42P01"), "mana migrate"),
        (TimeoutError(), "overloaded"),
    ],
)
def test_a_remedy_fits_its_error(error: StateError | OSError, word: str):
    assert word in trouble_of(error).remedy


def test_a_full_disk_is_not_about_passwords():
    full = trouble_of(Unavailable("DiskFullError"))
    assert "full" in full.what
    assert "password" not in full.what + full.remedy


def test_an_unknown_refusal_is_named_by_its_code_and_an_unknown_error_by_nothing_of_its_own():
    assert "(22P05)" in trouble_of(Refused("22P05")).what
    assert trouble_of(Unavailable("SomethingNew")) == UNKNOWN
    assert trouble_of(Superseded()) == UNKNOWN
