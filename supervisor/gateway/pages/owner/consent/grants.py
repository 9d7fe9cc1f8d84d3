"""Grants: what a mission's encrypted inputs need, how its grant stands, giving and revoking it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from mana_actors.http.paths import segment
from state.errors import StateError
from state.grants.grant import Grantee
from state.grants.mint import DEFAULT_MS, MintRefused, MintRequest
from state.grants.standing import GrantStanding, grant_standing
from state.grants.vault import RefusalCode, VaultRefused
from state.log.own_changes import RecordAt, owner_writes
from state.log.records import ENCRYPTED_PREFIX, input_refs, mission_from_record
from state.log.stamps import datetime_of, instant_of
from state.rules.exposure import ORDER, Exposure
from state.sealing.copies import SEALED_FIELDS
from state.store.gateway.own_log import NoSuchRecord, OwnRecord
from supervisor.custody.vaults import status_of
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.pages.owner.consent.records import APPS, record_names
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.grants import asked_exposure, consent_for, grant_made
from supervisor.gateway.people.made.missions import upcoming
from supervisor.gateway.people.rate import TooOften

MOST_LISTED = 8
DAY_MS = 86_400_000
LIFETIMES = {"1": DAY_MS, "7": DEFAULT_MS, "30": 30 * DAY_MS}
"""Days that a form offers, in ms."""
Obstacle = RefusalCode | Literal["NO_SEALED_INPUTS", ""]


class RecordShown(msgspec.Struct, frozen=True):
    """A record that a mission needs opened, and whether the grant covers it."""

    table: str
    id: str
    name: str
    is_covered: bool


class GrantShown(msgspec.Struct, frozen=True, kw_only=True):
    """A mission's grant as a page draws it; `of` is its standing, `state` that as a state's word.

    `obstacle` is why none can be given here now. `scope` names exactly the records that are listed,
    so that nobody agrees to others; `more` counts those a short list leaves out.
    """

    mission: str
    title: str | None
    here: str
    of: GrantStanding
    state: str
    issued_at: datetime | None
    ends_at: datetime | None
    records: list[RecordShown]
    more: int
    scope: str
    obstacle: Obstacle
    next_at: str | None
    is_active: bool


class InputsChanged(StateError):
    """The mission needs other records than the form listed."""


async def grant_of(visit: Visit, mission: str, *, whole: bool = False) -> list[GrantShown]:
    """The grant of one mission, if it needs one or had one."""
    async with visit.owners.own_log.acting(visit.caller.user) as own:
        found = await own.record(RecordAt("ai", "aiMissions", mission), "nothing")
    return await grants_of([found], visit, whole=whole)


async def grants_of(
    records: Sequence[OwnRecord], visit: Visit, *, whole: bool = False
) -> list[GrantShown]:
    """The grants of those of these missions that need one or had one.

    `whole` names every record, else the first few.
    """
    owners, user = visit.owners, visit.caller.user
    missions = [one for one in records if one.is_listed and one.owner == user]
    places = [place for one in missions for place in _places(one)]
    sealed = await owners.records.sealed(user, places)
    needed = {one.at.id: _needed(one, sealed) for one in missions}
    relevant = [one for one in missions if needed[one.at.id] or one.fields.get("grant")]
    if not relevant:
        return []
    since, obstacle = await _key_since(visit)
    most = None if whole else MOST_LISTED
    listed = {one.at.id: sorted(needed[one.at.id])[:most] for one in relevant}
    names = await record_names(visit, [each for some in listed.values() for each in some])
    now = time.time_ns()
    shown: list[GrantShown] = []
    for one in relevant:
        wanted, id_ = needed[one.at.id], one.at.id
        of = grant_standing(
            one.fields.get("grant"),
            Grantee(user, id_),
            owners.trust,
            was_given="grant" in one.fields,
            needed=[f"{table}:{record}" for table, record in wanted],
            key_since=since,
            now=now,
        )
        following = upcoming(one, visit.reader.zone, 1)
        title = one.fields.get("title")
        is_open = isinstance(title, str) and not title.startswith(ENCRYPTED_PREFIX)
        shown.append(
            GrantShown(
                mission=id_,
                title=title if is_open else None,
                here=f"/me/missions/{segment(id_)}/grant",
                of=of,
                state=f"grant-{of.standing}",
                issued_at=None if of.issued_at is None else datetime_of(of.issued_at),
                ends_at=None if of.ends_at is None else datetime_of(of.ends_at),
                records=[
                    RecordShown(
                        table,
                        record,
                        names[table, record],
                        of.opens and f"{table}:{record}" not in of.uncovered,
                    )
                    for table, record in listed[id_]
                ],
                more=len(wanted) - len(listed[id_]),
                scope=scope_digest(wanted),
                obstacle=obstacle or ("" if wanted else "NO_SEALED_INPUTS"),
                next_at=following[0]["at"] if following else None,
                is_active=mission_from_record(user, id_, one.fields).state == "active",
            )
        )
    return shown


async def get_grant(visit: Visit) -> Response:
    """`/me/missions/{mission}/grant`: the consent, or how it stands; `done` says what was done."""
    given = query(visit.request, ("exposure", "days", "done"))
    done = given.get("done", "")
    if done not in ("", "given", "revoked"):
        raise BadRequest("done", "is not known here")
    exposure, days = _wish(given)
    return await _grant_page(visit, exposure, days, done=done)


async def post_grant(visit: Visit) -> Response:
    """Give, or give anew: exactly the records that the page listed."""
    query(visit.request, ())
    exposure, days = _wish(visit.form)
    try:
        await _given(visit, exposure, LIFETIMES[days], visit.form.get("scope", ""))
    except InputsChanged:
        return await _grant_page(visit, exposure, days, problem="INPUTS_CHANGED", status=409)
    except (MintRefused, VaultRefused) as exc:
        status = status_of(exc.code)
        return await _grant_page(visit, exposure, days, problem=exc.code, status=status)
    except TooOften as exc:
        return await _grant_page(
            visit, exposure, days, problem="TOO_OFTEN", status=429, wait_s=exc.wait_s
        )
    return seen(f"{_here(visit)}?done=given")


async def post_revoke(visit: Visit) -> Response:
    """Take the grant back; from the answer on no key is handed out for this mission."""
    query(visit.request, ())
    id_ = path_part(visit.request, "mission")
    async with visit.owners.own_log.acting(visit.caller.user) as own:
        record = await own.existing(RecordAt("ai", "aiMissions", id_))
        if record.owner != visit.caller.user:
            raise NoSuchRecord
        if record.fields.get("grant") is not None:
            await own.update(record, {"grant": None}, owner_writes(visit.caller.user))
    return seen(f"{_here(visit)}?done=revoked")


def scope_digest(records: frozenset[tuple[str, str]]) -> str:
    """The same for the same records alone."""
    listed = msgspec.json.encode(sorted(records))
    return hashlib.sha256(listed).hexdigest()[:32]


async def _given(visit: Visit, exposure: Exposure, ttl_ms: int, scope: str) -> None:
    """Raises InputsChanged, MintRefused, VaultRefused, TooOften and NoSuchRecord."""
    owners, user = visit.owners, visit.caller.user
    at = RecordAt("ai", "aiMissions", path_part(visit.request, "mission"))
    async with owners.own_log.acting(user) as own:
        record = await own.existing(at, "nothing")
    if record.owner != user:
        raise NoSuchRecord
    needed = _needed(record, await owners.records.sealed(user, _places(record)))
    if not needed or scope_digest(needed) != scope:
        raise InputsChanged
    wanted = MintRequest(
        at.id,
        tuple(sorted({table for table, _ in needed})),
        tuple(sorted(f"{table}:{id_}" for table, id_ in needed)),
        ttl_ms,
    )
    grant = await grant_made(visit.caller, owners, wanted, exposure)
    async with owners.own_log.acting(user) as own:
        held = await own.existing(at)
        if _places(held) != _places(record):  # meanwhile, by another tab or device
            raise InputsChanged
        await own.update(held, {"grant": grant}, owner_writes(user))


async def _grant_page(
    visit: Visit,
    exposure: Exposure,
    days: str,
    *,
    problem: str = "",
    status: int = 200,
    done: str = "",
    wait_s: int = 0,
) -> Response:
    mission = path_part(visit.request, "mission")
    found = await grant_of(visit, mission, whole=True)
    if not found:
        async with visit.owners.own_log.acting(visit.caller.user) as own:
            record = await own.existing(RecordAt("ai", "aiMissions", mission), "nothing")
        if record.owner != visit.caller.user:
            raise NoSuchRecord
        title = record.fields.get("title")
        return page(visit.reader, "owner/grant.html", one=None, mission=mission, title=title)
    (one,) = found
    lines: list[str] = []
    if one.records:
        wanted = MintRequest(
            mission,
            tuple(sorted({each.table for each in one.records})),
            tuple(sorted(f"{each.table}:{each.id}" for each in one.records)),
            LIFETIMES[days],
        )
        try:
            told = await consent_for(
                visit.caller, visit.owners, wanted, exposure, visit.reader.language
            )
            lines = told.lines
        except MintRefused as exc:
            problem, status = problem or exc.code, max(status, 200)
    return page(
        visit.reader,
        "owner/grant.html",
        status,
        one=one,
        mission=mission,
        title=one.title,
        lines=lines,
        exposure=exposure,
        days=days,
        exposures=ORDER,
        lifetimes=list(LIFETIMES),
        problem=_problem_said(problem, wait_s, visit) if problem else "",
        obstacle=_problem_said(one.obstacle, 0, visit) if one.obstacle else "",
        done=done,
    )


def _problem_said(code: str, wait_s: int, visit: Visit) -> str:
    """Why no grant can be given, and what to do."""
    _ = translations_of(visit.reader.language).gettext
    known = {
        "ZK_ACTIVE": _(
            "Your key is on your devices alone (zero-knowledge mode), so none can be made here. "
            "Grant it in your app on one of them; this page shows it as soon as it is there."
        ),
        "VAULT_NOT_CONFIGURED": _(
            "This server keeps no keys of people. Grant it in your app on a device of yours; this "
            "page shows it as soon as it is there."
        ),
        "GRANT_NOT_CONFIGURED": _(
            "This server makes no grants now. Grant it in your app on a device of yours, or ask "
            "who runs this server."
        ),
        "VAULT_NOT_INITIALISED": _(
            "You have no vault here yet. Sign out of your app and in again: that makes it."
        ),
        "INPUTS_CHANGED": _(
            "What this mission reads was changed meanwhile. Look at the list again, then decide."
        ),
        "NO_SEALED_INPUTS": _("Nothing that this mission reads is sealed: it needs no grant."),
        "TOO_OFTEN": _("Too often just now: try again in %(seconds)s seconds.")
        % {"seconds": wait_s},
    }
    return known.get(code) or _("No grant could be made (%(code)s). Try again later.") % {
        "code": code
    }


def _wish(given: dict[str, str]) -> tuple[Exposure, str]:
    """The exposure and the days that a form says; raises VaultRefused and BadRequest."""
    days = given.get("days", "7")
    if days not in LIFETIMES:
        raise BadRequest("days", f"must be one of {', '.join(LIFETIMES)}")
    try:
        return asked_exposure(given.get("exposure", "local")), days
    except VaultRefused as exc:
        raise BadRequest("exposure", exc.message.partition(" ")[2]) from None


async def _key_since(visit: Visit) -> tuple[int | None, Obstacle]:
    """Since when the person's key is the one in ns, and why no grant can be made here."""
    owners = visit.owners
    if owners.custody is None:
        return None, "VAULT_NOT_CONFIGURED"
    try:
        since = instant_of(await owners.custody.key_since(visit.caller.user))
    except VaultRefused as exc:
        return None, exc.code
    return since, "GRANT_NOT_CONFIGURED" if owners.issuer is None else ""


def _places(record: OwnRecord) -> list[tuple[str, str, str]]:
    """App, table and id of each input that may be sealed."""
    refs = input_refs(record.fields.get("inputs"))
    return [(APPS[ref.table], ref.table, ref.id) for ref in refs if ref.table in SEALED_FIELDS]


def _needed(record: OwnRecord, sealed: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    return frozenset((table, id_) for _, table, id_ in _places(record)) & sealed


def _here(visit: Visit) -> str:
    return f"/me/missions/{segment(path_part(visit.request, 'mission'))}/grant"
