"""What is told of a prompt: how much of it is what, in numbers, and never a word of it."""

import msgspec

from mana_actors.agent.model.receipt import Receipt
from mana_actors.agent.planner.exchange import ChatMessage, ModelAnswer, ModelRequest
from mana_actors.agent.planner.loop import opening
from mana_actors.agent.planner.prompt import PlanInput, ResolvedInput, known_texts, loop_input
from mana_actors.agent.planner.prompt_parts import KnownTexts, prompt_parts
from state.log.records import agent_from_record, mission_from_record
from state.rules.policy import DEFAULT_POLICY

SECRET = "Kontonummer 4711"
REFS = [
    {"module": "notes", "table": "notes", "id": "n1"},
    {"module": "notes", "table": "notes", "id": "gone"},
    {"module": "goals", "table": "goals", "id": "g1"},
]
FIELDS = {"title": "Woche", "objective": "Plane", "inputs": REFS, "iterations": [{"summary": "x"}]}
AGENT = agent_from_record("u1", "a1", {"name": "Coach", "systemPrompt": f"Ruhig. {SECRET}"})
INPUTS = (
    ResolvedInput("n1", "notes", "notes", "Budget", SECRET * 100),
    ResolvedInput("g1", "goals", "goals", "Laufen", "kurz"),
)


def planned() -> tuple[KnownTexts, ModelRequest]:
    mission = mission_from_record("u1", "m1", FIELDS)
    plan = PlanInput(mission, AGENT, INPUTS, DEFAULT_POLICY, "b", "m")
    given = loop_input(plan)
    return known_texts(plan, given), opening(given)


def test_the_parts_of_a_first_prompt_are_all_of_it():
    known, request = planned()
    parts = prompt_parts(request, known, 10_000)
    assert abs(sum(parts.tokens.values()) - 10_000) < len(parts.tokens)
    assert {"rules", "persona", "tools", "mission", "inputs", "history"} < parts.tokens.keys()
    assert parts.tokens["talk"] < 300  # the frame around messages
    assert "reminders" not in parts.tokens


def test_inputs_stand_in_the_missions_order_and_one_that_was_not_read_counts_nothing():
    known, request = planned()
    first, gone, last = prompt_parts(request, known, 0).inputs
    assert first > last > gone == 0


def test_what_was_said_before_and_reminders_are_told_apart():
    known, request = planned()
    before = prompt_parts(request, known, 0).tokens
    said = ChatMessage("assistant", "y" * 4000)
    hint = ChatMessage("system", f"<reminder>{'z' * 4000}</reminder>")
    longer = msgspec.structs.replace(request, messages=(*request.messages, said, hint))
    after = prompt_parts(longer, known, 0).tokens
    assert after["talk"] - before["talk"] > 900
    assert after["reminders"] > 900
    assert after["inputs"] == before["inputs"]


def test_a_helpers_prompt_is_not_taken_for_the_agents():
    known, _ = planned()
    messages = (ChatMessage("system", "You look things up."), ChatMessage("user", "Do"))
    parts = prompt_parts(ModelRequest("m", messages), known, 100)
    assert parts.inputs == ()
    assert {"rules", "talk"} == parts.tokens.keys()


def test_a_receipt_says_numbers_and_no_text():
    known, request = planned()
    receipt = Receipt()
    receipt.begins(known)
    answer = ModelAnswer(prompt_tokens=500, usage_reported=True, resolved_model="p/m")
    receipt.answered(1, request, answer, 600)
    noted = receipt.of_call(1)
    assert SECRET not in noted
    assert sum(msgspec.json.decode(noted)["1"]["parts"].values()) in range(492, 509)
