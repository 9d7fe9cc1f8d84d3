"""An agent as a form: a new one, or one that is there, of which only changes are written."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from mana_actors.http.paths import segment
from state.log.own_changes import RecordAt
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.api.problems import ApiProblem
from supervisor.gateway.api.requests import form_as
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.make.changes import (
    WAS,
    changes_of,
    marks_of,
    meanwhile_said,
    plain,
    told_again,
)
from supervisor.gateway.pages.owner.parts import policy
from supervisor.gateway.pages.owner.parts.field_words import message_said
from supervisor.gateway.pages.owner.parts.template_words import role_said
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.problems import said_of
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.made.agents import agent_changed, agent_made, agent_of
from supervisor.gateway.people.made.templates import templates
from supervisor.gateway.people.made.wire import AgentFields, AgentShown, AgentWanted, agent_shown

TEXTS = {
    "name": "name",
    "role": "role",
    "avatar": "avatar",
    "systemPrompt": "system_prompt",
    "memory": "memory",
}
"""Fields of the form, and what they are called of an agent that is shown."""
AT_ONCE, CAP = "maxConcurrentMissions", "maxTokensPerDay"


async def get_new(visit: Visit) -> Response:
    """`/me/agents/new`, begun from a `template` where the address names one."""
    name = query(visit.request, ("template",)).get("template", "")
    begun = templates().get(name)
    form = {"key": str(uuid4()), "template": name if begun else ""}
    if begun is not None:
        form |= {
            "name": begun.name,
            "role": role_said(begun.role, visit.reader),
            "avatar": begun.avatar,
        }
        form |= {"systemPrompt": begun.system_prompt}
    return _form(visit, form)


async def post_new(visit: Visit) -> Response:
    """Make it and show it; sent twice it is made once."""
    query(visit.request, ())
    form = visit.form
    wrong = _wrong_in(form, visit.reader)
    if wrong:
        return _form(visit, form, wrong=wrong, status=422)
    try:
        id_ = str(UUID(form.get("key", "")))
    except ValueError:
        raise BadRequest("key", "is none of this page") from None
    fields: dict[str, Any] = {name: plain(form[name]) for name in TEXTS if form.get(name)}
    if any(text for name, text in form.items() if name.startswith(policy.MODULE)):
        fields["policy"] = policy.policy_with(None, form)
    try:
        async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
            if not (await own.record(RecordAt("ai", "agents", id_))).exists:
                await agent_made(own, form_as(fields, AgentWanted), id_)
    except ApiProblem as exc:
        return _refused(visit, form, exc)
    return seen(f"/me/agents/{segment(id_)}")


async def get_edit(visit: Visit) -> Response:
    """`/me/agents/{agent}/edit`: the form with what it is now."""
    query(visit.request, ())
    async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
        agent = agent_shown(await agent_of(own, path_part(visit.request, "agent"), hold=False))
    return _form(visit, _form_of(agent) | marks_of(_held(agent)), agent=agent)


async def post_edit(visit: Visit) -> Response:
    """Write what was changed here; what was changed elsewhere meanwhile is shown first."""
    query(visit.request, ())
    form, reader = visit.form, visit.reader
    async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
        agent = agent_shown(await agent_of(own, path_part(visit.request, "agent")))
        wished: dict[str, Any] = {name: plain(form[name]) for name in TEXTS if name in form}
        if form.get(AT_ONCE, "").isdecimal():
            wished[AT_ONCE] = int(form[AT_ONCE])
        if CAP in form and _is_cap(form[CAP]):
            wished[CAP] = int(form[CAP]) if form[CAP].strip() else None
        changes = changes_of(wished, _held(agent), form)
        wrong = _wrong_in(form, reader)
        if not wrong and not changes.contested and changes.fields:
            try:
                asked = form_as(changes.fields, AgentFields)
                await agent_changed(own, agent.id, asked)
            except ApiProblem as exc:
                return _refused(visit, form, exc, agent)
    if wrong:
        return _form(visit, form, agent=agent, wrong=wrong, status=422)
    if not changes.contested:
        return seen(f"/me/agents/{segment(agent.id)}")
    held = _held(agent)
    now_held = {name: "—" if held[name] is None else held[name] for name in changes.contested}
    wrong = {name: meanwhile_said(now, reader) for name, now in now_held.items()}
    told = told_again(form, _form_of(agent), held, changes)
    return _form(visit, told, agent=agent, wrong=wrong, status=412)


def _form_of(agent: AgentShown) -> dict[str, str]:
    """What a form holds of an agent that is there; a sealed text is not among it."""
    texts = {name: getattr(agent, attribute) or "" for name, attribute in TEXTS.items()}
    open_ = {name: text for name, text in texts.items() if name not in agent.sealed}
    cap = agent.max_tokens_per_day
    numbers = {AT_ONCE: agent.max_concurrent_missions, CAP: "" if cap is None else cap}
    return open_ | {name: str(number) for name, number in numbers.items()}


def _is_cap(text: str) -> bool:
    return not text.strip() or (text.isdecimal() and text.isascii())


def _held(agent: AgentShown) -> dict[str, Any]:
    texts = {name: plain(getattr(agent, of) or "") for name, of in TEXTS.items()}
    return texts | {AT_ONCE: agent.max_concurrent_missions, CAP: agent.max_tokens_per_day}


def _wrong_in(form: dict[str, str], reader: Reader) -> dict[str, str]:
    """What is wrong with fields that the form alone has words for."""
    _ = translations_of(reader.language).gettext
    wrong = {} if plain(form.get("name", "")) else {"name": _("Give it a name")}
    if not _is_cap(form.get(CAP, "")):
        wrong[CAP] = _("A whole number of tokens, or nothing for no cap of yours")
    return wrong


def _refused(
    visit: Visit, form: dict[str, str], exc: ApiProblem, agent: AgentShown | None = None
) -> Response:
    """The form again, with what the rules say beside each field."""
    if exc.status >= 500:
        raise exc
    language = visit.reader.language
    wrong = {one.field: message_said(one.message, language) for one in exc.errors}
    general = "" if wrong else said_of(exc, language)[2]
    return _form(visit, form, agent=agent, wrong=wrong, general=general, status=422)


def _form(
    visit: Visit,
    form: dict[str, str],
    *,
    agent: AgentShown | None = None,
    wrong: dict[str, str] | None = None,
    general: str = "",
    status: int = 200,
) -> Response:
    """The form with what it holds; where it was sent, with what is wrong beside each field."""
    reader = visit.reader
    fields = (*TEXTS, AT_ONCE, CAP, "key", "template")
    return page(
        reader,
        "owner/agent_form.html",
        status,
        agent=agent,
        here="/me/agents/new" if agent is None else f"/me/agents/{segment(agent.id)}/edit",
        form=dict.fromkeys(fields, "") | form,
        marks={name: text for name, text in form.items() if name.startswith(WAS)},
        wrong=wrong or {},
        general=general,
        begun=[] if agent is not None else _begun(reader),
        modules=[] if agent is not None else policy.modules_of(None, reader),
    )


def _begun(reader: Reader) -> list[tuple[str, str, str, str]]:
    """Each template: what it is called, and what such an agent reads and does."""
    _ = translations_of(reader.language).gettext
    does = {
        "planner": _("Reads goals, open tasks and appointments. Proposes tasks with a date."),
        "secretary": _("Reads tasks and notes. Proposes to finish, split or date a task."),
        "coach": _("Reads goals and habits. Proposes at most three small steps."),
        "reader": _("Reads goals, notes and saved articles. Proposes articles to save."),
    }
    return [(name, t.avatar, t.name, does.get(name, t.role)) for name, t in templates().items()]
