"""Which tools there are, and which calls of them are accepted."""

from typing import Any

import pytest

from mana_actors.agent.planner.exchange import ToolCall, ToolResult
from mana_actors.agent.tools.catalogue import (
    Parameter,
    Tool,
    catalogue,
    function_spec,
    proposing_tools,
)
from mana_actors.agent.tools.validation import ArgumentError, check_against, validate_arguments
from mana_actors.errors import CatalogueInvalid
from state.rules.policy import DEFAULT_POLICY, DENY_ALL, AiPolicy


def refusal(name: str, /, **arguments: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        validate_arguments(catalogue()[name], arguments)
    return str(caught.value)


def test_the_catalogue_is_complete_and_described():
    tools = catalogue().values()
    assert len(tools) == 110
    assert sum(tool.default_policy == "propose" for tool in tools) == 62
    assert len({tool.module for tool in tools}) == 28
    assert all(tool.description for tool in tools)
    assert all(parameter.description for tool in tools for parameter in tool.parameters)


def test_only_proposing_tools_are_offered_in_catalogue_order():
    names = [tool.name for tool in proposing_tools().offered(AiPolicy({"list_tasks": "auto"}))]
    assert len(names) == 62
    assert names[:3] == ["create_task", "complete_task", "complete_tasks_by_title"]
    assert proposing_tools().offered(DENY_ALL) == ()


def test_a_function_spec_has_choices_only_where_there_are_some():
    spec = function_spec(catalogue()["create_task"])["function"]["parameters"]
    assert spec["required"] == ["title"]
    assert spec["properties"]["priority"]["enum"] == ["low", "medium", "high"]
    assert "enum" not in spec["properties"]["title"]


def test_an_unknown_parameter_type_is_refused():
    tool = Tool("a", "m", "propose", "d", (Parameter("x", "date", required=False),))
    with pytest.raises(CatalogueInvalid, match=r"a\.x"):
        function_spec(tool)


def test_a_made_up_name_makes_no_metric_label():
    assert proposing_tools().label("create_task") == "create_task"
    assert proposing_tools().label("drop_table_42") == "unknown"


def test_bad_arguments_are_named():
    assert refusal("create_task") == "Missing parameter: title"
    assert refusal("create_task", title="  ") == "Missing parameter: title"
    assert refusal("create_task", title=None) == "Missing parameter: title"
    assert refusal("create_task", title="x", color="red") == "Unknown parameter: color"
    assert refusal("create_task", title=["x"]) == "title is not a text"
    assert refusal("create_task", title="a\x00b") == "title holds a NUL character"
    assert refusal("create_task", title="x", priority="sofort").startswith("priority is not one of")
    assert refusal("create_place", name="x", latitude="nord", longitude=1) == (
        "latitude is not a number"
    )
    for odd in (True, "nan", "inf", 10**400):
        assert refusal("log_mood", level=odd, emotion="calm") == "level is not a number"
    assert refusal("update_quiz", quizId="q", isPinned="ja") == "isPinned is not a boolean"
    assert refusal("create_invoice", clientName="x", lines="1") == "lines is not an array"
    assert refusal("update_website_block", blockId="b", patch=[]) == "patch is not an object"


def test_numbers_and_booleans_written_as_text_are_read():
    place = {"name": "x", "latitude": "52.5", "longitude": "13"}
    assert validate_arguments(catalogue()["create_place"], place) == {
        "name": "x",
        "latitude": 52.5,
        "longitude": 13,
    }
    quiz = {"quizId": "q", "isPinned": "true", "title": None}
    assert validate_arguments(catalogue()["update_quiz"], quiz) == {"quizId": "q", "isPinned": True}


def test_a_denied_tool_is_refused_even_if_it_was_offered_before():
    check = check_against(proposing_tools().offered(DEFAULT_POLICY), AiPolicy({}, {"todo": "deny"}))
    answer = check(ToolCall("c", "create_task", {"title": "x"}))
    assert isinstance(answer, ToolResult)
    assert not answer.success


def test_oversized_arguments_are_refused():
    check = check_against(proposing_tools().offered(DEFAULT_POLICY), DEFAULT_POLICY)
    answer = check(ToolCall("c", "create_note", {"content": "x" * 40_000}))
    assert isinstance(answer, ToolResult)
    assert "larger" in answer.message
