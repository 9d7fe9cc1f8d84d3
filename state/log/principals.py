"""Who wrote a row: a user, an agent or the system (data-model §8; the wire key stays `actor`).

An actor is the JSON object of the wire, so that what is not understood is carried unchanged.
"""

from __future__ import annotations

from typing import Any, Literal, cast

USER = "user"
AI = "ai"
SYSTEM = "system"

Origin = Literal["user", "agent", "system", "migration", "server-replay"]
Actor = dict[str, Any]

SYSTEM_PROJECTION = "system:projection"
SYSTEM_RULE = "system:rule"
SYSTEM_MIGRATION = "system:migration"
SYSTEM_STREAM = "system:stream"
SYSTEM_MISSION_RUNNER = "system:mission-runner"
SYSTEM_BOOTSTRAP = "system:bootstrap"
SYSTEM_ARTICLES_IMPORT = "system:articles-import-worker"
SYSTEM_MCP = "system:mcp"

LEGACY_USER_PRINCIPAL = "legacy:user"
LEGACY_AI_PRINCIPAL = "legacy:ai-default"
LEGACY_SYSTEM_PRINCIPAL = "legacy:system"
LEGACY_DISPLAY_NAME = "Unbekannt"
USER_DISPLAY_NAME = "Du"

DEFAULT_AGENT_ID = LEGACY_AI_PRINCIPAL
DEFAULT_AGENT_NAME = "Mana"

SYSTEM_NAMES = {
    SYSTEM_PROJECTION: "Projektion",
    SYSTEM_RULE: "Regel",
    SYSTEM_MIGRATION: "Migration",
    SYSTEM_STREAM: "Event-Stream",
    SYSTEM_MISSION_RUNNER: "Mission-Runner",
    SYSTEM_BOOTSTRAP: "Bootstrap",
    SYSTEM_ARTICLES_IMPORT: "Artikel-Import",
    SYSTEM_MCP: "MCP Server",
}


def _actor(kind: str, principal_id: str, display_name: str, **more: str) -> Actor:
    return {"kind": kind, "principalId": principal_id, "displayName": display_name, **more}


def user_actor(user_id: str, display_name: str = USER_DISPLAY_NAME) -> Actor:
    """The person with this id."""
    return _actor(USER, user_id, display_name)


USER_ACTOR = user_actor(LEGACY_USER_PRINCIPAL)  # where a row names nobody


def agent_actor(
    agent_id: str, display_name: str, *, mission_id: str, iteration_id: str, rationale: str
) -> Actor:
    """An agent writing the iteration of a mission, for the reason `rationale`."""
    return _actor(
        AI,
        agent_id,
        display_name,
        missionId=mission_id,
        iterationId=iteration_id,
        rationale=rationale,
    )


def system_actor(principal_id: str, display_name: str | None = None) -> Actor:
    """A part of the system; an unknown one is called `Unbekannt`."""
    name = (
        SYSTEM_NAMES.get(principal_id, LEGACY_DISPLAY_NAME)
        if display_name is None
        else display_name
    )
    return _actor(SYSTEM, principal_id, name)


def normalize_actor(raw: object) -> Actor:
    """A whole actor from an old or damaged one; one that has both names is returned as is."""
    if not isinstance(raw, dict):
        return _actor(USER, LEGACY_USER_PRINCIPAL, LEGACY_DISPLAY_NAME)
    actor = cast("Actor", raw)
    kind = actor.get("kind")
    if kind not in (USER, AI, SYSTEM):
        return _actor(USER, LEGACY_USER_PRINCIPAL, LEGACY_DISPLAY_NAME)
    if isinstance(actor.get("principalId"), str) and isinstance(actor.get("displayName"), str):
        return actor
    if kind == USER:
        return user_actor(
            _text(actor, "principalId", LEGACY_USER_PRINCIPAL),
            _text(actor, "displayName", USER_DISPLAY_NAME),
        )
    return _legacy_agent(actor) if kind == AI else _legacy_system(actor)


def _legacy_agent(actor: Actor) -> Actor:
    return agent_actor(
        _text(actor, "principalId", LEGACY_AI_PRINCIPAL),
        _text(actor, "displayName", LEGACY_DISPLAY_NAME),
        mission_id=_text(actor, "missionId", ""),
        iteration_id=_text(actor, "iterationId", ""),
        rationale=_text(actor, "rationale", ""),
    )


def _legacy_system(actor: Actor) -> Actor:
    source = actor.get("source")
    return system_actor(f"system:{source}" if isinstance(source, str) else LEGACY_SYSTEM_PRINCIPAL)


def _text(actor: Actor, key: str, default: str) -> str:
    value = actor.get(key)
    return value if isinstance(value, str) else default


def is_user_actor(actor: Actor | None) -> bool:
    """Whether a person wrote it."""
    return actor is not None and actor.get("kind") == USER


def is_ai_actor(actor: Actor | None) -> bool:
    """Whether an agent wrote it."""
    return actor is not None and actor.get("kind") == AI


def is_system_actor(actor: Actor | None) -> bool:
    """Whether a part of the system wrote it."""
    return actor is not None and actor.get("kind") == SYSTEM


def is_from_mission_runner(actor: Actor | None) -> bool:
    """Whether the mission runner wrote it in its own name."""
    return (
        actor is not None
        and is_system_actor(actor)
        and actor.get("principalId") == SYSTEM_MISSION_RUNNER
    )


def origin_from_actor(actor: Actor) -> Origin:
    """The `origin` column of a row this actor writes."""
    if is_ai_actor(actor):
        return "agent"
    if not is_system_actor(actor):
        return "user"
    return "migration" if actor.get("principalId") == SYSTEM_MIGRATION else "system"


def field_meta(at: str, actor: Actor, origin: Origin) -> dict[str, Any]:
    """The stamp of a field as a client keeps it; rows take plain text only."""
    return {"at": at, "actor": actor, "origin": origin}


def is_user_originated_field(meta: object) -> bool:
    """Whether a client's stamp says that its owner typed the value."""
    return isinstance(meta, dict) and cast("dict[str, Any]", meta).get("origin") == "user"
