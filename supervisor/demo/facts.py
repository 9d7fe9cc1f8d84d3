"""What became of the demo's missions: from the gateway and their owners' clients, then judged."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, cast

import msgspec

from supervisor.demo.story import MISSIONS, ONE_AT_A_TIME, RAN, WAITED, DemoMission

MissionName = tuple[str, str]
"""(user, mission)"""


class MissionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One mission: decisions in order, the plan as its owner's client has it, cost and delay."""

    user: str
    agent: str
    mission: str
    decision: str | None = None
    decisions: list[str] = []
    reason: str | None = None
    iterations: int = 0
    steps: int = 0
    tokens: int = 0
    due_at: datetime
    next_run_at: str | None = None
    wake_ms: int | None = None  # from due, or from when it was pushed if that was later
    began_at: datetime | None = None
    ended_at: datetime | None = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """The whole demo; `reasons` say in what it is not as it should be."""

    ok: bool
    quarantined: int
    missions: list[MissionFacts]
    reasons: list[str] = []


def mission_facts(
    mission: DemoMission,
    *,
    due: datetime,
    pushed: datetime,
    decisions: Sequence[Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    shown: Mapping[str, Any],
) -> MissionFacts:
    """What is known of one mission, whose fields its owner's client shows.

    Lists may hold other missions' rows, the newest first.
    """
    decided = [row for row in reversed(decisions) if _key(row) == (mission.user, mission.id)]
    own_runs = [row for row in runs if _key(row) == (mission.user, mission.id)]
    iterations = _objects(shown.get("iterations"))
    opened = [datetime.fromisoformat(row["opened_at"]) for row in own_runs]
    closed = [datetime.fromisoformat(row["closed_at"]) for row in own_runs if row["closed_at"]]
    waited = min(opened) - max(due, pushed) if opened else None
    wake_ms = None if waited is None else round(waited.total_seconds() * 1000)
    return MissionFacts(
        user=mission.user,
        agent=mission.agent,
        mission=mission.id,
        decision=decided[-1]["decision"] if decided else None,
        decisions=[row["decision"] for row in decided],
        reason=decided[-1]["reason"] if decided else None,
        iterations=len(iterations),
        steps=sum(len(_objects(iteration.get("plan"))) for iteration in iterations),
        tokens=sum(row["tokens"] for row in own_runs),
        due_at=due,
        next_run_at=shown.get("nextRunAt"),
        wake_ms=wake_ms,
        began_at=min(opened, default=None),
        ended_at=max(closed, default=None),
    )


def is_settled(missions: Sequence[MissionFacts], quarantined: int) -> bool:
    """Whether nothing more is to be expected."""
    ends = {(mission.user, mission.id): mission.expected for mission in MISSIONS}
    reached = [facts.decision in (ends[facts.user, facts.mission], "failed") for facts in missions]
    return all(reached) and quarantined > 0


def outcome(missions: Sequence[MissionFacts], quarantined: int) -> Outcome:
    """The demo judged."""
    wanted = {(mission.user, mission.id): mission for mission in MISSIONS}
    reasons = [
        f"{facts.user}/{facts.mission}: {reason}"
        for facts in missions
        for reason in _faults(facts, wanted[facts.user, facts.mission].expected)
    ]
    pair = [facts for facts in missions if (facts.user, facts.agent) == ONE_AT_A_TIME]
    spans = sorted((one.began_at, one.ended_at) for one in pair if one.began_at and one.ended_at)
    if any(began < ended for (_, ended), (began, _) in pairwise(spans)):
        reasons.append(f"{'/'.join(ONE_AT_A_TIME)}: its missions ran at once")
    if quarantined != 1:
        reasons.append(f"{quarantined} rows were set aside instead of 1")
    return Outcome(not reasons, quarantined, list(missions), reasons)


def _faults(facts: MissionFacts, expected: str) -> list[str]:
    if facts.decision != expected:
        return [f"ended with {facts.decision or 'no decision'} instead of {expected}"]
    if expected != RAN:
        return ["has a plan all the same"] if facts.iterations else []
    faults: list[str] = []
    if facts.iterations != 1:
        faults.append(f"{facts.iterations} plans reached its owner instead of 1")
    if not facts.steps:
        faults.append("its plan has no steps")
    if not facts.tokens:
        faults.append("no tokens were charged")
    if facts.next_run_at is None or datetime.fromisoformat(facts.next_run_at) <= facts.due_at:
        faults.append("its next run did not move on")
    if [one for one in facts.decisions if one != WAITED] != [RAN]:
        faults.append(f"decisions were {', '.join(facts.decisions)}")
    return faults


def _key(row: Mapping[str, Any]) -> MissionName:
    return row["user_id"], row["mission_id"]


def _objects(raw: object) -> list[dict[str, Any]]:
    items = cast("list[object]", raw) if isinstance(raw, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]
