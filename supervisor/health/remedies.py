"""What an operator can do about each kind of trouble, as a command to copy. Pure."""

from __future__ import annotations

import shlex

from state.store.gateway.triage import TroubleKind, TroubleRow


def remedy(kind: TroubleKind, row: TroubleRow) -> str:
    """The command that helps, or that says more where only its owner can help."""
    user, mission = shlex.quote(row.user_id), shlex.quote(row.mission_id or "")
    agent = shlex.quote(f"{row.user_id}/{row.agent_id}")
    match kind:
        case "stuck":
            return f"mana cancel {shlex.quote(row.id)}"
        case "failed":
            return f"mana missions run {user} {mission}"
        case "overdue":
            return "mana tick --wait"
        case "budget":
            return f"mana limits set --agent {agent} --tokens none"
        case "grant" | "damaged":
            return f"mana agents show {agent}"
        case "quarantined":
            return "mana doctor"
