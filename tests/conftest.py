"""Fixtures for every kind of test, and which servers they run on."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.postgres import database, empty_database, postgres, report, sources

__all__ = ["database", "empty_database", "postgres"]

INTEGRATION = Path(__file__).parent / "integration"
WITH_RAY = ("tests/cluster/", "tests/faults/", "tests/browser/")
SERVER = re.compile(r"\bpg\d+\b")

# A busy machine is no fault of ours: no test judges how long something took.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_report_header() -> str:
    return report()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Integration tests run on every version found, the slower kinds on the embedded one.

    So do those marked `one_postgres`, whose SQL other tests try on every version.
    """
    if "postgres" not in metafunc.fixturenames:
        return
    found = sources()
    is_one = metafunc.definition.get_closest_marker("one_postgres") is not None
    if is_one or not metafunc.definition.path.is_relative_to(INTEGRATION):
        found = found[:1]
    metafunc.parametrize("postgres", found, indirect=True, ids=str, scope="session")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than processors: who runs the tests with Ray mostly waits for other processes."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray comes first since it takes longest; then server by server: few are started anew."""
    items.sort(key=lambda item: not item.nodeid.startswith(WITH_RAY))


class OneAfterAnother(LoadScopeScheduling):
    """What runs in one process: all that starts Ray, and each other file on each server."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        if file.startswith(WITH_RAY):
            return "ray"
        return file + "".join(SERVER.findall(test)[:1])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneAfterAnother:
    return OneAfterAnother(config, log)
