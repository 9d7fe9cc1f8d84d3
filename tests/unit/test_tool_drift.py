"""Catalogue, readers, tables, ids and exports are one thing: a tool added in one place is red."""

import pytest

from mana_actors.agent.tools.catalogue import (
    Toolbox,
    catalogue,
    decision,
    function_spec,
    proposing_tools,
)
from mana_actors.agent.tools.reading.readers import READERS
from state.log.tables import READ_TABLES, scope_of
from state.rules.policy import DEFAULT_POLICY, DENY_ALL, AiPolicy

NO_IDS = {
    ("create_goal", "templateId"),  # a choice of the product
    ("create_goal", "moduleId"),
    ("apply_website_template", "templateId"),
}
NOT_CARRIED_OUT = {
    "augur_year_recap",
    "consult_oracle",
    "discover_events",
    "get_campaign_stats",
    "get_current_location",
    "get_draft",
    "get_drink_progress",
    "get_invoice_stats",
    "get_mood_insights",
    "get_mood_today",
    "get_myday_summary",
    "get_quiz_questions",
    "get_quiz_stats",
    "get_rain_forecast",
    "get_time_stats",
    "get_timer_status",
    "get_todays_events",
    "get_weather",
    "import_articles_from_urls",
    "list_campaigns",
    "list_comic_characters",
    "list_comic_stories",
    "list_drafts",
    "list_invoices",
    "list_lasts",
    "list_library_entries",
    "list_open_signs",
    "list_projects",
    "list_quizzes",
    "list_website_blocks",
    "list_website_pages",
    "list_websites",
    "list_writing_styles",
    "log_drink",
    "log_meal",
    "nutrition_summary",
    "suggest_lasts",
}
"""`auto` tools with effects, or that need a network or records whose shape is not known here."""


def reading_tools() -> Toolbox:
    return proposing_tools().with_tools((), READERS)


def test_every_auto_tool_has_a_reader_or_is_known_to_have_none():
    auto = {tool.name for tool in catalogue().values() if tool.default_policy == "auto"}
    assert auto == set(READERS) | NOT_CARRIED_OUT
    assert not set(READERS) & NOT_CARRIED_OUT


def test_every_reader_has_a_table_of_its_tools_module():
    assert set(READERS) == set(READ_TABLES)
    assert {name: of.module for name, of in READ_TABLES.items()} == {
        name: catalogue()[name].module for name in READERS
    }


def test_every_parameter_that_names_a_record_is_declared_an_id():
    named = {
        (tool.name, parameter.name)
        for tool in catalogue().values()
        for parameter in tool.parameters
        if parameter.name.endswith(("Id", "Ids", "_id", "_ids"))
    }
    declared = {
        (tool.name, parameter.name)
        for tool in catalogue().values()
        for parameter in tool.parameters
        if parameter.record
    }
    assert declared == named - NO_IDS


def test_an_export_is_its_catalogue_entry():
    for tool in catalogue().values():
        function = function_spec(tool)["function"]
        schema = function["parameters"]
        assert (function["name"], function["description"]) == (tool.name, tool.description)
        assert list(schema["properties"]) == [parameter.name for parameter in tool.parameters]
        assert schema["required"] == [p.name for p in tool.parameters if p.required]
        for spec in schema["properties"].values():
            assert spec.keys() <= {"type", "description", "enum"}


def test_an_agent_without_a_policy_gets_each_tools_own_default():
    assert all(decision(t, DEFAULT_POLICY) == t.default_policy for t in catalogue().values())
    offered = {tool.name for tool in reading_tools().offered(DEFAULT_POLICY)}
    proposing = {tool.name for tool in catalogue().values() if tool.default_policy == "propose"}
    assert offered == proposing | set(READERS)


@pytest.mark.parametrize("said", ["propose", "deny"])
def test_a_reading_that_is_not_auto_is_neither_offered_nor_in_the_scope(said: str):
    policy = AiPolicy({"list_notes": said}, {}, "auto")  # type: ignore[dict-item]
    names = {tool.name for tool in reading_tools().offered(policy)}
    assert "list_notes" not in names
    assert "list_tasks" in names
    assert "notes/notes/*" not in scope_of((), policy)
    assert "todo/tasks/*" in scope_of((), policy)


def test_a_table_stays_readable_while_one_of_its_tools_is_allowed():
    assert "todo/tasks/*" in scope_of((), AiPolicy({"get_task_stats": "deny"}, {}, "auto"))
    both = AiPolicy({"get_task_stats": "deny", "list_tasks": "propose"}, {}, "auto")
    assert "todo/tasks/*" not in scope_of((), both)
    assert scope_of((), DENY_ALL) == []
