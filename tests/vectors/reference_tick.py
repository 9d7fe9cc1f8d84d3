"""Whole passes of the original runner, with each rule of ours as a switch.

With no Rule on, it gives what the original gives, research left out; with all of them, what we
must give. Missions are taken one after another, which is right wherever order does not matter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import mana_actors
from tests.vectors.reference import (
    FOLD_RULES,
    Rules,
    decision,
    is_deleted,
    nanoseconds,
    normal_text,
    replay,
)

Row = dict[str, Any]
TICK_RULES = frozenset(
    {
        "next-run",  # the row moves nextRunAt too
        "served-slot",  # an occurrence that was served is moved on, never served again
        "blocked-waits",  # what was skipped is looked at again when something changed
        "missing-agent",  # a named agent that is not there: skip
        "default-agent",  # a mission without agent belongs to legacy:ai-default, with its limits
        "per-user",  # limits are counted per (user, agent)
        "at-once",  # a cap counts what runs at once, and the next begins after that
        "tolerant-agent",  # an agent's odd settings only restrict
        "tolerant-policy",  # so does an odd policy
        "complete",  # a record without an insert row counts for nothing
        "checked-calls",  # only offered tools with valid arguments become steps
        "no-doubles",  # one call made twice is one step
        "no-empty-plan",  # an answer with nothing in it is a failure the owner sees
        "hold",  # a call starts only if it fits under the cap
        "all-usage",  # failed runs and default agents are charged too
        "unreported",  # usage that is not reported, or not heard of, is charged at its hold
        "back-off",  # a failed mission is not tried again at once
        "winning-stamps",  # our stamp wins against a clock that runs ahead
    }
)
DEFAULT_AGENT = "legacy:ai-default"
DEFAULT: Row = {"name": "Mana"}
PLAIN: Row = {"content": "fertig"}
NOW = "2026-06-01T00:00:00.000Z"
HOLD = 2
"""Tokens held for a call under the runner's settings: one for the request, one for the answer."""
ROUNDS = 5
FINAL_KINDS = ("blocked", "auth", "capability")
CATALOGUE: dict[str, Row] = {
    tool["name"]: tool
    for tool in json.loads(
        Path(mana_actors.__path__[0], "agent", "tools", "tools.json").read_text("utf-8")
    )["tools"]
}


class World:
    """The log, the ledger and the model's script between passes."""

    def __init__(self, given: Row, rules: Rules) -> None:
        self.rules = rules
        self.log: list[Row] = list(given["rows"])
        self.script: list[Row] = list(given["script"])
        self.usage: list[Row] = []
        self.earlier: list[Row] = list(given["tokenUsage"])
        self.seen: dict[tuple[str, str], Any] = {}  # records as they were when it was put off
        self.backing_off: set[tuple[str, str]] = set()
        self.served: set[tuple[str, str, object]] = set()

    def records(self, table: str) -> dict[tuple[str, str], Row]:
        """Every visible record of a table by (user, id), with its stamps under `__stamps`."""
        rows: dict[tuple[str, str], list[Row]] = {}
        for row in self.log:
            if row["app_id"] == "ai" and row["table_name"] == table:
                rows.setdefault((row["user_id"], row["record_id"]), []).append(row)
        found: dict[tuple[str, str], Row] = {}
        for key, mine in rows.items():
            ordered = sorted(mine, key=lambda row: nanoseconds(row["created_at"]) or 0)
            record = replay(ordered, "snapshot", FOLD_RULES)
            fields = record.fields
            if fields is None or is_deleted(fields, FOLD_RULES):
                continue
            if record.complete or "complete" not in self.rules:
                found[key] = {**fields, "__stamps": record.stamps}
        return found

    def used(self, user: str, agent: str) -> int:
        """Tokens of the last 24 hours."""
        before = sum(
            entry["tokens"]
            for entry in self.earlier
            if (entry["userId"], entry["agentId"]) == (user, agent) and entry["minutesAgo"] < 1440
        )
        return before + sum(
            entry["tokens_used"]
            for entry in self.usage
            if (entry["user_id"], entry["agent_id"]) == (user, agent)
        )


def tick(given: Row, rules: Rules) -> Any:
    """The expected value of a case of tick.json under `rules`."""
    world = World(given, rules)
    ticks: list[Row] = []
    for number in range(given["ticks"]):
        between = given["between"]
        world.log += between[number] if number < len(between) else []
        ticks.append(_Pass(world).run())
    return {"ticks": ticks, "usage": world.usage, "jobs": []}


class _Pass:
    """One pass over what is due."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rules = world.rules
        self.missions = world.records("aiMissions")
        self.agents = world.records("agents")
        self.running: dict[Any, int] = {}
        self.decisions: dict[str, int] = {}
        self.written: list[Row] = []
        self.failed = self.planned = self.calls = self.errors = 0

    def run(self) -> Row:
        due = [key for key in sorted(self.missions) if self._is_due(key)]
        for user, mission in due:
            self._mission(user, mission)
        self.written.sort(key=lambda row: row["missionId"])
        return {
            "due": len(due),
            "planned": self.planned,
            "writtenBack": len(self.written),
            "failed": self.failed,
            "errors": self.errors,
            "decisions": self.decisions,
            "modelCalls": self.calls,
            "written": self.written,
        }

    def _is_due(self, key: tuple[str, str]) -> bool:
        fields = self.missions[key]
        at: object = fields.get("nextRunAt")
        instant = nanoseconds(at) if isinstance(at, str) else None
        due = instant is not None and instant <= (nanoseconds(NOW) or 0)
        put_off = self.world.seen.get(key, ()) == self._records(key)
        return due and fields.get("state") == "active" and not put_off

    def _records(self, key: tuple[str, str]) -> Any:
        """What a skipped mission waits for a change of."""
        fields = self.missions[key]
        agent_id: str = fields.get("agentId") or DEFAULT_AGENT
        return fields, self.agents.get((key[0], agent_id))

    def _put_off(self, key: tuple[str, str]) -> None:
        self.world.seen[key] = self._records(key)

    def _decide(self, label: str) -> None:
        self.decisions[label] = self.decisions.get(label, 0) + 1

    def _mission(self, user: str, mission: str) -> None:
        key = user, mission
        fields = self.missions[key]
        slot = (user, mission, fields["nextRunAt"])
        if key in self.world.backing_off:
            self._put_off(key)
            return
        if "served-slot" in self.rules and slot in self.world.served:
            self._move_on(user, mission)
            return
        named: str | None = fields.get("agentId")
        agent_id = named or DEFAULT_AGENT
        known = named is not None or "default-agent" in self.rules
        agent = self.agents.get((user, agent_id)) if known else None
        if agent is None and agent_id != DEFAULT_AGENT and "missing-agent" in self.rules:
            self._decide("skipped-missing-agent")
            if "blocked-waits" in self.rules:
                self._put_off(key)
            return
        is_gated = agent is not None or (
            "default-agent" in self.rules and agent_id == DEFAULT_AGENT
        )
        if agent is None:
            agent_id, agent = DEFAULT_AGENT, DEFAULT
        skip = self._gate(user, agent_id, agent) if is_gated else None
        if skip is not None:
            self._decide(skip)
            if skip != "skipped-concurrency" and "blocked-waits" in self.rules:
                self._put_off(key)
            return
        place = key[0], agent_id
        counted = place if "per-user" in self.rules else agent_id
        self.running[counted] = self.running.get(counted, 0) + 1
        if _breaks_original(agent.get("policy")) and "tolerant-policy" not in self.rules:
            self.errors += 1
            return
        self._plan(user, mission, agent_id, agent, is_gated)

    def _move_on(self, user: str, mission: str) -> None:
        stamps = self.missions[(user, mission)]["__stamps"]
        self._log(user, mission, {"nextRunAt": None}, {"nextRunAt": stamps.get("nextRunAt")})

    def _gate(self, user: str, agent_id: str, agent: Row) -> str | None:
        state: object = agent.get("state", "active")
        if state == "archived":
            return "skipped-archived"
        if state == "paused" or (state != "active" and "tolerant-agent" in self.rules):
            return "skipped-paused"
        key = (user, agent_id) if "per-user" in self.rules else agent_id
        at_once = 0 if "at-once" in self.rules else self.running.get(key, 0)
        if at_once >= self._most(agent):
            return "skipped-concurrency"
        cap = self._cap(agent)
        if cap is not None and self.world.used(user, agent_id) >= cap:
            return "skipped-budget"
        return None

    def _most(self, agent: Row) -> float:
        most: object = agent.get("maxConcurrentMissions")
        if most is None:
            return 1
        if isinstance(most, bool) or not isinstance(most, int | float) or most < 1:
            return 1 if "tolerant-agent" in self.rules else float("inf")
        return most

    def _cap(self, agent: Row) -> float | None:
        cap: object = agent.get("maxTokensPerDay")
        if cap is None:
            return None
        if isinstance(cap, bool) or not isinstance(cap, int | float) or cap < 0:
            return 0 if "tolerant-agent" in self.rules else None
        return cap

    def _plan(self, user: str, mission: str, agent_id: str, agent: Row, is_gated: bool) -> None:
        said = self._loop(user, agent_id, agent)
        always = "all-usage" in self.rules
        if said["spent"] and (always or (is_gated and said["failure"] is None)):
            use = {"user_id": user, "agent_id": agent_id, "mission_id": mission}
            self.world.usage.append(use | {"tokens_used": said["spent"]})
        failure: str | None = said["failure"]
        if failure == "budget":
            self._decide("skipped-budget")
            self._put_off((user, mission))
            return
        if failure is not None:
            self.failed += 1
        if failure == "passing":
            if "back-off" in self.rules:
                self.world.backing_off.add((user, mission))
                self._put_off((user, mission))
            return
        if failure == "final":
            if "back-off" in self.rules:
                self._decide("failed")
                self._write(user, mission, agent_id, agent, said | {"steps": []}, "failed")
            return
        self.planned += 1
        if is_gated:
            self._decide("ran")
        status = "awaiting-review" if said["steps"] else "approved"
        self._write(user, mission, agent_id, agent, said, status)

    def _loop(self, user: str, agent_id: str, agent: Row) -> Row:
        """Summary, steps, tokens spent, and `budget`, `passing` or `final` where it failed."""
        steps: list[Row] = []
        spent = 0
        cap = self._cap(agent)
        for _ in range(ROUNDS):
            over = cap is not None and self.world.used(user, agent_id) + spent + HOLD > cap
            if over and "hold" in self.rules:
                failure = None if steps else "budget"
                return {"summary": "", "steps": steps, "spent": spent, "failure": failure}
            self.calls += 1
            entry: Row = self.world.script.pop(0) if self.world.script else PLAIN
            if _is_failure(entry):
                unheard = "status" not in entry or entry.get("kind") == "truncated"
                spent += HOLD if unheard and "unreported" in self.rules else 0
                failure = "final" if entry.get("kind") in FINAL_KINDS else "passing"
                return {"summary": "", "steps": steps, "spent": spent, "failure": failure}
            spent += self._tokens(entry)
            calls: list[Row] = entry.get("calls") or []
            if not calls:
                summary: str = entry.get("content") or ""
                is_empty = not summary.strip() and not steps and "no-empty-plan" in self.rules
                failure = "final" if is_empty else None
                return {"summary": summary, "steps": steps, "spent": spent, "failure": failure}
            for call in calls:
                self._step(steps, call, agent)
        failure = "final" if not steps and "no-empty-plan" in self.rules else None
        return {"summary": "", "steps": steps, "spent": spent, "failure": failure}

    def _tokens(self, entry: Row) -> int:
        if not entry.get("usage"):
            return HOLD if "unreported" in self.rules else 0
        prompt, completion, *total = entry["usage"]
        reported = total[0] if total and "all-usage" in self.rules else 0
        return max(prompt + completion, reported)

    def _step(self, steps: list[Row], call: Row, agent: Row) -> None:
        name, params = call["name"], call.get("args", {})
        if "checked-calls" in self.rules and not _is_valid(name, params, agent.get("policy")):
            return
        step = {
            "intent": {"kind": "toolCall", "params": params, "toolName": name},
            "status": "planned",
            "summary": name,
        }
        if step not in steps or "no-doubles" not in self.rules:
            steps.append(step)

    def _write(
        self, user: str, mission: str, agent_id: str, agent: Row, said: Row, status: str
    ) -> None:
        fields = self.missions[(user, mission)]
        iterations: list[Any] = [*(fields.get("iterations") or []), {"id": len(self.world.log)}]
        data: Row = {"iterations": iterations}
        if "next-run" in self.rules:
            data["nextRunAt"] = None
        self.world.served.add((user, mission, fields["nextRunAt"]))
        self._log(user, mission, data, fields["__stamps"])
        self.written.append(
            {
                "missionId": mission,
                "userId": user,
                "op": "update",
                "origin": "agent",
                "actor": {
                    "kind": "ai",
                    "principalId": agent_id,
                    "displayName": agent.get("name") or "Mana",
                    "rationale": fields.get("objective") or "",
                },
                "iterations": len(iterations),
                "dataKeys": sorted(data),
                "newIteration": {
                    "source": "server",
                    "summary": said["summary"],
                    "overallStatus": status,
                    "plan": said["steps"],
                },
            }
        )

    def _log(self, user: str, mission: str, data: Row, stamps: Row) -> None:
        self.world.log.append(
            {
                "app_id": "ai",
                "table_name": "aiMissions",
                "record_id": mission,
                "user_id": user,
                "op": "update",
                "data": data,
                "field_meta": {field: self._stamp(stamps.get(field)) for field in data},
                "created_at": NOW,
            }
        )

    def _stamp(self, current: str | None) -> str:
        ahead = nanoseconds(current) if current else None
        now = nanoseconds(NOW) or 0
        if ahead is None or ahead < now or "winning-stamps" not in self.rules:
            return NOW
        return normal_text(ahead + 10**6)


def _breaks_original(policy: object) -> bool:
    """An object without tools makes the original fail."""
    fields = cast("Row", policy) if isinstance(policy, dict) else None
    return fields is not None and not isinstance(fields.get("tools"), dict)


def _is_failure(entry: Row) -> bool:
    return any(key in entry for key in ("status", "hang", "close", "half", "garbage"))


def _is_valid(name: str, params: object, policy: object) -> bool:
    tool = CATALOGUE.get(name)
    if tool is None or tool["defaultPolicy"] != "propose" or not isinstance(params, dict):
        return False
    if decision(name, tool["module"], policy) == "deny":
        return False
    given = {key: value for key, value in cast("Row", params).items() if value is not None}
    known = {parameter["name"]: parameter for parameter in tool["parameters"]}
    missing = [one for one in known.values() if one["required"] and one["name"] not in given]
    return not missing and set(given) <= set(known)
