"""Why a proposal must not be carried out now, though it was approved. Asked again each time."""

from __future__ import annotations

from datetime import datetime

import msgspec

from state.log.principals import DEFAULT_AGENT_ID
from state.log.records import Agent, Mission
from state.proposals.proposal import Proposal
from state.rules.policy import Permission, decide


class ToolRule(msgspec.Struct, frozen=True):
    """What of a tool a decision needs: its name, its module, and its own default."""

    name: str
    module: str
    default: Permission


def obstacle(
    proposal: Proposal, mission: Mission | None, agent: Agent | None, tool: ToolRule | None
) -> str:
    """Why not, in words for the owner; "" where nothing stands in the way.

    `mission` and `agent` are the records as the log says now, None where there is none.
    """
    if tool is None:
        return f"the tool {proposal.tool} is not known here"
    if mission is None or mission.deleted:
        return "its mission is deleted"
    is_named = mission.agent_id not in (None, DEFAULT_AGENT_ID)
    if agent.deleted if agent else is_named:
        return "its agent is gone"
    if (mission.agent_id or DEFAULT_AGENT_ID) != proposal.agent_id:
        return "its mission belongs to another agent now"
    if agent is None:
        return ""
    if agent.state != "active":
        return f"its agent is {agent.state}"
    if decide(tool.name, tool.module, tool.default, agent.policy) == "deny":
        return f"its agent may not use {tool.name} any more"
    return ""


class StandingApproval(msgspec.Struct, frozen=True, kw_only=True):
    """What an owner always allows an agent: one tool, or every tool of a module."""

    id: str
    agent_id: str
    tool: str | None
    module: str | None
    until: datetime | None
    per_day: int | None
    created_at: datetime
    created_address: str | None = None
    created_client: str | None = None
    revoked_at: datetime | None = None
    used_today: int = 0

    def covers(self, proposal: Proposal, tool: ToolRule, now: datetime) -> bool:
        """Whether it approves `proposal`: in force, of this agent, and not used up."""
        names = (self.tool == tool.name) if self.tool is not None else (self.module == tool.module)
        return (
            names
            and self.agent_id == proposal.agent_id
            and self.revoked_at is None
            and (self.until is None or self.until > now)
            and (self.per_day is None or self.used_today < self.per_day)
        )
