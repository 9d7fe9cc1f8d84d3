"""Models: which serve what and how they are, and a form that connects one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from mana_actors.json_values import JsonObject
from state.store.gateway.fleet import RECEIPTS_READ
from supervisor.gateway.answers import query
from supervisor.gateway.deps import Deps
from supervisor.gateway.operators.connect import (
    EXPOSURES,
    SILENT,
    SLOW,
    TriedModel,
    checked,
    connect,
    disconnect,
)
from supervisor.gateway.operators.models import call_counts, models_told, router_metrics
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.node.models import connected, is_rehearsing, model_in_words, wants_rehearsal
from supervisor.node.trial import RouterSilent

FIELDS = ("url", "model", "exposure", "price_prompt", "price_completion")
"""What the form holds when it is shown again: a key is not among it."""


async def get_models(request: Request, reader: Reader, deps: Deps) -> Response:
    """`/models`."""
    query(request, ())
    return await _page(deps, reader, {"exposure": "any"})


async def post_models(request: Request, reader: Reader, deps: Deps) -> Response:
    """Try the model that the form names, and let it plan if it can."""
    query(request, ())
    form: dict[str, str] = request.state.form
    if "disconnect" in form:
        disconnect(deps.settings)
        return seen("/models")
    shown = {name: form.get(name, "") for name in FIELDS}
    _ = translations_of(reader.language).gettext
    try:
        wanted = checked(form)
    except BadRequest as exc:
        wrong = {
            "url": _("An address that begins with http:// or https://, without name or key in it"),
            "model": _("A name of up to 200 characters"),
            "key": _("One line without blanks"),
            "price_prompt": _("A number from 0 on beside the other price, or both empty"),
            "price_completion": _("A number from 0 on beside the other price, or both empty"),
        }.get(exc.field, _("That cannot be"))
        return await _page(deps, reader, shown, wrong={exc.field: wrong})
    return await _page(deps, reader, shown, tried=await connect(deps.settings, wanted))


async def _page(
    deps: Deps,
    reader: Reader,
    form: dict[str, str],
    *,
    wrong: dict[str, str] | None = None,
    tried: TriedModel | None = None,
) -> Response:
    settings = deps.settings
    try:
        told: JsonObject | None = await models_told(deps)
    except RouterSilent:
        told = None
    values: dict[str, Any] = {
        "told": told,
        "used": await deps.fleet.models_used(),
        "newest": RECEIPTS_READ,
        "counts": call_counts((await router_metrics(deps)).decode()),
        "rehearses": is_rehearsing(settings),
        "connected": connected(settings),
        "connects": wants_rehearsal(settings),
        "model": model_in_words(settings),
        "form": dict.fromkeys(FIELDS, "") | form,
        "wrong": wrong or {},
        "tried": tried,
        "why": "" if tried is None or tried.can_plan else _why(tried, reader),
        "exposures": EXPOSURES,
        "until": _until,
    }
    return page(reader, "operator/models.html", 400 if wrong else 200, **values)


def _why(tried: TriedModel, reader: Reader) -> str:
    """Why a model that was tried cannot plan here, and what to do."""
    _ = translations_of(reader.language).gettext
    trial = tried.trial
    loading = _("It took the call and gave no answer in time: is it still loading? Try again.")
    if trial is None:
        silent = _("Nothing there answered in time as a model service does: look at the address.")
        return {SILENT: silent, SLOW: loading}.get(tried.problem, tried.problem)
    if trial.ok and not trial.calls_tools:
        return _("It answers, but did not call the tool it was told to: it cannot plan.")
    if trial.ok:
        return _("Its context is too small for a mission's first prompt.")
    refused = _("It refused the key: is it whole, and of this service?")
    broken = _("The connection broke: look at the address, and whether the service runs.")
    nonsense = _("What answers there is no model service: look at the address.")
    reasons = {
        "http_401": refused,
        "http_403": refused,
        "auth": refused,
        "timeout": loading,
        "unreachable": broken,
        "network": broken,
        "invalid_answer": nonsense,
        "broken": nonsense,
        "missing_model": _("It has no model of this name: look at its list."),
        "rate_limit": _("It is over its rate limit: wait a moment, then try again."),
        "capability": _("It takes no tools: it cannot plan."),
    }
    known = [reasons[word] for word in (*trial.reasons, trial.kind) if word in reasons]
    return known[0] if known else _("It gave no answer: %(why)s") % {"why": trial.error}


def _until(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
