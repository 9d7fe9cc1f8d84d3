"""What code inside the Ray cluster may call on our actors, as docs/security.md counts on."""

import inspect

from mana_actors.agent.actor import AgentActor
from supervisor.supervision.actor import SupervisorActor


def published(actor: type) -> set[str]:
    """Methods that Ray lets any holder of a handle call."""
    found = inspect.getmembers(actor, inspect.isfunction)
    return {name for name, _ in found if not name.startswith("_")}


def test_an_agent_publishes_its_mailbox_and_its_death() -> None:
    assert published(AgentActor) == {"tell", "until_gone"}


def test_a_supervisor_publishes_reports_and_operators_questions() -> None:
    """None of them takes or gives a capability, a key or a person's text."""
    assert published(SupervisorActor) == {
        "drain", "memory_of", "metrics", "pid", "report", "status", "stop_run", "tick",
        "tick_status",
    }  # fmt: skip
