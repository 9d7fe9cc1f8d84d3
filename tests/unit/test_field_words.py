"""What is wrong with a field is told in German too, whatever rule says it."""

import ast
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from state.log import cadence, own_changes, records
from state.log.records import agent_from_record, mission_from_record
from state.rules import policy
from state.store.gateway import own_log
from supervisor.gateway import answers, cursors
from supervisor.gateway.api.problems import ApiProblem, FieldProblem
from supervisor.gateway.api.requests import form_as
from supervisor.gateway.pages import forms
from supervisor.gateway.pages.owner import schedule
from supervisor.gateway.pages.owner.consent import access
from supervisor.gateway.pages.owner.parts import policy as tool_policy
from supervisor.gateway.pages.owner.parts.field_words import field_said, message_said, problem_said
from supervisor.gateway.people.made import agents, inputs, missions, person
from supervisor.gateway.people.made.wire import AgentWanted, MissionWanted, Wanted

RAISED = ("invalid", "BadRequest", "ChangeRefused", "ApiProblem")
SAID_BY_STATUS = (401, 404, 412, 503)
"""For these a page says what happened, whatever the API says of it."""
RULES = (
    agents, inputs, missions, person, own_changes, own_log, forms, answers, cursors, schedule,
    access, tool_policy,
)  # fmt: skip
RETURNED = {cadence: "cadence", policy: "policy"}
"""Rules that return a problem as `field: what`, and how those begin."""
WRONG: tuple[tuple[type[Wanted], dict[str, Any]], ...] = (
    (MissionWanted, {"title": ""}),
    (MissionWanted, {"title": "x" * 501}),
    (MissionWanted, {"title": 1}),
    (MissionWanted, {"objective": "x" * 50_001}),
    (MissionWanted, {"inputs": [{"module": "a", "table": "b", "id": "c"}] * 501}),
    (MissionWanted, {"read": "goals"}),
    (MissionWanted, {"missedRuns": "never"}),
    (MissionWanted, {"strange": 1}),
    (AgentWanted, {"name": ""}),
    (AgentWanted, {"role": "x" * 501}),
    (AgentWanted, {"systemPrompt": 1}),
    (AgentWanted, {"policy": "x"}),
    (AgentWanted, {"maxTokensPerDay": -1}),
    (AgentWanted, {"maxTokensPerDay": "x"}),
    (AgentWanted, {"maxTokensPerDay": 2**54}),
    (AgentWanted, {"maxConcurrentMissions": 0}),
    (AgentWanted, {"maxConcurrentMissions": 101}),
)


def said_in(module: ModuleType) -> list[str]:
    """Every message of a rule, with a stand-in where it holds a value."""
    tree = ast.parse(Path(inspect.getfile(module)).read_text("utf-8"))
    found: list[str] = []
    joined = (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr))
    pieces = {id(part) for node in joined for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in RAISED:
            if isinstance(node.args[0], ast.Constant) and node.args[0].value in SAID_BY_STATUS:
                continue
            for told in node.args:
                pairs = told.elts if isinstance(told, ast.Tuple) else node.args
                found += _text(pairs[1]) if len(pairs) > 1 else []
        if isinstance(node, ast.Tuple) and module is inputs and len(node.elts) == 2:
            found += _text(node.elts[1])
        if module in RETURNED and isinstance(node, ast.Constant | ast.JoinedStr):
            for text in [] if id(node) in pieces else _text(node):
                field, colon, what = text.partition(": ")
                if colon and field.startswith((RETURNED[module], "7")):
                    found.append(what)
    return found


def _text(node: ast.expr) -> list[str]:
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            parts = [part.value if isinstance(part, ast.Constant) else "7" for part in values]
            return ["".join(map(str, parts))]
        case _:
            return []


@pytest.mark.parametrize("module", [*RULES, *RETURNED], ids=lambda one: one.__name__)
def test_whatever_a_rule_says_of_a_field_has_its_german(module: ModuleType):
    messages = said_in(module)
    assert messages
    assert [one for one in messages if message_said(one, "de") == one] == []


@pytest.mark.parametrize(("kind", "fields"), WRONG)
def test_whatever_the_decoder_says_of_a_field_has_its_german(
    kind: type[Wanted], fields: dict[str, Any]
):
    with pytest.raises(ApiProblem) as caught:
        form_as(fields, kind)
    (one,) = caught.value.errors
    assert message_said(one.message, "de") != one.message
    assert one.field == next(iter(fields))
    assert not any(word in one.message for word in ("Expected", "`", "never"))


def test_whatever_is_wrong_with_a_record_has_its_german():
    """The records here are wrong in every way that their reader knows: no sentence is left out."""
    wrong: dict[str, Any] = {
        **dict.fromkeys(("title", "objective", "conceptMarkdown", "agentId", "spaceId"), ("x",)),
        **dict.fromkeys(("name", "role", "avatar", "systemPrompt", "memory"), ("x",)),
        **dict.fromkeys(("state", "missedRuns", "nextRunAt", "grant"), "x"),
        **dict.fromkeys(("cadence", "policy"), "x"),
        "inputs": ["x", {}],
        "iterations": "x",
        "maxTokensPerDay": -1,
        "maxConcurrentMissions": 1.5,
    }
    sealed = {**wrong, "title": "enc:1:x"}
    problems = [
        *mission_from_record("u1", "m1", wrong).problems,
        *mission_from_record("u1", "m1", sealed).problems,
        *agent_from_record("u1", "a1", wrong).problems,
    ]
    said_by = Path(inspect.getfile(records)).read_text("utf-8").count("problems.append(")
    assert len({one.partition(": ")[2] for one in problems}) >= said_by - 2  # two pass others' on
    assert [one for one in problems if _english_in(problem_said(one, "de"), one)] == []
    assert problem_said("policy.tools: not an object, every tool is denied", "en") == (
        "What it may do: not an object, every tool is denied"
    )


def _english_in(said: str, problem: str) -> bool:
    field, _, what = problem.partition(": ")
    return said.startswith(f"{field}:") or said.endswith(f": {what}")


def test_a_field_is_called_as_the_page_calls_it():
    problem = FieldProblem("systemPrompt", "must have at most 50000 characters")
    assert field_said(problem, "en") == "Persona must have at most 50000 characters"
    assert field_said(problem, "de") == "Persona darf höchstens 50000 Zeichen haben"
    assert field_said(FieldProblem("x.y", "is odd"), "de") == "x.y is odd"


def test_the_most_telling_sentence_is_taken():
    assert message_said("must be one of a, b", "de") == "muss eines von diesen sein: a, b"
    assert message_said("must be int, got str", "de") == "muss eine ganze Zahl sein und ist Text"
