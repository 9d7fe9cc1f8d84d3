"""What clients conclude from the `actor` of a row: what our rows are held against.

None of it runs in the product. The golden cases of suite `actor` prove these readers, and tests use
them to read rows that were really written.
"""

from __future__ import annotations

from typing import Any, cast

from state.log.principals import AI, SYSTEM, SYSTEM_MISSION_RUNNER, USER, Actor


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
    return is_system_actor(actor) and (actor or {}).get("principalId") == SYSTEM_MISSION_RUNNER


def origin_from_actor(actor: Actor) -> str:
    """The `origin` that a client gives a row of this actor."""
    if is_ai_actor(actor):
        return "agent"
    if not is_system_actor(actor):
        return "user"
    return "migration" if actor.get("principalId") == "system:migration" else "system"


def field_meta(at: str, actor: Actor, origin: str) -> dict[str, Any]:
    """The stamp of a field as a client keeps it; rows carry plain text only."""
    return {"at": at, "actor": actor, "origin": origin}


def is_user_originated_field(meta: object) -> bool:
    """Whether a client's stamp says that its owner typed the value."""
    return isinstance(meta, dict) and cast("dict[str, Any]", meta).get("origin") == "user"
