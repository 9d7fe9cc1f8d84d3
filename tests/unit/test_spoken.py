"""What a model's text says, and what its template put there."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.agent.planner.spoken.text import Spoken, read_spoken

OFFERED: dict[str, dict[str, Any]] = {
    "create_task": {"title": {"type": "string"}, "hours": {"type": "integer"}},
    "list_tasks": {},
}
CALL = ("create_task", {"title": "Einkaufen"})
BAR, LOW = "\uff5c", "\u2581"


def calls(spoken: Spoken) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, call.arguments) for call in spoken.calls]


@pytest.mark.parametrize(
    "text",
    [
        "<think>geheim</think>\n\nFertig.",
        "<think>\ngeheim\n\n</think>\r\nFertig.",
        " <THINK>geheim</THINK>Fertig.",
        "<thinking>geheim</thinking>Fertig.",
        "<reasoning>geheim</reasoning>\nFertig.",
        "<thought>geheim</thought>Fertig.",
        "<seed:think>geheim</seed:think>Fertig.",
        '<think time="3">geheim</think>Fertig.',
        "[THINK]geheim[/THINK]Fertig.",
        "◁think▷geheim◁/think▷Fertig.",
        "<|begin_of_thought|>geheim<|end_of_thought|>Fertig.",
        "<|START_THINKING|>geheim<|END_THINKING|>Fertig.",
        "<think>geheim <think> geheim</think>Fertig.",
        "<think>a<think>geheim</think>geheim</think>Fertig.",
        "<think>geheim</think><think>geheim</think>Fertig.",
        "<think>``` geheim</think>Fertig.",
        "<think>`geheim</think>Fertig.",
        "geheim\n</think>\n\nFertig.",
        "geheim</think>Fertig.",
        "geheim. </think>\n\nFertig.",
        "<think>geheim, ich schreibe </think> am Ende\n</think>\nFertig.",
        "Fertig.\n<think>geheim",
        "Fertig.\n\n<think>geheim</think>",
        (
            "<|channel|>analysis<|message|>geheim<|end|><|start|>assistant<|channel|>final"
            "<|message|>Fertig.<|return|>"
        ),
        "geheim<|end|><|start|>assistant<|channel|>final<|message|>Fertig.",
        "<|channel|>final<|message|>Fertig.",
        "analysisThe user, geheim.assistantfinalFertig.",
        "Fertig.<|im_end|>",
        "Fertig.</s>",
        f"Fertig.<{BAR}end{LOW}of{LOW}sentence{BAR}>",
        "<|im_start|>\nFertig.",
    ],
)
def test_only_what_is_said_is_read(text: str):
    assert read_spoken(text) == Spoken("Fertig.")


@pytest.mark.parametrize(
    "text",
    ["<think>geheim", "\n<think>\ngeheim", "geheim\n</think>", "<|channel|>analysis<|message|>g"],
)
def test_thinking_that_never_ends_says_nothing(text: str):
    assert read_spoken(text).text == ""


@pytest.mark.parametrize(
    "text",
    [
        "Das Tag <think> öffnet, </think> schließt.",
        "Das Tag <think>x</think> umschließt einen Gedanken.",
        "Modelle schreiben `<think>` und `</think>` um das Denken.",
        "``<think>`` ist Code.",
        "```html\n<think>x</think>\n```",
        "~~~\n</think>\n~~~\nUnd fertig.",
        "Man sagt „<think>“ und (</think>).",
        "Das Tag heißt <think>\nund so weiter.",
        "Es schließt mit </think>\nund geht weiter.",
        "- <think> öffnet\n- </think> schließt",
        "Im Text steht <tool_call> ohne Folgen.",
        "Man schreibt [TOOL_CALLS] davor.",
        "Am Ende steht <|im_end|> als Zeichen.",
        '```json\n{"a": 1}\n```',
        '{"a": 1}',
        "[1, 2]",
        "5 < 6 und `x",
        " \n Fertig. \n",
        "",
    ],
)  # fmt: skip
def test_tags_amid_prose_and_code_stay(text: str):
    assert read_spoken(text, OFFERED) == Spoken(text)


BODY = json.dumps({"name": "create_task", "arguments": CALL[1]})
ARGUMENTS = json.dumps(CALL[1])
WRITTEN = [
    f"<tool_call>\n{BODY}\n</tool_call>",
    f"<tool_call>{BODY}",
    f"<tool_call>{json.dumps({'name': 'create_task', 'arguments': ARGUMENTS})}</tool_call>",
    f"<tool_calls>[{BODY}]</tool_calls>",
    f"<function_call>{BODY}</function_call>",
    f"<TOOLCALL>[{BODY}]</TOOLCALL>",
    f"<|tool_call|>[{BODY}]<|/tool_call|>",
    f"<function=create_task>{ARGUMENTS}</function>",
    "<function=create_task>\n<parameter=title>\nEinkaufen\n</parameter>\n</function>",
    (
        "<tool_call>\n<function=create_task>\n<parameter=title>\nEinkaufen\n</parameter>\n</function>"
        "</tool_call>"
    ),
    "<tool_call>create_task\n<arg_key>title</arg_key><arg_value>Einkaufen</arg_value></tool_call>",
    (
        '<function_calls><invoke name="create_task"><parameter name="title">Einkaufen</parameter>'
        "</invoke></function_calls>"
    ),
    (
        '<minimax:tool_call>\n<invoke name="create_task">\n<parameter name="title">Einkaufen'
        "</parameter>\n</invoke>\n</minimax:tool_call>"
    ),
    f"[TOOL_CALLS][{BODY}]",
    f"[TOOL_CALLS]create_task[ARGS]{ARGUMENTS}",
    f"[TOOL_CALLS]create_task[CALL_ID]abc123def{'[ARGS]'}{ARGUMENTS}</s>",
    f"<|python_tag|>{json.dumps({'name': 'create_task', 'parameters': CALL[1]})}<|eom_id|>",
    BODY,
    f"```json\n{BODY}\n```",
    f"```\n{BODY}\n```",
    (
        f"<{BAR}tool{LOW}calls{LOW}begin{BAR}><{BAR}tool{LOW}call{LOW}begin{BAR}>function"
        f"<{BAR}tool{LOW}sep{BAR}>create_task\n```json\n{ARGUMENTS}\n```"
        f"<{BAR}tool{LOW}call{LOW}end{BAR}>"
        f"<{BAR}tool{LOW}calls{LOW}end{BAR}>"
    ),
    (
        f"<{BAR}tool{LOW}calls{LOW}begin{BAR}><{BAR}tool{LOW}call{LOW}begin{BAR}>create_task"
        f"<{BAR}tool{LOW}sep{BAR}>{ARGUMENTS}<{BAR}tool{LOW}call{LOW}end{BAR}>"
    ),
    (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.create_task:0"
        f"<|tool_call_argument_begin|>{ARGUMENTS}<|tool_call_end|><|tool_calls_section_end|>"
    ),
    (
        "<|start|>assistant<|channel|>commentary to=functions.create_task <|constrain|>json"
        f"<|message|>{ARGUMENTS}<|call|>"
    ),
    (
        "<|channel|>analysis<|message|>geheim<|end|><|start|>assistant to=functions.create_task"
        f"<|channel|>commentary json<|message|>{ARGUMENTS}<|call|>"
    ),
]


@pytest.mark.parametrize("text", WRITTEN)
def test_a_call_is_read_in_whichever_form_its_template_has(text: str):
    for before in ("", "<think>geheim</think>\n", "geheim\n</think>\n\n"):
        spoken = read_spoken(before + text, OFFERED)
        if text != BODY or not before:
            assert (spoken.text, calls(spoken), spoken.unread) == ("", [CALL], 0)


@pytest.mark.parametrize("text", WRITTEN)
def test_a_call_of_a_tool_that_was_not_offered_is_neither_made_nor_shown(text: str):
    spoken = read_spoken(text, {"list_tasks": {}})
    assert (spoken.text, spoken.calls, spoken.unread) == ("", (), 1)


def test_calls_stand_beside_text_and_in_order():
    other = '<tool_call>{"name": "list_tasks", "arguments": {}}</tool_call>'
    text = f"Ich lege an:\n<tool_call>{BODY}</tool_call>\n{other}"
    spoken = read_spoken(text, OFFERED)
    assert (spoken.text, calls(spoken)) == ("Ich lege an:", [CALL, ("list_tasks", {})])
    assert len({call.id for call in spoken.calls}) == 2


def test_an_argument_may_hold_the_mark_of_the_end_and_half_a_character():
    body = '{"name": "create_task", "arguments": {"title": "a </tool_call> \\ud83d"}}'
    spoken = read_spoken(f"<tool_call>{body}</tool_call>", OFFERED)
    assert calls(spoken) == [("create_task", {"title": "a </tool_call> ?"})]


def test_a_parameter_in_tags_is_of_the_type_that_its_tool_says():
    seven = "<parameter=title>7</parameter><parameter=hours>7</parameter>"
    text = f"<function=create_task>{seven}</function>"
    assert calls(read_spoken(text, OFFERED)) == [("create_task", {"title": "7", "hours": 7})]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "create_task", "argum',
        '<tool_call>{"name": "create_task", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "create_task", "arguments": {"x": NaN}}</tool_call>',
        f"<tool_call>{BODY} und dann</tool_call>",
        "<tool_call>kaputt</tool_call>",
        "<function=create_task><parameter=title>offen</function>",
        "[TOOL_CALLS]create_task[ARGS]{",
        "<|python_tag|>import os",
    ],
)
def test_a_call_that_is_not_whole_is_not_made_and_not_shown(text: str):
    spoken = read_spoken(f"Ok.\n{text}", OFFERED)
    assert (spoken.text, spoken.calls, spoken.unread) == ("Ok.", (), 1)


def test_a_call_that_was_only_thought_of_is_not_made():
    spoken = read_spoken(f"<think>soll ich?\n<tool_call>{BODY}</tool_call></think>Nein.", OFFERED)
    assert spoken == Spoken("Nein.")


ATOMS = [
    *("<think>", "</think>", "</think> x", "\n</think>\n", "a</think>", "[THINK]", "<think> "),
    *("<tool_call>", "</tool_call>", "<tool_call>{", '<tool_call>{"a":"', "<tool_call>["),
    *("<function=a>", "</function>", "<parameter=a>", "</parameter>", "<arg_key>"),
    *("<tool_calls>", "<invoke name='a'>"),
    *("[TOOL_CALLS]", "[TOOL_CALLS]a{", "<|python_tag|>", "{", "["),
    *('{"name":"a","arguments":{"b":"', "x</s>"),
    *("```", "```\n", "~~~\n", "`", "`a ``b ", "\n", " ", "<|im_end|>", "</s>", "<s> "),
    *("<|channel|>", "<|channel|>final<|message|>", "<|start|>", "analysis", "assistantfinal"),
    *(f"<{BAR}tool{LOW}call{LOW}begin{BAR}>", f"<{BAR}tool{LOW}calls{LOW}begin{BAR}>", "<|"),
]  # fmt: skip


@pytest.mark.parametrize("atom", ATOMS)
def test_reading_takes_linear_time(atom: str):
    """No bound on the clock: a quadratic reading of these would take minutes."""
    read_spoken(atom * (100_000 // len(atom)), OFFERED)


@given(st.lists(st.sampled_from([*ATOMS, "a", "Ä ", "</tool_call>", BODY, "\r\n"]), max_size=12))
def test_any_mixture_is_read_and_calls_name_what_was_offered(parts: list[str]):
    spoken = read_spoken("".join(parts), OFFERED)
    assert all(call.name in OFFERED for call in spoken.calls)
    assert len({call.id for call in spoken.calls}) == len(spoken.calls)


@given(st.text())
def test_text_without_marks_stays_as_it_is(text: str):
    if not set("<[`~{◁") & set(text) and "assistantfinal" not in text:
        assert read_spoken(text, OFFERED) == Spoken(text)
