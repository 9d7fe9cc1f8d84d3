"""Unit tests reach neither Ray nor Postgres."""

from collections.abc import Iterator
from typing import NoReturn

import pytest


def _refused(*_: object, **__: object) -> NoReturn:
    message = "a unit test reached for Ray or Postgres"
    raise AssertionError(message)


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """Make ray.init raise, which also stops Ray's implicit start; and any connection."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray.init", _refused)
        patch.setattr("asyncpg.connect", _refused)
        patch.setattr("asyncpg.create_pool", _refused)
        yield
