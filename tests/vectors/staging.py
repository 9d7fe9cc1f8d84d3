"""Suite `staging`: plans of the server as proposals, by our code and by a plain reference of it."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from state.log.iterations import DEFAULT_AUTHOR, Author
from state.log.records import mission_from_record
from state.proposals.proposal import Proposal
from state.proposals.staging import STEP_STATUS, mirrored, new_proposals
from tests.vectors.verdict import Case, Override

Given = dict[str, Any]
NOW = datetime(2026, 4, 15, 11, tzinfo=UTC)


def give_staging(given: Given) -> Any:
    """What our staging makes of each pass; where the original carries out, ours asks first."""
    agents = {each["id"]: each for each in given["agents"] if not each.get("deletedAt")}
    known: dict[str, dict[str, Proposal]] = {}
    missions: dict[str, Given] = {}
    passes: list[Any] = []
    for each in given["passes"]:
        for raw in each.get("missions", ()):
            missions[raw["id"]] = copy.deepcopy(raw)
        for id_, raw in missions.items():
            mission = mission_from_record("u1", id_, raw)
            steps = known.setdefault(id_, {})
            if not mission.deleted:
                owner = agents.get(mission.agent_id or "")
                author = Author(owner["id"], owner["name"]) if owner else DEFAULT_AUTHOR
                steps |= {p.step_id: p for p in new_proposals(mission, author, steps, NOW)}
                raw["iterations"] = mirrored(list(mission.iterations), steps)
        proposals = [_shown(p) for steps in known.values() for p in steps.values()]
        passes.append(_pass(given, proposals, missions))
    return {"passes": passes}


def _shown(proposal: Proposal) -> Given:
    return {
        "status": "pending" if STEP_STATUS[proposal.state] == "staged" else proposal.state,
        "missionId": proposal.mission_id,
        "iterationId": proposal.iteration_id,
        "rationale": proposal.rationale,
        "intent": {"kind": "toolCall", "toolName": proposal.tool, "params": proposal.params},
        "actor": proposal.actor,
    }


def _pass(given: Given, proposals: list[Given], missions: dict[str, Given]) -> Given:
    told = [
        {"id": id_, "iterations": [_iteration(i, given["fn"]) for i in raw["iterations"]]}
        for id_, raw in missions.items()
    ]
    if given["fn"] == "execute":
        return {"toolCalls": [], "missions": told, "markers": []}
    return {"proposals": proposals, "missions": told}


def _iteration(iteration: Given, fn: str) -> Given:
    steps: list[Given] = []
    for step in iteration["plan"]:
        linked = {"linked": bool(step.get("proposalId"))} if fn == "stage" else {}
        steps.append({"id": step["id"], "status": step["status"], **linked})
    return {"id": iteration["id"], "overallStatus": iteration["overallStatus"], "steps": steps}


def view_staging(value: Any, _case: Case) -> Any:
    """The order of proposals means nothing."""
    passes = [
        {**each, "proposals": sorted(each.get("proposals", ()), key=repr)}
        for each in value["passes"]
    ]
    return {"passes": passes}


def staging(given: Given) -> Any:
    """The reference: each planned call of the server's iterations is one proposal, linked to it."""
    agents = {a["id"]: a["name"] for a in given["agents"] if not a.get("deletedAt")}
    made: dict[tuple[str, str, str], Given] = {}
    missions: dict[str, Given] = {}
    passes: list[Any] = []
    for each in given["passes"]:
        missions |= {raw["id"]: copy.deepcopy(raw) for raw in each.get("missions", ())}
        for raw in missions.values():
            for iteration in raw["iterations"] if not raw.get("deletedAt") else ():
                if iteration.get("source") == "server":
                    _stage(raw, iteration, agents, made)
        passes.append(_pass(given, list(made.values()), missions))
    return {"passes": passes}


def _stage(
    mission: Given,
    iteration: Given,
    agents: dict[str, str],
    made: dict[tuple[str, str, str], Given],
) -> None:
    for step in iteration["plan"]:
        is_call = step["intent"]["kind"] == "toolCall"
        if not is_call or step["status"] != "planned" or step.get("proposalId"):
            continue
        ids = {"missionId": mission["id"], "iterationId": iteration["id"]}
        why = step.get("summary") or iteration.get("summary") or mission["objective"]
        agent = mission.get("agentId")
        named = (agent, agents[agent]) if agent in agents else ("legacy:ai-default", "Mana")
        who = dict(zip(("principalId", "displayName"), named, strict=True))
        made[mission["id"], iteration["id"], step["id"]] = {
            "status": "pending",
            **ids,
            "rationale": why,
            "intent": step["intent"],
            "actor": {"kind": "ai", **who, **ids, "rationale": why},
        }
        step["status"], step["proposalId"] = "staged", "p"


def _calls(given: Given) -> list[tuple[Given, list[Given]]]:
    """The server's iterations of all passes, with their calls."""
    return [
        (iteration, [s for s in iteration["plan"] if s["intent"]["kind"] == "toolCall"])
        for each in given["passes"]
        for raw in each.get("missions", ())
        for iteration in raw["iterations"]
        if iteration.get("source") == "server"
    ]


def _differs(given: Given) -> bool:
    """Whether steps are open beside linked ones, decided without a link, or brought back."""
    seen: set[tuple[str, str]] = set()
    for iteration, steps in _calls(given):
        links = [bool(step.get("proposalId")) for step in steps]
        loose = [step for step in steps if not step.get("proposalId")]
        keys = {(iteration["id"], step["id"]) for step in loose}
        if len(set(links)) > 1 or any(s["status"] != "planned" for s in loose) or keys & seen:
            return True
        seen |= keys
    return False


STAGING = (
    Override(
        "asks-first",
        "nothing that an agent proposes is carried out before its owner was asked",
        lambda given: given["fn"] == "execute",
        staging,
    ),
    Override(
        "one-proposal-per-step",
        "each planned step has one proposal, whatever is linked beside it or brought back",
        _differs,
        staging,
    ),
)
