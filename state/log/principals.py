"""Who wrote a row, and so each field of a record: a user, an agent or a part of the system.

Clients call the column `actor`. It holds the JSON object that these functions build.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from state.log import merge
from state.log.merge import Change
from state.log.stamps import parse_instant

USER = "user"
AI = "ai"
SYSTEM = "system"

Actor = dict[str, Any]

SYSTEM_MISSION_RUNNER = "system:mission-runner"
SYSTEM_NAMES = {
    "system:projection": "Projektion",
    "system:rule": "Regel",
    "system:migration": "Migration",
    "system:stream": "Event-Stream",
    SYSTEM_MISSION_RUNNER: "Mission-Runner",
    "system:bootstrap": "Bootstrap",
    "system:articles-import-worker": "Artikel-Import",
    "system:mcp": "MCP Server",
}
"""What clients show for each part of the system."""

UNKNOWN_NAME = "Unbekannt"
USER_NAME = "Du"

DEFAULT_AGENT_ID = "legacy:ai-default"
DEFAULT_AGENT_NAME = "Mana"
"""The agent of every mission that names none; each person has one of their own."""

LEGACY_USER = "legacy:user"
LEGACY_SYSTEM = "legacy:system"
"""Who wrote a row that names nobody."""


def user_actor(user_id: str, display_name: str = USER_NAME) -> Actor:
    """The person with this id."""
    return {"kind": USER, "principalId": user_id, "displayName": display_name}


def agent_actor(
    agent_id: str, display_name: str, *, mission_id: str, iteration_id: str, rationale: str
) -> Actor:
    """An agent writing the iteration of a mission, for the reason `rationale`."""
    return {
        "kind": AI,
        "principalId": agent_id,
        "displayName": display_name,
        "missionId": mission_id,
        "iterationId": iteration_id,
        "rationale": rationale,
    }


def system_actor(principal_id: str, display_name: str | None = None) -> Actor:
    """A part of the system; one that clients do not know is called `Unbekannt`."""
    known = SYSTEM_NAMES.get(principal_id, UNKNOWN_NAME)
    name = known if display_name is None else display_name
    return {"kind": SYSTEM, "principalId": principal_id, "displayName": name}


def normalize_actor(raw: object) -> Actor:
    """A whole actor from an old or damaged one; one that has both names is returned as it is."""
    actor = cast("Actor", raw) if isinstance(raw, dict) else {}
    kind = actor.get("kind")
    if kind not in (USER, AI, SYSTEM):
        return user_actor(LEGACY_USER, UNKNOWN_NAME)
    if isinstance(actor.get("principalId"), str) and isinstance(actor.get("displayName"), str):
        return actor
    if kind == SYSTEM:
        source = actor.get("source")
        return system_actor(f"system:{source}" if isinstance(source, str) else LEGACY_SYSTEM)
    if kind == USER:
        principal = _text(actor, "principalId", LEGACY_USER)
        return user_actor(principal, _text(actor, "displayName", USER_NAME))
    return agent_actor(
        _text(actor, "principalId", DEFAULT_AGENT_ID),
        _text(actor, "displayName", UNKNOWN_NAME),
        mission_id=_text(actor, "missionId", ""),
        iteration_id=_text(actor, "iterationId", ""),
        rationale=_text(actor, "rationale", ""),
    )


def origin_of(actor: Actor) -> str:
    """What kind of writer a whole actor is, as rows and local stamps say it."""
    if actor["kind"] == AI:
        return "agent"
    if actor["kind"] == SYSTEM:
        return "migration" if actor["principalId"] == "system:migration" else "system"
    return "user"


def _text(actor: Actor, key: str, default: str) -> str:
    value = actor.get(key)
    return value if isinstance(value, str) else default


# --- who wrote each field -------------------------------------------------------------------------

DERIVED = frozenset({"updatedAt"})
"""Worked out by whoever shows a record; older rows carry it as if it were data."""


class AuthoredRow(msgspec.Struct, frozen=True):
    """One row and who sent it; `actor` is whole (`normalize_actor`)."""

    change: Change
    actor: Actor
    origin: str
    client: str


class WrittenField(msgspec.Struct, frozen=True):
    """A value, who wrote it, and when: its stamp, else its row's time as clients take it."""

    value: Any
    at: str
    actor: Actor
    origin: str


class WrittenRecord(msgspec.Struct, frozen=True):
    """A record's fields by name; `updated_at` is its newest field's time.

    `gone`: it was deleted, or never established.
    """

    fields: dict[str, WrittenField]
    gone: bool
    updated_at: str


def written_record(rows: Sequence[AuthoredRow]) -> WrittenRecord:
    """The record that these rows make, which are one record's in row order, at least one."""
    changes = [row.change for row in rows]
    record = merge.fold(None, changes)
    by_id = {row.change.id: row for row in rows}
    fields: dict[str, WrittenField] = {}
    for name, change in merge.authors(changes).items():
        if name not in DERIVED:
            row = by_id[change.id]
            at = record.stamps.get(name) or merge.fallback_stamp(change).text
            fields[name] = WrittenField(record.fields[name], at, row.actor, row.origin)
    newest = max(fields.values(), key=lambda field: parse_instant(field.at) or 0, default=None)
    return WrittenRecord(
        fields,
        gone=merge.hidden(record) or not record.complete,
        updated_at=merge.fallback_stamp(changes[-1]).text if newest is None else newest.at,
    )
