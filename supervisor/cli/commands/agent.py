"""`mana agents show`: one agent, what it may do, what it has left, and why it did what it did."""

from __future__ import annotations

from typing import Any

from mana_actors.http.paths import path_of
from supervisor.cli import output
from supervisor.cli.commands.control import pair_of
from supervisor.cli.gateway_client import Gateway
from supervisor.cli.output import Column, decided, field, when, why

Facts = dict[str, Any]

MISSIONS: tuple[Column, ...] = (
    ("mission", field("mission_id")),
    ("state", field("state")),
    ("decision", decided("decision")),
    ("why", why),
    ("next run", when("next_run_at")),
    ("next look", when("wake_at")),
)
LIVE: tuple[Column, ...] = (
    ("run", field("run_id")),
    ("mission", field("mission_id")),
    ("state", field("state")),
    ("for", field("waiting_for")),
    ("attempt", field("attempt")),
    ("began", when("opened_at")),
    ("goes on", when("not_before")),
    ("tokens", field("tokens")),
)
DECISIONS: tuple[Column, ...] = (
    ("at", when("at")),
    ("mission", field("mission_id")),
    ("decision", decided("decision")),
    ("why", why),
)


def show_agent(gateway: Gateway, target: str, *, as_json: bool) -> None:
    """Everything about one agent, as JSON or as a page of text."""
    user, agent = pair_of(gateway, target)
    told: Facts = gateway.get(path_of("/internal/agents", user, agent))
    if as_json:
        output.json_out(told)
        return
    record, policy, budget = told["record"], told["policy"], told["budget"]
    if record is None:
        state = "no record came in: the defaults hold"
    else:
        state = "deleted" if record["hidden"] else record["state"]
        state += f", {record['running']} of {record['max_concurrent']} running"
    output.line_out(f"{target}: {state}")

    counts = policy["counts"]
    numbers = ", ".join(f"{counts[said]} {said}" for said in ("propose", "auto", "deny"))
    output.line_out(f"  policy ({policy['mode']}, from {policy['source']}): {numbers}")
    for word in ("denied", "auto"):  # what differs from "propose", by name
        if policy[word]:
            output.line_out(f"  {word}: {', '.join(policy[word])}")
    modules = ", ".join(f"{module} {said}" for module, said in policy["modules"].items())
    output.line_out(f"  by module: {modules or 'none'}, else {policy['default']}")

    if budget is None:
        output.line_out("  budget: nothing known of it")
    else:
        cap = "no cap" if budget["cap"] is None else f"cap {output.shown(budget['cap'])}"
        numbers = [f"{output.shown(budget[name])} {name}" for name in ("used", "held", "left")]
        source = f"(from {budget['cap_source']})"
        output.line_out(f"  budget of 24 h: {cap} {source}, {', '.join(numbers)}")
        if budget["back_at"] is not None:
            output.line_out(f"  room returns {output.local_time(budget['back_at'])}")

    memory = told.get("memory")  # an older gateway does not say
    if memory is not None and memory["held"] is None:
        silent = "asleep: holds nothing"
        output.line_out(
            f"  {silent if memory['state'] == 'asleep' else 'memory: nobody could say'}"
        )
    elif memory is not None:
        held, differ = memory["held"], memory["missions_differ"]
        cap = "no cap" if held["cap"] is None else f"cap {output.shown(held['cap'])}"
        numbers = [f"{output.shown(held[name])} {name}" for name in ("used", "held")]
        own, runs = held["agent_version"] or "none", len(held["under_way"])
        known = f"own record {own}, {len(held['missions'])} missions, {cap}"
        output.line_out(f"  holds: {known}, {', '.join(numbers)}, {runs} under way")
        rows = {mission["mission_id"]: mission["version"] for mission in told["missions"]}
        if memory["agent_differs"]:
            output.line_out(
                f"  differs: own record, which has version {(told['record'] or {}).get('version')}"
            )
        for mission in differ:
            at = held["missions"].get(mission, "none")
            output.line_out(f"  differs: {mission}, held {at}, stored {rows[mission]}")

    for problem in told["problems"]:
        output.line_out(f"  problem: {problem}")
    output.table_out(MISSIONS, told["missions"], "no missions")
    output.table_out(LIVE, told["live_runs"], "nothing is under way")
    output.table_out(DECISIONS, told["decisions"], "nothing was decided yet")
