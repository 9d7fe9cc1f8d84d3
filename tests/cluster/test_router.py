"""The model router of a real node: it comes back where it was, and Ray sees nothing of a prompt."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fake_provider import Entry
from tests.faults.scene import FAST, Scene, ScriptedProvider
from tests.node import NodeFailed, NodeProcess, send, wait_for
from tests.postgres import TestServer

CANARY = "Kanarienvogel-am-Router"
PLANNED: Entry = {"content": "fertig", "usage": [10, 5]}


def test_the_routers_token_is_asked_for_and_lies_in_a_file_of_ours_alone(scene: Scene) -> None:
    token = scene.database.secrets_dir / "llm_token"
    assert token.stat().st_mode & 0o077 == 0
    answer = httpx2.get(f"{told(scene)['url']}/v1/aliases", timeout=5)
    assert answer.status_code == 401


def test_ray_sees_nothing_of_what_is_asked_through_the_router(scene: Scene) -> None:
    mission = scene.push("canary", PLANNED, title=CANARY, conceptMarkdown=CANARY)
    scene.wait_served(mission)
    assert CANARY.encode() in scene.provider.requests_for(mission.id)[0].raw
    token = (scene.database.secrets_dir / "llm_token").read_bytes().strip()
    files = [path for path in scene.node.folder.glob("data/ray/**/*") if path.is_file()]
    assert files
    found = [
        str(path)
        for path in [*files, scene.node.folder / "printed"]
        if CANARY.encode() in path.read_bytes() or token in path.read_bytes()
    ]
    assert found == []


def test_operators_see_the_router_and_can_try_an_alias(scene: Scene) -> None:
    state = told(scene)
    assert state["status"] == "healthy"
    assert "mana/reasoning" in {each["name"] for each in state["aliases"]}
    assert "service" in state["providers"]
    tried = scene.node.http("POST", "/internal/llm/test", json={"model": "mana/reasoning"}).json()
    assert (tried["ok"], tried["resolved"]) == (True, "service/mana/reasoning")
    assert tried["exposure"] == "any"
    refused = scene.node.http("POST", "/internal/llm/test", json={"model": 7})
    assert (refused.status_code, refused.json()["field"]) == (400, "model")
    assert "mana_llm_requests_total" in scene.node.http("GET", "/metrics").text


# --- a node of their own ------------------------------------------------------------------------


@pytest.fixture
def patient(postgres: TestServer, tmp_path: Path) -> Iterator[Scene]:
    """A node with an alias file, whose agents wait a little longer between tries."""
    database = postgres.migrated()
    with ScriptedProvider() as provider:
        (tmp_path / "aliases.yaml").write_text(ALIASES.format(url=provider.url))
        settings = FAST | {
            "MANA_BACKOFF_MIN_S": "1",
            "MANA_BACKOFF_MAX_S": "4",
            "MANA_LLM_ALIASES": str(tmp_path / "aliases.yaml"),
            "MANA_LLM_EXPOSURE": "eu",
        }
        with NodeProcess(database, provider.url, **settings) as node:
            yield Scene(database, provider, node)
    postgres.drop(database)


def test_a_router_that_is_killed_comes_back_on_its_address_and_agents_go_on(
    patient: Scene, tmp_path: Path
) -> None:
    url = told(patient)["url"]
    (pid,) = patient.node.pids_of("LlmRouterActor")
    send(pid, signal.SIGKILL)
    mission = patient.push("router-died", PLANNED)
    patient.wait_served(mission)
    patient.assert_one_plan(mission)
    (again,) = patient.node.pids_of("LlmRouterActor")
    assert again != pid
    assert told(patient)["url"] == url

    file = tmp_path / "aliases.yaml"
    good = file.read_text()
    file.write_text("aliases: []")
    send(patient.node.pid, signal.SIGHUP)
    wait_for(lambda: told(patient)["problem"], "the wrong file to be seen")
    patient.wait_served(patient.push("old-state", PLANNED))
    file.write_text(good.replace("[near/plan]", "[near/newer]"))
    send(patient.node.pid, signal.SIGHUP)
    wait_for(lambda: not told(patient)["problem"], "the file to be read again")
    mission = patient.push("new-state", PLANNED)
    patient.wait_served(mission)
    assert patient.provider.requests_for(mission.id)[0].body["model"] == "newer"


def test_a_grant_that_asks_for_less_is_kept_in_every_call(patient: Scene) -> None:
    mission = patient.push("stays-here", PLANNED, grant={"exposure": "local"})
    run = patient.wait_served(mission)
    assert patient.calls(mission) == 0
    assert run["state"] == "failed"
    assert "no model here may see" in run["reason"]


def test_a_node_does_not_start_with_a_wrong_alias_file(
    postgres: TestServer, tmp_path: Path
) -> None:
    database = postgres.migrated()
    file = tmp_path / "wrong.yaml"
    file.write_text("aliases: {mana/fast: {chain: [mana/other]}}")
    node = NodeProcess(database, None, MANA_LLM_ALIASES=str(file))
    try:
        with pytest.raises(NodeFailed, match=r"wrong\.yaml: aliases\.mana/fast\.chain\[0\]"):
            node.start()
        assert "starting Ray" not in node.printed()
    finally:
        node.close()
        postgres.drop(database)


ALIASES = """
aliases: {{mana/reasoning: {{chain: [near/plan]}}}}
providers: {{near: {{url: "{url}/v1", exposure: eu, probe_path: null}}}}
"""


def told(scene: Scene) -> dict[str, Any]:
    """What the router says of itself, as soon as it answers."""

    def look() -> dict[str, Any] | None:
        answer = scene.node.http("GET", "/internal/llm")
        return answer.json() if answer.is_success else None

    return wait_for(look, "the model router to answer")
