"""What Ray and the system see of a node: ids and versions, no secret and nobody's text (P6)."""

from tests.canary import shown_of
from tests.fake_provider import Entry
from tests.faults.scene import Scene
from tests.node import LLM_KEY

OBJECTIVE = "Kanarienvogel-im-Auftrag"
ANSWER = "Kanarienvogel-in-der-Antwort"
PLANNED: Entry = {"content": ANSWER, "usage": [10, 5]}


def test_no_secret_is_in_the_environment_or_the_arguments_of_any_process(scene: Scene) -> None:
    mission = scene.push("environ", PLANNED)
    scene.wait_served(mission)
    agent, supervisor = scene.node.awake()[mission.pair].pid, scene.node.supervisor()
    processes = scene.node.processes()
    assert {agent, supervisor, scene.node.pid} <= set(processes)
    for pid in processes:
        seen = shown_of(pid, "environ") + shown_of(pid, "cmdline")
        assert [name for name, secret in _secrets(scene).items() if secret in seen] == []
    assert b"MANA_DATA_DIR" in shown_of(agent, "environ"), "it was the environment we read"


def test_ray_keeps_neither_secrets_nor_texts_in_its_files(scene: Scene) -> None:
    mission = scene.push("logs", PLANNED, title=OBJECTIVE, conceptMarkdown=OBJECTIVE)
    scene.wait_served(mission)
    (asked,) = scene.provider.requests_for(mission.id)
    assert asked.headers["authorization"] == f"Bearer {LLM_KEY}"
    assert OBJECTIVE.encode() in asked.raw
    forbidden = _secrets(scene) | {"objective": OBJECTIVE.encode(), "answer": ANSWER.encode()}
    files = [path for path in scene.node.folder.glob("data/ray/**/*") if path.is_file()]
    assert any("supervisor" in path.read_text(errors="replace") for path in files)
    found = [
        (str(path), name)
        for path in [*files, scene.node.folder / "printed"]
        for name, secret in forbidden.items()
        if secret in path.read_bytes()
    ]
    assert found == []


def _secrets(scene: Scene) -> dict[str, bytes]:
    files = [path for path in scene.database.secrets_dir.iterdir() if path.is_file()]
    passwords = {path.name: path.read_bytes().strip() for path in files}
    assert {"mana_agent", "mana_supervisor", "mana_gateway"} <= set(passwords)
    return passwords | {"service key": scene.node.service_key.encode(), "llm": LLM_KEY.encode()}
