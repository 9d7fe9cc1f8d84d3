"""The model router of a real node: it comes back where it was, and Ray sees nothing of a prompt."""

import signal
from typing import Any

import httpx

from tests.fake_provider import Entry
from tests.faults.scene import Scene
from tests.node import send, wait_for

CANARY = "Kanarienvogel-am-Router"
PLANNED: Entry = {"content": "fertig", "usage": [10, 5]}


def test_a_router_that_is_killed_comes_back_on_its_address_and_agents_go_on(scene: Scene) -> None:
    url = told(scene)["url"]
    (pid,) = scene.node.pids_of("LlmRouterActor")
    send(pid, signal.SIGKILL)
    mission = scene.push("router-died", PLANNED)
    scene.wait_served(mission)
    (again,) = scene.node.pids_of("LlmRouterActor")
    assert again != pid
    assert told(scene)["url"] == url
    scene.assert_one_plan(mission)


def test_the_routers_token_is_asked_for_and_lies_in_a_file_of_ours_alone(scene: Scene) -> None:
    token = scene.database.secrets_dir / "llm_token"
    assert token.stat().st_mode & 0o077 == 0
    answer = httpx.get(f"{told(scene)['url']}/v1/aliases", timeout=5)
    assert answer.status_code == 401


def test_ray_sees_nothing_of_what_is_asked_through_the_router(scene: Scene) -> None:
    mission = scene.push("canary", PLANNED, title=CANARY, conceptMarkdown=CANARY)
    scene.wait_served(mission)
    assert CANARY.encode() in scene.provider.requests_for(mission.id)[0].raw
    token = (scene.database.secrets_dir / "llm_token").read_bytes().strip()
    files = [path for path in scene.node.folder.glob("ray/**/*") if path.is_file()]
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


def told(scene: Scene) -> dict[str, Any]:
    """What the router says of itself, as soon as it answers."""

    def look() -> dict[str, Any] | None:
        answer = scene.node.http("GET", "/internal/llm")
        return answer.json() if answer.is_success else None

    return wait_for(look, "the model router to answer")
