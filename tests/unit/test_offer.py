"""What is offered fits the mission, the rest is one question away, and nothing denied is."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies

from mana_actors.agent.attempt.plan import make_plan
from mana_actors.agent.deployed.declaration import declared_tools
from mana_actors.agent.planner.exchange import (
    ModelAnswer,
    ModelRequest,
    ToolCall,
    ToolResult,
)
from mana_actors.agent.planner.loop import LoopInput, PlanOutcome, opening, run_loop
from mana_actors.agent.planner.prompt import PlanInput, loop_input
from mana_actors.agent.planner.rationale import short_spec_with_rationale, spec_with_rationale
from mana_actors.agent.planner.subagents import TASK, sub_input, with_sub_agents
from mana_actors.agent.tools.catalogue import (
    FIND_TOOLS,
    Parameter,
    Tool,
    catalogue,
    function_spec,
    proposing_tools,
    short_spec,
)
from mana_actors.agent.tools.executor import Executor
from mana_actors.agent.tools.module_names import module_words, modules_named
from mana_actors.agent.tools.offer import (
    BASE_BYTES,
    CORE,
    FIRST_BYTES,
    MOST_BROUGHT,
    MOST_FOUND,
    modules_of_policy,
)
from mana_actors.agent.tools.reading.readers import READERS
from mana_actors.errors import CatalogueInvalid
from mana_actors.json_values import JsonObject
from mana_actors.llm.completions import read_answer
from mana_actors.llm.rehearsal import planner as rehearsal
from state.log.records import Agent, InputRef, Mission
from state.proposals.tool_handlers import HANDLERS
from state.rules.policy import DEFAULT_POLICY, DENY_ALL, AiPolicy, Permission
from tests.missions import DEMO, OTHERS, Wanted, conversation, first_bytes, missing, offered_names

BOX = with_sub_agents(
    proposing_tools().with_tools([FIND_TOOLS], [FIND_TOOLS.name]).with_tools((), READERS)
)
BYTES_PER_TOKEN = 2
MISSIONS = [pytest.param(wanted, id=wanted.name) for wanted in (*DEMO, *OTHERS)]


def plan_input(
    title: str = "",
    *,
    policy: AiPolicy = DEFAULT_POLICY,
    tools: tuple[Tool, ...] = (),
    **fields: Any,
) -> PlanInput:
    mission = Mission("m", "u", title=title, **fields)
    box = BOX.with_tools(tools)
    agent = Agent("a", "u", name="Mira", policy=policy)
    return PlanInput(
        mission, agent, (), policy, "b0", "mana/reasoning", toolbox=box, offered="fitting"
    )


def begins(title: str = "", **more: Any) -> LoopInput:
    return loop_input(plan_input(title, **more))


def names_in(request: ModelRequest) -> list[str]:
    return [spec["function"]["name"] for spec in request.tools]


def call(name: str, identity: str = "c", **arguments: Any) -> ToolCall:
    return ToolCall(identity, name, arguments)


def finds(words: str, identity: str = "f") -> ToolCall:
    return call(FIND_TOOLS.name, identity, words=words)


class Model:
    """Makes these calls turn by turn, then stops; keeps what it was asked."""

    def __init__(self, *turns: tuple[ToolCall, ...]) -> None:
        self._turns = list(turns)
        self.asked: list[ModelRequest] = []

    async def __call__(self, request: ModelRequest, _number: int) -> ModelAnswer:
        self.asked.append(request)
        if self._turns:
            return ModelAnswer(None, self._turns.pop(0), "tool_calls")
        return ModelAnswer("done")

    def told(self, place: int) -> str:
        """The last message of a request."""
        return self.asked[place].messages[-1].content or ""


async def plan(model: Model, title: str = "", **more: Any) -> PlanOutcome:
    outcome, _ = await make_plan(plan_input(title, **more), model, Executor({}))
    return outcome


# --- the first call ---------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", MISSIONS)
def test_a_first_call_is_small_and_its_plan_can_be_as_good(wanted: Wanted):
    fitting, whole = conversation(wanted, "fitting"), conversation(wanted, "all")
    assert first_bytes(fitting) / BYTES_PER_TOKEN <= 6000
    assert first_bytes(fitting) * 5 < first_bytes(whole)
    assert missing(wanted, fitting) == ()


def test_a_mission_that_names_nothing_has_the_small_default_set():
    assert offered_names(begins("Hallo")) == [FIND_TOOLS.name, *CORE, TASK.name]


def test_inputs_and_the_owners_words_bring_their_modules_and_texts_of_others_do_not():
    assert "list_goals" in offered_names(begins(inputs=(InputRef("goals", "g", "1"),)))
    assert "get_task_stats" in offered_names(begins(inputs=(InputRef("tasks", "t", "1"),)))
    assert "create_place" in offered_names(begins(concept_markdown="Ein schöner Ausflug"))
    past = ({"userFeedback": "Trag es auch in mein Tagebuch ein"},)
    assert "create_journal_entry" in offered_names(begins(iterations=past))
    step = {"summary": "x", "intent": {"kind": "toolCall", "toolName": "create_habit"}}
    again = offered_names(begins(iterations=({"plan": [step, {"intent": 7}]},)))
    assert {"create_habit", "log_habit"} <= set(again)
    assert "create_habit" not in offered_names(begins(iterations=({"plan": [{}]},)))
    said = ({"summary": "Tagebuch"},)
    assert "create_journal_entry" not in offered_names(begins(iterations=said))


def test_a_policy_that_names_few_modules_names_what_its_agent_is_for():
    accountant = AiPolicy(tools={"add_transaction": "propose"}, default="propose")
    assert "add_transaction" in offered_names(begins(policy=accountant))
    every: dict[str, Permission] = {n: t.default_policy for n, t in catalogue().items()}
    assert modules_of_policy(AiPolicy(tools=every)) == ()
    assert modules_of_policy(AiPolicy(modules={"finance": "deny"})) == ()
    assert modules_of_policy(DENY_ALL) == ()


def test_an_agent_that_may_little_is_offered_all_of_it_and_nothing_to_find():
    names = ("create_contact", "log_mood", "create_quiz")
    policy = AiPolicy(tools=dict.fromkeys(names, "propose"), default="deny")
    assert offered_names(begins("Aufgabe", policy=policy)) == list(names)
    assert begins(policy=DENY_ALL).tools == ()


def test_tools_of_the_deployment_are_offered_as_far_as_they_fit():
    small = Tool("look_up", "crm", "propose", "Look up a customer.", ())
    large = Tool("file_it", "crm", "propose", "x" * BASE_BYTES, ())
    names = offered_names(begins(tools=(small, large)))
    assert "look_up" in names
    assert "file_it" not in names
    assert begins(tools=(small, large)).offer is not None


def test_the_first_offer_is_bounded_whatever_a_mission_names():
    words = " ".join(word.strip("=*") for words in module_words().values() for word in words)
    given_ = begins(words)
    assert sum(len(msgspec.json.encode(spec)) + 1 for spec in given_.tools) <= FIRST_BYTES


# --- a prefix that stays ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy", [DEFAULT_POLICY, AiPolicy(), AiPolicy(modules={"goals": "auto"})]
)
def test_missions_of_one_agent_share_their_prefix_byte_for_byte(policy: AiPolicy):
    def parts(title: str) -> tuple[bytes, str]:
        given_ = begins(title, policy=policy)
        assert given_.offer is not None
        base = given_.tools[: 1 + len(given_.offer.base)]
        return msgspec.json.encode(base), given_.system

    (first_tools, system), others = parts("x"), [parts("Quiz und Ziele"), parts("Ausgaben")]
    assert all(other == (first_tools, system) for other in others)
    assert opening(begins("Ausgaben")).raw == opening(begins("Ausgaben")).raw


async def test_what_is_brought_in_comes_after_all_that_was_there():
    model = Model((finds("quiz"),), (finds("contacts"),))
    await plan(model, "Ausgaben")
    first, second, third = (request.tools for request in model.asked)
    assert second[: len(first)] == first
    assert third[: len(second)] == second
    assert len(first) < len(second) < len(third)


# --- finding ------------------------------------------------------------------------------------


async def test_what_is_found_is_named_and_can_be_called_from_the_next_turn_on():
    model = Model((finds("contacts"),), (call("create_contact", firstName="Eva"),))
    outcome = await plan(model)
    assert "create_contact" not in names_in(model.asked[0])
    assert "create_contact" in names_in(model.asked[1])
    assert "create_contact, get_contacts" in model.told(1)
    assert [step.name for step in outcome.steps] == ["create_contact"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("places", "create_place"),
        ("Orte merken", "create_place"),
        ("create_place", "create_place"),
        ("Bücher", "create_library_entry"),
        ("news-research", "research_news"),
        ("emoji", "create_habit"),
        ("hashtag", "add_tag_to_note"),
        ("highlight a passage", "add_article_highlight"),
    ],
)
def test_tools_are_found_by_module_by_name_and_by_words(words: str, name: str):
    offer = begins().offer
    assert offer is not None
    found = offer.found(words, CORE)
    if name == "create_habit":  # nothing says so: what is found is nothing rather than anything
        assert found == ()
    else:
        assert name in found


async def test_words_that_fit_nothing_are_answered_with_the_modules_there_are():
    model = Model((finds("xyzzy"),))
    outcome = await plan(model)
    assert "Nothing more fits" in model.told(1)
    assert "contacts" in model.told(1)
    assert names_in(model.asked[1]) == names_in(model.asked[0])
    assert outcome.steps == ()


async def test_finding_is_bounded():
    every = tuple(finds(module, f"f{n}") for n, module in enumerate(module_words()))
    model = Model(every, every)
    await plan(model)
    assert len(model.asked[2].tools) == len(model.asked[0].tools) + MOST_BROUGHT
    told = [message.content or "" for message in model.asked[2].messages]
    assert any("No more tools" in text for text in told)
    offer = begins().offer
    assert offer is not None
    assert len(offer.found("quiz comic website writing", ())) == MOST_FOUND


async def test_a_call_of_a_tool_not_yet_offered_is_not_carried_out_but_offered():
    early = call("create_contact", firstName="Eva")
    model = Model((early,), (early,))
    outcome = await plan(model)
    assert "not offered yet" in model.told(1)
    assert names_in(model.asked[1]) == [*names_in(model.asked[0]), "create_contact"]
    assert [step.name for step in outcome.steps] == ["create_contact"]
    assert [done.result.success for done in outcome.executed_calls] == [False, True]


async def test_a_tool_that_was_brought_in_is_known_by_what_models_make_of_its_name():
    odd = call("functions.create_contact", firstName="Eva")
    outcome = await plan(Model((odd,), (odd,)))
    assert [step.name for step in outcome.steps] == ["create_contact"]


async def test_a_tool_found_in_this_turn_was_not_shown_in_it():
    model = Model((finds("contacts"), call("create_contact", firstName="Eva")))
    outcome = await plan(model)
    assert outcome.steps == ()
    assert names_in(model.asked[1]).count("create_contact") == 1


@pytest.mark.parametrize(
    "policy",
    [
        AiPolicy(tools={"create_contact": "deny"}),
        AiPolicy(modules={"contacts": "deny"}),
        AiPolicy(tools=dict.fromkeys(("create_task", "create_draft"), "propose"), default="deny"),
    ],
)
async def test_a_denied_tool_is_neither_offered_nor_found_nor_brought_in(policy: AiPolicy):
    model = Model(
        (finds("contacts"), finds("create_contact", "g"), call("create_contact", firstName="x")),
        (call("create_contact", firstName="x"),),
    )
    outcome = await plan(model, "Kontakt", policy=policy)
    assert all("create_contact" not in names_in(request) for request in model.asked)
    assert outcome.steps == ()


SAID: list[Permission] = ["auto", "propose", "deny"]
NAMES = sorted({*catalogue(), FIND_TOOLS.name, TASK.name})
WORDS = sorted({*module_words(), *catalogue(), "Kontakt", "Geld", "read", "x"})


@given(
    tools=strategies.dictionaries(strategies.sampled_from(NAMES), strategies.sampled_from(SAID)),
    modules=strategies.dictionaries(
        strategies.sampled_from(sorted(module_words())), strategies.sampled_from(SAID), max_size=8
    ),
    default=strategies.sampled_from(SAID),
    title=strategies.sampled_from(WORDS),
    turns=strategies.lists(
        strategies.lists(
            strategies.one_of(
                strategies.sampled_from(WORDS).map(finds),
                strategies.sampled_from(NAMES).map(lambda name: call(name, title="x")),
            ),
            max_size=5,
        ).map(tuple),
        max_size=4,
    ),
)
@settings(max_examples=40, deadline=None)
async def test_whatever_a_policy_says_and_a_model_asks_nothing_denied_is_shown_or_done(
    tools: dict[str, Permission],
    modules: dict[str, Permission],
    default: Permission,
    title: str,
    turns: list[tuple[ToolCall, ...]],
):
    policy = AiPolicy(tools, modules, default)
    model = Model(*(turn for turn in turns if turn))
    given_ = begins(title, policy=policy)
    outcome = await run_loop(given_, model, Executor({}))
    allowed = {tool.name for tool in BOX.tools.values() if BOX.allows(tool, policy)}
    shown: set[str] = set()
    for number, request in enumerate(model.asked, 1):
        names = names_in(request)
        assert len(names) == len(set(names))
        assert set(names) <= allowed
        shown = set(names)
        done = [made for made in outcome.executed_calls if made.round == number]
        assert {made.call.name for made in done if made.result.success} <= shown


async def test_a_reading_that_is_not_auto_is_not_brought_in():
    model = Model((call("get_contacts"), finds("contacts")), (call("get_contacts"),))
    outcome = await plan(model, policy=AiPolicy())
    assert all("get_contacts" not in names_in(request) for request in model.asked)
    assert not any(
        done.result.success for done in outcome.executed_calls if done.call.name == "get_contacts"
    )


def test_an_owner_who_denies_finding_has_everything_offered_at_once():
    for denied in (AiPolicy(tools={"find_tools": "deny"}), AiPolicy(modules={"_agent": "deny"})):
        names = offered_names(begins(policy=denied))
        assert FIND_TOOLS.name not in names
        assert len(names) == 62


def test_finding_needs_no_permission_of_its_own():
    assert FIND_TOOLS.name in offered_names(begins(policy=AiPolicy()))


async def test_finding_is_no_step_and_a_second_question_is_answered_too():
    model = Model((finds("contacts"),), (finds("contacts", "g"),))
    outcome = await plan(model)
    assert outcome.steps == ()
    assert "Nothing more fits" in model.told(2)


async def test_all_restores_the_whole_offer_in_its_long_form():
    whole = conversation(OTHERS[0], "all")
    allowed = [t for t in BOX.tools.values() if BOX.allows(t, DEFAULT_POLICY)]
    assert offered_names(whole) == [t.name for t in allowed if t.name != FIND_TOOLS.name]
    assert whole.tools[0] == spec_with_rationale(catalogue()["create_task"])
    assert "find_tools" not in whole.system


# --- sub-agents ---------------------------------------------------------------------------------


def sub(kind: str, prompt: str, **more: Any) -> LoopInput:
    arguments = {"subagent_type": kind, "description": "Do it", "prompt": prompt}
    return sub_input(begins(**more), ToolCall("t", "task", arguments))


def test_a_sub_agent_is_offered_what_its_prompt_names():
    names = offered_names(sub("general", "Lege Kontakte an"))
    assert {"create_contact", "find_tools", "create_task"} <= set(names)
    assert TASK.name not in names
    assert sub("general", "x").offer is not None


def test_a_sub_agent_that_only_reads_can_find_only_readings():
    reads = sub("research", "Kontakte")
    assert reads.offer is not None
    assert {tool.name for tool in reads.offer.tools} == set(READERS)
    assert set(offered_names(reads)) <= {*READERS, FIND_TOOLS.name}
    answer = reads.check(call("create_task", title="x"))
    assert isinstance(answer, ToolResult)
    assert not answer.success


async def test_a_sub_agent_finds_tools_in_its_own_conversation():
    given_ = sub("general", "x")
    model = Model((finds("contacts"),), (call("create_contact", firstName="Eva"),))
    outcome = await run_loop(given_, model, Executor({}))
    assert [step.name for step in outcome.steps] == ["create_contact"]


# --- short schemas ------------------------------------------------------------------------------


def accepted(schema: JsonObject) -> JsonObject:
    """What a schema says of values: without what only explains, and without empty lists."""
    properties: JsonObject = schema["properties"]
    bare = {name: {**spec, "description": ""} for name, spec in properties.items()}
    rest = {key: value for key, value in schema.items() if value != []}
    return {**rest, "properties": bare}


@pytest.mark.parametrize("tool", [*catalogue().values(), TASK, FIND_TOOLS], ids=lambda t: t.name)
def test_the_short_form_accepts_exactly_what_the_long_form_accepts(tool: Tool):
    long, short = function_spec(tool)["function"], short_spec(tool)["function"]
    assert accepted(short["parameters"]) == accepted(long["parameters"])
    assert list(short["parameters"]["properties"]) == list(long["parameters"]["properties"])
    assert "properties" in short["parameters"]  # services refuse an object without
    assert len(msgspec.json.encode(short)) <= len(msgspec.json.encode(long))
    assert 0 < len(short["description"]) <= 90
    assert "\n" not in short["description"]
    reasons = (spec_with_rationale(tool), short_spec_with_rationale(tool))
    assert accepted(reasons[0]["function"]["parameters"]) == accepted(
        reasons[1]["function"]["parameters"]
    )


def test_what_a_name_leaves_open_is_still_said():
    for tool in catalogue().values():
        for parameter in tool.parameters:
            facts = re.findall(r"\((.*)\)\.$", parameter.description)
            said = parameter.description if parameter.short is None else parameter.short
            assert not facts or facts[0] in said, (tool.name, parameter.name)


# --- words --------------------------------------------------------------------------------------


def test_words_are_known_for_every_module_and_for_no_other():
    assert set(module_words()) == {tool.module for tool in catalogue().values()}
    assert all(words for words in module_words().values())


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("Zahnarzttermin eintragen", {"calendar"}),
        ("Arzt-Termin", {"calendar"}),
        ("GEWOHNHEITEN", {"habits"}),
        ("Tagebu\u0308cher", {"journal", "library"}),
        ("Bu\u0308cher", {"library"}),
        ("to-do list", {"todo"}),
        ("Das ist interessant", set[str]()),
        ("Buchung", set[str]()),
        ("Haushaltsausgaben im Mai", {"finance", "todo"}),
        ("", set[str]()),
    ],
)
def test_words_stand_for_modules_in_both_languages(text: str, modules: set[str]):
    assert set(modules_named(text)) == modules


def test_the_rehearsal_model_is_offered_what_its_words_call_for():
    for tool, words in rehearsal._WORDS.items():  # pyright: ignore[reportPrivateUsage]
        for word in words:
            offered = offered_names(begins(f"x {word}"))
            assert tool in offered, (tool, word)


@pytest.mark.parametrize("wanted", MISSIONS)
async def test_the_rehearsal_model_plans_the_demo_as_it_did_with_every_tool(wanted: Wanted):
    async def rehearsed(request: ModelRequest, _number: int) -> ModelAnswer:
        body = rehearsal.complete(msgspec.json.decode(request.raw))
        answer = msgspec.json.encode(body)
        return read_answer(answer, resolved="", asked_model=request.model, provider="mana")

    plans = [
        await run_loop(conversation(wanted, offered), rehearsed, Executor({}))
        for offered in ("fitting", "all")
    ]
    fitting, whole = ([(s.name, s.arguments, s.rationale) for s in p.steps] for p in plans)
    assert fitting or not whole
    if wanted in DEMO:
        assert fitting == whole
    else:  # its words also fit inside others: "buch" in "Tagebuch", "news" in "Newsletter"
        assert fitting == [step for step in whole if step in fitting]


@given(strategies.text(max_size=2000))
@settings(max_examples=30, deadline=None)
def test_any_text_names_modules_that_there_are(text: str):
    assert set(modules_named(text)) <= set(module_words())
    offer = begins().offer
    assert offer is not None
    assert set(offer.found(text, CORE)) <= set(offer.specs) - set(CORE)


def test_a_deployment_cannot_take_the_name_of_a_tool_of_ours():
    for name in (FIND_TOOLS.name, TASK.name):
        mine = Tool(name, "crm", "propose", "x", (Parameter("x", "string", required=False),))
        with pytest.raises(CatalogueInvalid):
            declared_tools(msgspec.json.encode((mine,)))


def test_without_devices_nothing_is_offered_that_only_a_device_could_carry_out():
    here = proposing_tools(with_devices=False)
    proposed = {tool.name for tool in here.offered(DEFAULT_POLICY)}
    assert proposed == set(HANDLERS), "with nothing carried out here, all are proposals"
    assert len(proposing_tools().offered(DEFAULT_POLICY)) > len(proposed)
