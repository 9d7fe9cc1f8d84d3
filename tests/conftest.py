"""Fixtures for every kind of test, and which servers they run on."""

from pathlib import Path

import pytest

from tests import postgres as servers
from tests.postgres import database, empty_database, postgres

__all__ = ["database", "empty_database", "postgres"]

INTEGRATION = Path(__file__).parent / "integration"


def pytest_report_header() -> str:
    return servers.report()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Integration tests run on every version found, the slower kinds on the embedded one.

    So do those marked `one_postgres`, whose SQL other tests try on every version.
    """
    if "postgres" not in metafunc.fixturenames:
        return
    found = servers.sources()
    is_one = metafunc.definition.get_closest_marker("one_postgres") is not None
    if is_one or not metafunc.definition.path.is_relative_to(INTEGRATION):
        found = found[:1]
    metafunc.parametrize("postgres", found, indirect=True, ids=str, scope="session")
