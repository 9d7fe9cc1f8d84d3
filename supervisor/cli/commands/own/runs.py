"""One run for the person whose mission it is, and the plans of a mission."""

import time
from typing import Any

from mana_actors.http.paths import path_of
from state.sealing.values import is_sealed
from supervisor.cli import output
from supervisor.cli.commands.own.target import MISSIONS
from supervisor.cli.failures import FAILED, Failure
from supervisor.cli.gateway_client import Gateway

Json = dict[str, Any]
RUNS = "/api/v1/me/runs"
FOLLOWED_S = 900.0
STEP_WORDS = {"planned": "waits", "staged": "waits for an answer"}

CALLS: tuple[output.Column, ...] = (
    ("call", output.field("number")),
    ("model", lambda row: output.shown(row["model"] and f"{row['provider']}/{row['model']}")),
    ("tools", output.field("tools")),
    ("tokens", output.field("tokens")),
    ("ended", output.when("endedAt")),
)
DECISIONS: tuple[output.Column, ...] = (
    ("at", output.when("at")),
    ("decision", output.field("decisionText")),
    ("why", output.field("reasonText")),
)
READ: tuple[output.Column, ...] = (
    ("at", output.when("at")),
    ("record", lambda row: f"{row['table']}/{output.shown(row['record'])}"),
    ("status", output.field("status")),
)


def show_run(client: Gateway, run: str, *, as_json: bool) -> None:
    """Why it woke, what was decided, each call to a model, what it read, and its plan."""
    told: Json = client.get(path_of(RUNS, run))
    if as_json:
        output.json_out(told)
        return
    woken = "was asked for" if told["wokenBy"] == "request" else "fell due"
    output.line_out(f"{told['missionId']} {woken} {output.local_time(told['dueAt'])}")
    output.line_out(f"  {told['stateText']}, attempt {told['attempt']}, {told['tokens']:,} tokens")
    if told["reasonText"]:
        output.line_out(f"  {told['reasonText']}")
    output.table_out(DECISIONS, told["decisions"], "nothing was decided yet")
    output.table_out(CALLS, told["calls"], "no model was asked")
    if told["read"]:
        output.table_out(READ, told["read"], "")
    if told["iterationId"]:
        for iteration in plans(client, path_of(MISSIONS, told["missionId"]), 100):
            if iteration["id"] == told["iterationId"]:
                show_plan(iteration)


def follow(client: Gateway, place: str, due_at: str, *, as_json: bool) -> int:
    """Say what a run is at until it is over, then its plan; the exit code: 0 where it planned."""
    said, give_up = "", time.monotonic() + FOLLOWED_S
    while time.monotonic() < give_up:
        runs: list[Json] = client.get(f"{place}/runs", {"limit": "20"})["items"]
        run = next((each for each in runs if each["dueAt"] == due_at), None)
        if run is not None and run["closedAt"]:
            show_run(client, run["runId"], as_json=as_json)
            return 0 if run["state"] == "committed" else FAILED
        now = "waits for its agent" if run is None else _stage(client, run)
        if now != said and not as_json:
            output.line_out(f"  {now}")
        said = now
        time.sleep(0.5)
    raise Failure(f"it is not over after {FOLLOWED_S:.0f} s; it goes on: mana missions --user …")


def _stage(client: Gateway, run: Json) -> str:
    if run["state"] == "waiting":
        return run["reasonText"] or "waits"
    calls: list[Json] = client.get(path_of(RUNS, run["runId"]))["calls"]
    under_way = [call["number"] for call in calls if call["state"] == "under-way"]
    called = ", ".join(tool for call in calls for tool in call["tools"])
    so_far = f", after {called}" if called else ""
    return f"asks the model, call {under_way[-1]}{so_far}" if under_way else "reads and decides"


def plans(client: Gateway, place: str, limit: int) -> list[Json]:
    """The newest iterations of the mission at this path, the newest first."""
    items: list[Json] = client.get(f"{place}/iterations", {"limit": str(limit)})["items"]
    return [each["iteration"] for each in items]


def show_plan(iteration: Json) -> None:
    """One iteration: what the agent says, and each step with its reason and state."""
    output.line_out(f"plan of {output.local_time(iteration.get('startedAt'))}:")
    if iteration.get("summary"):
        output.line_out(f"  {_readable(iteration['summary'])}")
    steps: list[Json] = iteration.get("plan") or []
    for number, step in enumerate(steps, 1):
        status = str(step.get("status", ""))
        output.line_out(f"  {number}. {_step(step)} [{STEP_WORDS.get(status, status)}]")
        if step.get("rationale"):
            output.line_out(f"     {_readable(step['rationale'])}")


def _step(step: Json) -> str:
    intent: Json = step.get("intent") or {}
    if "toolName" not in intent:
        return _readable(intent.get("body") or step.get("summary") or "")
    params: Json = intent.get("params") or {}
    given = ", ".join(f"{name}: {_readable(value)}" for name, value in params.items())
    return f"{intent['toolName']}({given})"


def _readable(value: object) -> str:
    """Text as it is; what is sealed for the owner's client is said to be."""
    return "(sealed)" if is_sealed(value) else str(value)
