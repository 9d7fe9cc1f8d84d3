"""A deployment's own tools, from the file that a node is given to the model's next turn."""

from pathlib import Path

import pytest

from tests.fake_provider import Entry
from tests.faults.scene import FAST, Scene, ScriptedProvider
from tests.node import NodeFailed, NodeProcess
from tests.postgres import Database

FILE = """
import os
from mana_tools import tool

@tool(module="lights", description="Read the lamps.")
def read_lamps():
    return {"lamps": ["lamp-1"], "variables": sorted(os.environ)}
"""
ASKS: Entry = {"calls": [{"name": "read_lamps", "args": {}}], "usage": [10, 5]}


def test_an_agents_process_calls_the_deployments_tool(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "tools.py"
    file.write_text(FILE)
    with (
        ScriptedProvider() as provider,
        NodeProcess(database, provider.url, **FAST, MANA_TOOLS_FILE=str(file)) as node,
    ):
        scene = Scene(database, provider, node)
        scene.add_agent("u1")
        mission = scene.push("lamps", ASKS, user="u1")
        scene.wait_served(mission)
        answer = provider.requests_for(mission.id)[1].body["messages"][-1]["content"]
    assert "lamp-1" in answer
    assert "MANA_" not in answer
    assert "RAY_" not in answer


def test_a_wrong_tools_file_stops_the_start(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "tools.py"
    file.write_text("import nowhere")
    with pytest.raises(NodeFailed, match="MANA_TOOLS_FILE"):
        NodeProcess(database, "http://127.0.0.1:1", MANA_TOOLS_FILE=str(file)).__enter__()
