"""A new mission: for an agent that is there, or for one that is made with it from a template."""

from __future__ import annotations

import re
from datetime import datetime
from uuid import UUID, uuid4

from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from mana_actors.http.paths import segment
from state.log.cadence import Cadence, next_runs, parse_cadence
from state.log.own_changes import RecordAt
from supervisor.gateway.answers import query
from supervisor.gateway.api.problems import ApiProblem
from supervisor.gateway.api.requests import form_as
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.overview import overview_of
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.problems import said_of
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.made.agents import agent_made
from supervisor.gateway.people.made.cadence_words import DAYS, cadence_record
from supervisor.gateway.people.made.missions import NEXT_RUNS, mission_made
from supervisor.gateway.people.made.templates import templates
from supervisor.gateway.people.made.wire import AgentWanted, MissionWanted

AT_FIRST = {"how": "daily", "time": "07:00", "day.mon": "on", "hours": "4", "date": "1", "cron": ""}
FIELDS = ("who", "title", "objective", "key", "missedRuns", *AT_FIRST.keys() - {"day.mon"})
SHORT_DAYS = tuple(day[:3] for day in (*DAYS[1:], DAYS[0]))
AGENT, TEMPLATE = "agent:", "new:"


async def get_new(visit: Visit) -> Response:
    """`/me/missions/new`, with an `agent` or a `template` chosen where the address names one."""
    asked = query(visit.request, ("agent", "template"))
    template = asked.get("template", "")
    who = TEMPLATE + template if template else AGENT + asked["agent"] if "agent" in asked else ""
    title, objective = _begun(template, visit.reader)
    fields = {**AT_FIRST, "who": who, "title": title, "objective": objective}
    return await _form(visit, {**fields, "missedRuns": "one", "key": str(uuid4())})


async def post_new(visit: Visit) -> Response:
    """Make it and show it; `preview` only shows when it would run. Sent twice it is made once."""
    query(visit.request, ())
    form = visit.form
    wanted = {name: form.get(name, "").strip() for name in ("title", "objective")}
    every = every_of(form)
    if "preview" in form or isinstance(cadence_record(every), str) or not wanted["title"]:
        return await _form(visit, form, is_checked="preview" not in form)
    try:
        id_ = str(UUID(form.get("key", "")))
    except ValueError:
        raise BadRequest("key", "is none of this page") from None
    kind, _, named = form.get("who", "").partition(":")
    try:
        async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
            if not (await own.record(RecordAt("ai", "aiMissions", id_))).exists:
                if kind == "new":
                    named = (await agent_made(own, AgentWanted(template=named))).id
                fields = {k: text for k, text in wanted.items() if text}
                fields |= {"agentId": named, "every": every}
                fields |= {"missedRuns": form.get("missedRuns", "one")}
                await mission_made(own, visit.owners, id_, form_as(fields, MissionWanted))
    except ApiProblem as exc:
        if exc.status >= 500:
            raise
        return await _form(visit, form, refused=exc)
    return seen(f"/me/missions/{segment(id_)}")


def every_of(form: dict[str, str]) -> str:
    """What the fields of the builder say, in words of a cadence; wrong ones make wrong words."""
    time = form.get("time", "")
    hour, _, minute = time.partition(":")
    match form.get("how"):
        case "manual":
            return "manual"
        case "daily" | "weekdays" as days:
            return f"{days} {time}"
        case "weekly":
            return f"{','.join(day for day in SHORT_DAYS if 'day.' + day in form)} {time}"
        case "hours":
            return f"{form.get('hours', '')} hours"
        case "monthly" if re.fullmatch(r"\d\d:\d\d", time, re.ASCII):
            return f"{int(minute)} {int(hour)} {form.get('date', '')} * *"
        case "cron":
            return form.get("cron", "")
        case _:
            return ""


async def _form(
    visit: Visit,
    form: dict[str, str],
    *,
    is_checked: bool = False,
    refused: ApiProblem | None = None,
) -> Response:
    """The form with what it holds; where it was sent, with what is wrong beside each field."""
    _ = translations_of(visit.reader.language).gettext
    overview = await overview_of(visit)
    every = every_of(form)
    record = cadence_record(every)
    cadence: Cadence | str = record if isinstance(record, str) else parse_cadence(record)
    wrong: dict[str, str] = {}
    if isinstance(cadence, str):
        wrong["cadence"] = _("That is no time to run at: look at what you chose")
    if is_checked and not form.get("title", "").strip():
        wrong["title"] = _("Give it a title")
    fields = {"every": "cadence", "agentId": "who", "template": "who", "name": "who"}
    for one in () if refused is None else refused.errors:
        field = fields.get(one.field, one.field)
        wrong[field] = (
            _("Choose an agent that is yours and at work; a new one needs a name of its own")
            if field == "who"
            else f"{one.field} {one.message}"
        )
    general = (
        "" if refused is None or refused.errors else said_of(refused, visit.reader.language)[2]
    )
    return page(
        visit.reader,
        "owner/new_mission.html",
        422 if is_checked or refused else 200,
        form=dict.fromkeys(FIELDS, "") | form,
        wrong=wrong,
        general=general,
        agents=[one for one in overview.agents.values() if one.state != "archived"],
        templates=templates(),
        days=_days(visit.reader),
        cadence=None if isinstance(cadence, str) else cadence,
        runs=[] if isinstance(cadence, str) else next_times(cadence, visit.reader),
    )


def next_times(cadence: Cadence, reader: Reader) -> list[datetime]:
    """When it would run, the next five times."""
    return next_runs(cadence, reader.now, reader.zone, NEXT_RUNS)


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
