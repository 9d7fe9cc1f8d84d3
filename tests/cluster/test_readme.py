"""From nothing to a task in a person's data, by the lines of the documents as they stand there.

The README's are commands, those of docs/api.md requests of curl.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from supervisor.node.address import read_node
from tests.fake_provider import Entry
from tests.faults.scene import ScriptedProvider

pytestmark = pytest.mark.one_postgres

ROOT = Path(__file__).parents[2]
DONE_ALREADY = "make setup"
TASK: Entry = {
    "calls": [{"name": "create_task", "args": {"title": "Brot", "rationale": "Weil es fehlt."}}],
    "usage": [80, 20],
}
SAID: Entry = {"content": "Eine Aufgabe.", "usage": [40, 10]}


def first_commands() -> list[str]:
    """The lines of the first block, without what they say of themselves."""
    block = re.search(r"## Start.*?```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    return [line.partition("  #")[0].strip() for line in block[1].splitlines()]


def requests_over_http() -> str:
    """The script of docs/api.md that makes all of it by requests alone."""
    heading = "## From nothing to an approved task"
    block = re.search(
        heading + r".*?```sh\n(.*?)```", (ROOT / "docs/api.md").read_text(), re.DOTALL
    )
    assert block is not None
    return block[1]


@pytest.fixture
def place() -> Iterator[dict[str, str]]:
    """A new home, as a new user has one; short, since sockets lie below it."""
    home = tempfile.mkdtemp(prefix="mana-home-")
    Path(home).chmod(0o711)  # Postgres runs as another account where root starts it
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("MANA", "RAY"))}
    data = str(Path(home, "data"))  # root's would be the machine's
    env = {**kept, "HOME": home, "MANA_DATA_DIR": data, "PORT": "0", "MANA_AGENTS_AWAKE_MAX": "2"}
    env.pop("XDG_CONFIG_HOME", None)
    yield env
    subprocess.run([ROOT / ".venv/bin/mana", "down"], env=env, check=False, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)


def said_by(line: str, env: dict[str, str]) -> str:
    """What a line of the README prints; it must end well."""
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("whose_model", ["rehearsal", "own"])
def test_the_first_commands_lead_from_nothing_to_a_task(place: dict[str, str], whose_model: str):
    setup, up, *steps, down = first_commands()
    assert (setup, up.split()[-1], down.split()[-1]) == (DONE_ALREADY, "up", "down")
    with ScriptedProvider() as provider:
        provider.models = ["gemma3:4b"]
        provider.scripts["Plan my week"] = [TASK, SAID]
        provider.scripts["Plan the party"] = [TASK, SAID]
        env = place
        if whose_model == "own":
            env = place | {"MANA_LLM_URL": provider.url}
        said_by(up, env)
        told = {line: said_by(line, place) for line in steps}
        planned = next(text for line, text in told.items() if "missions run" in line)
        assert "create_task" in planned
        tasks = next(text for line, text in told.items() if "data list todo" in line)
        title = "Brot" if whose_model == "own" else "Plan my week"
        (task,) = json.loads(said_by(f"{steps[-1]} --json", place))
        assert (title in tasks, task["fields"]["title"]) == (True, title)
        assert task["updatedBy"]["actor"]["displayName"] == "Planner", "the agent's own name"
        assert task["updatedBy"]["origin"] == "agent"
        node = read_node(place["MANA_DATA_DIR"])
        assert node is not None
        script = f"set -eo pipefail\n{requests_over_http()}"
        answered = said_by(script, place | {"MANA": node.url})
        title = "Brot" if whose_model == "own" else "Plan the party"
        assert "event: run-closed" in answered
        records = json.loads(answered[answered.rindex('{"items"') :])["items"]
        ((space, made),) = [
            (each["fields"]["spaceId"], each["fields"]["title"]) for each in records
        ]
        assert (made, space.startswith("_personal:")) == (title, False), "in the shared space"
        said_by(down, place)


def test_the_demo_ends_as_its_story_says(place: dict[str, str]):
    told = json.loads(said_by(".venv/bin/mana demo --json", place))
    assert told["ok"]
    assert sorted(mission["decision"] for mission in told["missions"]).count("ran") == 5
    spans = sorted(
        (datetime.fromisoformat(mission["began_at"]), datetime.fromisoformat(mission["ended_at"]))
        for mission in told["missions"]
        if mission["agent"] == "coach"
    )
    assert spans[0][1] <= spans[1][0]
