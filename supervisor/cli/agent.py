"""`mana agents show`: one agent, what it may do, what it has left, and why it did what it did."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from supervisor.cli import output
from supervisor.cli.control import pair_of
from supervisor.cli.gateway_client import Gateway
from supervisor.cli.output import Column, field, when

Facts = dict[str, Any]

MISSIONS: tuple[Column, ...] = (
    ("mission", field("mission_id")),
    ("state", field("state")),
    ("decision", field("decision")),
    ("why", field("reason")),
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
    ("decision", field("decision")),
    ("why", field("reason")),
)


def show_agent(gateway: Gateway, target: str, *, as_json: bool) -> None:
    """Everything about one agent, as JSON or as a page of text."""
    user, agent = pair_of(target)
    told: Facts = gateway.get(f"/internal/agents/{quote(user, safe='')}/{quote(agent, safe='')}")
    if as_json:
        output.json_out(told)
        return
    output.line_out(f"{target}: {_state(told['record'])}")
    for line in (_policy(told["policy"]), *_exceptions(told["policy"]), *_budget(told["budget"])):
        output.line_out(f"  {line}")
    for problem in told["problems"]:
        output.line_out(f"  problem: {problem}")
    output.table_out(MISSIONS, told["missions"], "no missions")
    output.table_out(LIVE, told["live_runs"], "nothing is under way")
    output.table_out(DECISIONS, told["decisions"], "nothing was decided yet")


def _state(record: Facts | None) -> str:
    if record is None:
        return "no record came in: the defaults hold"
    state = "deleted" if record["hidden"] else record["state"]
    return f"{state}, {record['running']} of {record['max_concurrent']} running"


def _policy(policy: Facts) -> str:
    counts = policy["counts"]
    numbers = ", ".join(f"{counts[said]} {said}" for said in ("propose", "auto", "deny"))
    return f"policy ({policy['mode']}, from {policy['source']}): {numbers}"


def _exceptions(policy: Facts) -> list[str]:
    """Names that differ from "propose", and what modules and everything else resolve to."""
    lines = [f"{word}: {', '.join(policy[word])}" for word in ("denied", "auto") if policy[word]]
    modules = [f"{module} {said}" for module, said in policy["modules"].items()]
    return [*lines, f"by module: {', '.join(modules) or 'none'}, else {policy['default']}"]


def _budget(budget: Facts | None) -> list[str]:
    if budget is None:
        return ["budget: nothing known of it"]
    cap = "no cap" if budget["cap"] is None else f"cap {output.shown(budget['cap'])}"
    numbers = [f"{output.shown(budget[name])} {name}" for name in ("used", "held", "left")]
    lines = [f"budget of 24 h: {cap} (from {budget['cap_source']}), {', '.join(numbers)}"]
    if budget["back_at"] is not None:
        lines.append(f"room returns {output.local_time(budget['back_at'])}")
    return lines
