"""Whether a run under way is still wanted by its owner; pure, asked during a run and at its end."""

from __future__ import annotations


def why_unwanted(
    *, hidden: bool, state: str, is_ours: bool, agent_hidden: bool, agent_state: str | None
) -> str | None:
    """The reason to withdraw, None while mission and agent want the run.

    `agent_state` None: no record of the agent came in.
    """
    if hidden:
        return "the mission was deleted"
    if state != "active":
        return f"the mission is {state}"
    if not is_ours:
        return "the mission belongs to another agent now"
    if agent_state is not None and agent_hidden:
        return "the agent is deleted"
    if agent_state not in (None, "active"):
        return f"the agent is {agent_state}"
    return None
