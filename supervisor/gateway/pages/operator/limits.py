"""Limits: what operators allow in 24 hours, what is used of it, and a form that sets one."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from state.rules.budgets import MICROS, limit_of
from state.store.gateway.limits import Limit, LimitState
from supervisor.gateway.answers import query
from supervisor.gateway.deps import Deps
from supervisor.gateway.operators.control import Missing
from supervisor.gateway.operators.limits import KINDS, set_limit, warnings_of
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of

ROWS = 100
FIELDS = ("kind", "user", "agent", "tokens", "money")
LIFTED = "none"
UNITS = (("tokens", "tokens", 1), ("money", "micros", MICROS))
"""What a field of the form is called, what it sets, and how many units one of it is."""


class LimitLine(msgspec.Struct, frozen=True):
    """A limit that is set, and what was used under it; None where it is of each."""

    limit: Limit
    spent: LimitState | None


async def get_limits(request: Request, reader: Reader, deps: Deps) -> Response:
    """`/limits`; the address may say which one the form is about."""
    asked = query(request, ("kind", "user", "agent"))
    return await _page(deps, reader, asked)


async def post_limit(request: Request, reader: Reader, deps: Deps) -> Response:
    """Set one, or show the form again with what is wrong beside its field."""
    query(request, ())
    form: dict[str, str] = {name: request.state.form.get(name, "").strip() for name in FIELDS}
    _ = translations_of(reader.language).gettext
    wrong: dict[str, str] = {}
    change: dict[str, Any] = {"kind": form["kind"]}
    change |= {name: form[name] for name in ("user", "agent") if form[name]}
    for field, unit, size in UNITS:
        try:
            if form[field]:
                text = form[field].lower()
                change[unit] = None if text == LIFTED else limit_of(text, size)
        except ValueError:
            wrong[field] = _("A number from 0 on, or the word none")
    if not wrong:
        try:
            await set_limit(deps, change)
        except (BadRequest, Missing) as exc:
            wrong[exc.field] = {
                "kind": _("Choose whose limit it is"),
                "user": _("Name somebody who is here, where the limit is one person's"),
                "agent": _("Name one of this person's agents, where the limit is an agent's"),
                "tokens": _("Say tokens or money; what stays empty stays as it is"),
            }.get(exc.field, _("That cannot be"))
    if wrong:
        return await _page(deps, reader, form, wrong)
    return seen("/limits")


async def _page(
    deps: Deps, reader: Reader, form: dict[str, str], wrong: dict[str, str] | None = None
) -> Response:
    limits = await deps.fleet.limits()
    shown = limits[:ROWS]
    _ = translations_of(reader.language).gettext
    return page(
        reader,
        "operator/limits.html",
        400 if wrong else 200,
        lines=[LimitLine(*line) for line in zip(shown, await deps.fleet.spent(shown), strict=True)],
        count=len(limits),
        warnings=await warnings_of(deps, limits),
        form=dict.fromkeys(FIELDS, "") | form,
        wrong=wrong or {},
        kinds={
            "installation": _("Everybody together"),
            "each-user": _("Each person who has none of their own"),
            "each-agent": _("Each agent without a cap"),
            "user": _("One person, all agents together"),
            "agent": _("One agent"),
        },
        order=KINDS,
    )
