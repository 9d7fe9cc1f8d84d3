"""Fixtures for every kind of test, and which servers they run on."""

from pathlib import Path

import pytest

from tests import postgres as servers
from tests.postgres import database, empty_database, postgres

__all__ = ["database", "empty_database", "postgres"]

HERE = Path(__file__).parent
INTEGRATION = HERE / "integration"
WITH_RAY = (HERE / "cluster", HERE / "faults", HERE / "browser")


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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs in one process, one after another: all that starts Ray, and each other file.

    Ray comes first since it takes longest; then server by server, so that few are started anew.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: not _starts_ray(item))


def _group(item: pytest.Item) -> str:
    if _starts_ray(item):
        return "ray"
    parameters = getattr(item, "callspec", None)  # of those that are parametrized
    server = parameters.params.get("postgres", "") if parameters else ""
    return f"{item.path.stem} {server}"


def _starts_ray(item: pytest.Item) -> bool:
    return any(item.path.is_relative_to(folder) for folder in WITH_RAY)
