"""The way of the README to a model of one's own, against a service that knows no other."""

from collections.abc import Iterator

import pytest

from tests.fake_provider import Entry
from tests.faults.scene import FAST, Scene, ScriptedProvider
from tests.node import NodeFailed, NodeProcess
from tests.postgres import Database

STEP = {"name": "create_task", "args": {"title": "Brot", "rationale": "Weil es fehlt."}}
PLAN: Entry = {"calls": [STEP], "usage": [10, 5]}


@pytest.fixture
def strict() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as provider:
        provider.models = ["gemma3:4b"]
        yield provider


def test_the_only_model_of_a_service_plans_without_being_named(
    database: Database, strict: ScriptedProvider
) -> None:
    with NodeProcess(database, strict.url, **FAST, MANA_LLM_TRY="true") as node:
        scene = Scene(database, strict, node)
        mission = scene.push("own", PLAN)
        assert scene.wait_served(mission)["state"] == "committed"
        tried = strict.requests[0].body
        assert tried["tools"][0]["function"]["name"] == "report_ready"
        assert {request.body["model"] for request in strict.requests} == {"gemma3:4b"}


def test_a_service_with_several_models_stops_the_start_until_one_is_named(
    database: Database, strict: ScriptedProvider
) -> None:
    strict.models = ["gemma3:4b", "qwen3:8b"]
    with pytest.raises(NodeFailed, match=r"2 models .*name one: MANA_LLM_MODEL=gemma3:4b"):
        NodeProcess(database, strict.url, **FAST).__enter__()
    with NodeProcess(database, strict.url, **FAST, MANA_LLM_MODEL="qwen3:8b") as node:
        scene = Scene(database, strict, node)
        mission = scene.push("named", PLAN)
        assert scene.wait_served(mission)["state"] == "committed"
        assert strict.requests_for(mission.id)[0].body["model"] == "qwen3:8b"
