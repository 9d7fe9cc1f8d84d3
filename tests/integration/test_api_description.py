"""The API keeps to its own description: requests made up from it, sent over real HTTP."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import schemathesis.checks
import schemathesis.specs.openapi.checks
from hypothesis import HealthCheck, Phase, given, settings

from supervisor.gateway.api.openapi import description
from supervisor.gateway.people.routes import DESCRIBED, ROUTES
from tests.owners import open_house
from tests.postgres import Database

OLDER = {f"{one.verb} {one.path}" for one in DESCRIBED if not one.has_problems}
STREAMS = {"/api/v1/me/missions/{mission}/stream", "/api/v1/me/runs/{run}/stream"}
_OPENAPI: Any = schemathesis.specs.openapi.checks
_GENERAL: Any = schemathesis.checks
CHECKS: tuple[Any, ...] = (
    _GENERAL.not_a_server_error,
    _OPENAPI.status_code_conformance,
    _OPENAPI.content_type_conformance,
    _OPENAPI.response_schema_conformance,
)
EXAMPLES, EXAMPLES_OF_OLDER = 12, 3


def _try_all(url: str, token: str) -> set[str]:
    """Sends made-up requests for every operation and returns which; raises what is not as told."""
    schema: Any = schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json")
    tried: set[str] = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        tries = EXAMPLES_OF_OLDER if operation.label in OLDER else EXAMPLES

        @settings(
            max_examples=tries,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        @given(case=operation.as_strategy())
        def sent(case: Any) -> None:
            case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS)

        sent()
        tried.add(operation.label)
    return tried


@pytest.mark.one_postgres
async def test_every_operation_answers_what_it_says_whatever_is_sent(
    database: Database, tmp_path: Path
):
    async with open_house(database, tmp_path) as house:
        url = str(house.client.base_url).rstrip("/")
        tried = await asyncio.to_thread(_try_all, url, house.auth.token("u1"))
    assert tried == {f"{one.verb} {one.path}" for one in DESCRIBED}


def test_everything_of_ones_own_is_described_under_the_scope_that_it_takes():
    served = {(route.verb, route.path): route.scope for route in ROUTES}
    own = {key: scope for key, scope in served.items() if key[1].startswith("/api/v1/me")}
    told = {(one.verb, one.path): one.scope for one in DESCRIBED}
    assert {key: scope for key, scope in own.items() if key[1] not in STREAMS} == told
    paths = description(DESCRIBED, "1")["paths"]
    assert all(one.verb.lower() in paths[one.path] for one in DESCRIBED)
