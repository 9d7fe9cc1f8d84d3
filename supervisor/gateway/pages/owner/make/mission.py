"""A mission as a form: a new one, or one that is there, of which only changes are written."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from msgspec import UNSET
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from mana_actors.http.paths import segment
from state.log.cadence import next_runs
from state.log.own_changes import RecordAt
from state.log.records import InputRef
from state.rules.exposure import ORDER, Exposure, exposure_allowed
from state.store.gateway.own_log import OwnWrites
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.api.problems import ApiProblem
from supervisor.gateway.api.requests import form_as
from supervisor.gateway.pages import words
from supervisor.gateway.pages.owner.consent.grants import grant_of
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.make.cadence_form import (
    AT_FIRST,
    KEPT,
    SHORT_DAYS,
    cadence_in,
    every_of,
    fields_of,
)
from supervisor.gateway.pages.owner.make.changes import (
    WAS,
    changes_of,
    marks_of,
    meanwhile_said,
    plain,
    told_again,
)
from supervisor.gateway.pages.owner.make.inputs import choices_of, refs_of
from supervisor.gateway.pages.owner.overview import cadence_of, overview_of
from supervisor.gateway.pages.owner.parts.field_words import message_said
from supervisor.gateway.pages.owner.parts.template_words import role_said
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.problems import said_of
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.made.agents import agent_made
from supervisor.gateway.people.made.missions import (
    NEXT_RUNS,
    mission_changed,
    mission_made,
    mission_of,
)
from supervisor.gateway.people.made.templates import templates
from supervisor.gateway.people.made.wire import (
    AgentWanted,
    MissionFields,
    MissionShown,
    MissionWanted,
    mission_shown,
)

AGENT, TEMPLATE = "agent:", "new:"
TEXTS = ("title", "objective")
FIELDS = ("who", *TEXTS, "key", "missedRuns", "exposure", *(AT_FIRST.keys() - {"day.mon"}))
PLACES = {"every": "cadence", "agentId": "who", "template": "who", "name": "who", "read": "inputs"}
"""Where a form shows what is wrong with a field that it calls otherwise."""


async def get_new(visit: Visit) -> Response:
    """`/me/missions/new`, with an `agent` or a `template` chosen where the address names one."""
    asked = query(visit.request, ("agent", "template"))
    template = asked.get("template", "")
    who = TEMPLATE + template if template else AGENT + asked["agent"] if "agent" in asked else ""
    title, objective = _begun(template, visit.reader)
    fields = {**AT_FIRST, "who": who, "title": title, "objective": objective}
    fields |= {"missedRuns": "one", "key": str(uuid4())}
    return await _form(visit, fields, [])


async def post_new(visit: Visit) -> Response:
    """Make it and show it; `preview` only shows when it would run. Sent twice it is made once."""
    query(visit.request, ())
    form, reader = _sent(visit), visit.reader
    refs, wrong = await _chosen(visit, [])
    if "preview" in form or "find" in form:
        return await _form(visit, form, refs, wrong=wrong)
    wrong |= _wrong_in(form, reader)
    if wrong:
        return await _form(visit, form, refs, wrong=wrong, status=422)
    try:
        id_ = str(UUID(form.get("key", "")))
    except ValueError:
        raise BadRequest("key", "is none of this page") from None
    kind, _, named = form.get("who", "").partition(":")
    try:
        async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
            if not (await own.record(RecordAt("ai", "aiMissions", id_))).exists:
                if kind == "new":
                    begun = templates().get(named)
                    role = UNSET if begun is None else role_said(begun.role, reader)
                    named = (await agent_made(own, AgentWanted(template=named, role=role))).id
                fields: dict[str, Any] = {name: plain(form.get(name, "")) for name in TEXTS}
                fields = {name: text for name, text in fields.items() if text}
                fields |= {"agentId": named, "every": every_of(form)}
                fields |= {"missedRuns": form.get("missedRuns", "one"), "inputs": _plainly(refs)}
                await mission_made(own, visit.owners, id_, form_as(fields, MissionWanted))
    except ApiProblem as exc:
        return await _refused(visit, form, refs, exc)
    return seen(await _after(visit, id_, form.get("exposure"), has_new_inputs=bool(refs)))


async def get_edit(visit: Visit) -> Response:
    """`/me/missions/{mission}/edit`: the form with what it is now."""
    query(visit.request, ())
    async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
        mission = await _mission(own, visit, hold=False)
    return await _form(
        visit, _form_of(mission) | marks_of(_held(mission)), refs_in(mission), mission=mission
    )


async def post_edit(visit: Visit) -> Response:
    """Write what was changed here; what was changed elsewhere meanwhile is shown first."""
    query(visit.request, ())
    form, reader = _sent(visit), visit.reader
    async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
        before = await _mission(own, visit, hold=False)
    refs, wrong = await _chosen(visit, refs_in(before))
    if "preview" in form or "find" in form:
        return await _form(visit, form, refs, mission=before, wrong=wrong)
    wrong |= _wrong_in(form, reader, mission=before)
    if wrong:
        return await _form(visit, form, refs, mission=before, wrong=wrong, status=422)
    try:
        async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
            mission = await _mission(own, visit)
            changes = changes_of(_wished(form, mission, refs), _held(mission), form)
            fields = changes.fields
            wrong = {name: _meanwhile(name, mission, reader) for name in changes.contested}
            if fields and not wrong:
                said = {name: value for name, value in fields.items() if name != "cadence"}
                said |= {"every": every_of(form)} if "cadence" in fields else {}
                asked = form_as(said, MissionFields)
                await mission_changed(own, visit.owners, mission.id, asked)
    except ApiProblem as exc:
        return await _refused(visit, form, refs, exc, mission=before)
    if not wrong:
        has_new = "inputs" in fields
        return seen(await _after(visit, mission.id, form.get("exposure"), has_new_inputs=has_new))
    now = {name: text for name, text in _form_of(mission).items() if name in FIELDS}
    if "inputs" not in fields:
        refs = refs_in(mission)
    if "agentId" in wrong:
        wrong["who"] = wrong.pop("agentId")
    told = told_again(form, now, _held(mission), changes, _part)
    return await _form(visit, told, refs, mission=mission, wrong=wrong, status=412)


def refs_in(mission: MissionShown) -> list[InputRef]:
    """What it reads, each once."""
    listed = (InputRef(one["module"], one["table"], one["id"]) for one in mission.inputs)
    return list(dict.fromkeys(listed))


def _form_of(mission: MissionShown) -> dict[str, str]:
    """What a form holds of a mission that is there; a sealed text is not among it."""
    texts = {name: getattr(mission, name) for name in TEXTS}
    return {
        **fields_of(cadence_of(mission)),
        **{name: text for name, text in texts.items() if text is not None},
        "who": AGENT + mission.agent_id,
        "missedRuns": mission.missed_runs,
    }


def _wished(form: dict[str, str], mission: MissionShown, refs: list[InputRef]) -> dict[str, Any]:
    """What a form says of each field, as `_held` says what a mission holds."""
    wished: dict[str, Any] = {name: plain(form[name]) for name in TEXTS if name in form}
    if AGENT in form.get("who", ""):
        wished["agentId"] = form["who"].removeprefix(AGENT)
    if form.get("how") != KEPT:
        wished["cadence"] = cadence_in(form)
    wished |= {"missedRuns": form.get("missedRuns", mission.missed_runs), "inputs": _plainly(refs)}
    return wished


def _held(mission: MissionShown) -> dict[str, Any]:
    texts = {name: getattr(mission, name) or "" for name in TEXTS}
    return {
        **{name: plain(texts[name]) for name in TEXTS},
        "agentId": mission.agent_id,
        "cadence": cadence_of(mission) or mission.cadence,
        "missedRuns": mission.missed_runs,
        "inputs": _plainly(refs_in(mission)),
    }


def _part(field: str) -> str:
    """The part of a mission that a field of the form is about."""
    if field == "who":
        return "agentId"
    return field if field in (*TEXTS, "missedRuns") else "cadence"


def _meanwhile(name: str, mission: MissionShown, reader: Reader) -> str:
    """What a field was made elsewhere, while it was changed here too."""
    _ = translations_of(reader.language).gettext
    match name:
        case "title" | "objective":
            now = getattr(mission, name) or ""
        case "cadence":
            now = words.cadence_said(cadence_of(mission), reader)
        case "inputs":
            now = words.number(len(mission.inputs), reader)
        case "missedRuns":
            one, none = _("run once, as soon as possible"), _("leave it out")
            now = none if mission.missed_runs == "none" else one
        case _:
            now = mission.agent_id
    return meanwhile_said(now, reader)


def _plainly(refs: list[InputRef]) -> list[dict[str, str]]:
    return [{"module": ref.module, "table": ref.table, "id": ref.id} for ref in refs]


def _sent(visit: Visit) -> dict[str, str]:
    """The form, which looks for records also where words were typed and the enter key pressed."""
    form = visit.form
    typed = form.get("words", "")
    is_search = typed.strip() and typed != form.get("found") and "preview" not in form
    return form | {"find": "1"} if is_search else form


async def _mission(own: OwnWrites, visit: Visit, *, hold: bool = True) -> MissionShown:
    record = await mission_of(own, path_part(visit.request, "mission"), hold=hold)
    return mission_shown(record, visit.reader.zone.key, [], [])


async def _chosen(visit: Visit, stored: list[InputRef]) -> tuple[list[InputRef], dict[str, str]]:
    """The records that a form leaves chosen, and what is wrong with the rest of them."""
    try:
        async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
            return await refs_of(own, visit.form, stored), {}
    except ApiProblem as exc:
        said = "; ".join(message_said(one.message, visit.reader.language) for one in exc.errors)
        return stored, {"inputs": said}


def _wrong_in(
    form: dict[str, str], reader: Reader, mission: MissionShown | None = None
) -> dict[str, str]:
    """What is wrong with fields that only this form has, by field."""
    _ = translations_of(reader.language).gettext
    wrong: dict[str, str] = {}
    stays = mission is not None and form.get("how") == KEPT
    if not stays and isinstance(cadence_in(form), str):
        wrong["cadence"] = _("That is no time to run at: look at what you chose")
    is_sealed = mission is not None and mission.title is None
    if form.get("exposure", "local") not in ORDER:
        names = ", ".join(ORDER)
        wrong["exposure"] = message_said(f"must be one of {names}", reader.language)
    if not is_sealed and not plain(form.get("title", "")):
        wrong["title"] = _("Give it a title")
    return wrong


async def _refused(
    visit: Visit,
    form: dict[str, str],
    refs: list[InputRef],
    exc: ApiProblem,
    mission: MissionShown | None = None,
) -> Response:
    """The form again, with what the rules say beside each field."""
    if exc.status >= 500:
        raise exc
    language = visit.reader.language
    _ = translations_of(language).gettext
    wrong: dict[str, str] = {}
    for one in exc.errors:
        name = one.field.partition("[")[0]
        field = PLACES.get(name, name)
        wrong[field] = (
            _("Choose an agent that is yours and at work; a new one needs a name of its own")
            if field == "who"
            else message_said(one.message, language)
        )
    general = "" if wrong else said_of(exc, language)[2]
    return await _form(visit, form, refs, mission=mission, wrong=wrong, general=general, status=422)


async def _after(visit: Visit, id_: str, exposure: str | None, *, has_new_inputs: bool) -> str:
    """Where one goes next: to the consent where it reads what is sealed and no grant covers it.

    Also where its grant lets others read than the form wants: only a new consent changes that.
    """
    wanted = exposure or ""
    for one in await grant_of(visit, id_):
        is_uncovered = not one.of.opens or one.of.standing == "other-inputs"
        is_otherwise = one.of.opens and wanted not in ("", one.of.exposure or wanted)
        if one.records and (is_otherwise or (has_new_inputs and is_uncovered)):
            return one.here if wanted in ("", ORDER[0]) else f"{one.here}?exposure={wanted}"
    return f"/me/missions/{segment(id_)}"


async def _readers(visit: Visit, mission: MissionShown | None) -> tuple[Exposure, Exposure | None]:
    """Where its prompts go now, and what its grant says of that, where one opens something."""
    if mission is None:
        return visit.owners.exposure, None
    async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
        record = await mission_of(own, mission.id, hold=False)
    grants = await grant_of(visit, mission.id)
    granted: Exposure | None = next((one.of.exposure for one in grants if one.of.opens), None)
    return exposure_allowed(record.fields, visit.owners.exposure), granted


async def _form(
    visit: Visit,
    form: dict[str, str],
    refs: list[InputRef],
    *,
    mission: MissionShown | None = None,
    wrong: dict[str, str] | None = None,
    general: str = "",
    status: int = 200,
) -> Response:
    """The form with what it holds; where it was sent, with what is wrong beside each field."""
    reader = visit.reader
    overview = await overview_of(visit)
    said = cadence_in(form)
    cadence = None if isinstance(said, str) else said
    if mission is not None and form.get("how") == KEPT:
        cadence = cadence_of(mission)
    agents = [(one.id, one.name) for one in overview.agents.values() if one.state != "archived"]
    if mission is not None and mission.agent_id not in [id_ for id_, _name in agents]:
        agents.insert(0, (mission.agent_id, overview.agent_name(mission.agent_id)))
    goes_to, granted = await _readers(visit, mission)
    return page(
        reader,
        "owner/mission_form.html",
        status,
        mission=mission,
        here="/me/missions/new" if mission is None else f"/me/missions/{segment(mission.id)}/edit",
        form=dict.fromkeys(FIELDS, "") | {"exposure": granted or "local"} | form,
        goes_to=goes_to,
        granted=granted,
        exposures=ORDER,
        marks={name: text for name, text in form.items() if name.startswith(WAS)},
        wrong=wrong or {},
        general=general,
        agents=agents,
        templates={} if mission is not None else templates(),
        days=_days(reader),
        inputs=await choices_of(visit, refs, form),
        cadence=cadence,
        runs=[] if cadence is None else next_runs(cadence, reader.now, reader.zone, NEXT_RUNS),
    )


def _days(reader: Reader) -> list[tuple[str, str]]:
    _ = translations_of(reader.language).gettext
    named = _("Mon Tue Wed Thu Fri Sat Sun").split()
    return list(zip(SHORT_DAYS, named, strict=True))


def _begun(template: str, reader: Reader) -> tuple[str, str]:
    """A title and an objective that one may begin with."""
    _ = translations_of(reader.language).gettext
    begun = {
        "planner": (_("Plan my week"), _("Look at my goals and open tasks. Propose what to do.")),
        "secretary": (_("Tidy my tasks"), _("Find what is overdue, vague or there twice.")),
        "coach": (
            _("Keep me going"),
            _("Look at my goals and habits. Propose the next small step."),
        ),
        "reader": (_("Find me something to read"), _("Start from my goals and notes.")),
    }
    return begun.get(template, ("", ""))
