"""`mana proposals` and `mana approvals`: what becomes of the plans of a person's agents."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mana_actors.http.paths import path_of
from supervisor.cli.commands.own.target import PAGE, whose
from supervisor.cli.failures import FAILED, USAGE, Failure
from supervisor.cli.options import AsJson, Limit, PersonOptions, by_person

if TYPE_CHECKING:
    from supervisor.cli.gateway_client import Gateway

PROPOSALS = "/api/v1/me/proposals"
APPROVALS = "/api/v1/me/standing-approvals"
MOST_AT_ONCE = 100
SHORT = 8
_COLUMNS = ("id", "state", "agent", "what", "why", "until")
_APPROVAL_COLUMNS = ("id", "agent", "always", "until", "a day", "revoked")
proposals_app = typer.Typer(help="What agents propose, and your answers.", no_args_is_help=True)
approvals_app = typer.Typer(help="What is always approved.", no_args_is_help=True)

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID…", help="Ids, or how they begin.", show_default=False),
]
One = Annotated[str, typer.Argument(metavar="ID", help="Its id, or how it begins.")]
All = Annotated[bool, typer.Option("--all", help="All that wait for an answer.")]


@proposals_app.command("list")
@by_person
def list_proposals(
    *,
    state: Annotated[str | None, typer.Option(help="pending, done, rejected, …")] = "pending",
    every: Annotated[bool, typer.Option("--all", help="In whatever state.")] = False,
    limit: Limit = 50,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """What waits for an answer, the newest first."""
    from supervisor.cli import output

    me = person.client()
    found = _found(me, None if every else state, limit)
    if as_json:
        output.json_out({"proposals": found})
        return
    rows = [
        {
            "id": _short(one),
            "state": _mana(one)["state"],
            "agent": output.shown(_mana(one)["agentName"]),
            "what": output.shown(_what(one)),
            "why": output.shown(_mana(one)["why"] or _mana(one)["rationale"]),
            "until": output.local_time(one["expiresAt"]),
        }
        for one in found
    ]
    columns = [(name, output.field(name)) for name in _COLUMNS]
    output.table_out(columns, rows, "nothing waits for an answer")


@proposals_app.command("show")
@by_person
def show_proposal(
    proposal: One,
    *,
    person: PersonOptions,
) -> None:
    """One proposal, whole, as JSON."""
    from supervisor.cli import output

    me = person.client()
    output.json_out(me.get(f"{PROPOSALS}/{_whole(me, proposal)}"))


@proposals_app.command("approve")
@by_person
def approve(
    ids: Ids = None,
    *,
    all_of_them: All = False,
    params: Annotated[
        str | None, typer.Option(help="Other parameters, whole, as JSON.", metavar="JSON")
    ] = None,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Approve what is named, or all that waits; with --params, one of them as you want it."""
    import msgspec

    payload: dict[str, Any] = {"approved": True}
    if params is not None:
        if all_of_them or len(ids or []) != 1:
            raise Failure("--params: changes one proposal, name its id", USAGE)
        try:
            payload["editedArgs"] = msgspec.json.decode(params)
        except msgspec.DecodeError as exc:
            raise Failure("--params: is not JSON", USAGE) from exc
    me = person.client()
    said = {"status": "resolved", "payload": payload}
    _answered(me, _named(me, ids, all_of_them=all_of_them), said, as_json=as_json)


@proposals_app.command("reject")
@by_person
def reject(
    ids: Ids = None,
    *,
    all_of_them: All = False,
    because: Annotated[
        str, typer.Option(help="Why, in words that the agent reads.", metavar="WORDS")
    ] = "",
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Reject what is named, or all that waits."""
    me = person.client()
    said = {"status": "resolved", "payload": {"approved": False, "feedback": because}}
    _answered(me, _named(me, ids, all_of_them=all_of_them), said, as_json=as_json)


@proposals_app.command("later")
@by_person
def later(
    ids: Ids = None,
    *,
    until: Annotated[str, typer.Option(help="An instant.", metavar="2026-05-02T07:00:00Z")],
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Put off what is named."""
    me = person.client()
    said = {"status": "resolved", "payload": {"later": until}}
    _answered(me, _named(me, ids, all_of_them=False), said, as_json=as_json)


@proposals_app.command("undo")
@by_person
def undo(
    proposal: One,
    *,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Take back what was written for one."""
    from supervisor.cli import output

    me = person.client()
    told = me.call("POST", f"{PROPOSALS}/{_whole(me, proposal, None)}/undo")
    if as_json:
        output.json_out(told)
    else:
        output.line_out(f"{_short(told)} {_mana(told)['state']}: {output.shown(_what(told))}")


@proposals_app.command("revert")
@by_person
def revert(
    iteration: Annotated[str, typer.Argument(metavar="PLAN", help="The id of its iteration.")],
    *,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Take back everything that was written for one plan."""
    me = person.client()
    place = path_of("/api/v1/me/iterations", iteration)
    _told(me.call("POST", f"{place}/revert")["answers"], as_json=as_json)


@approvals_app.command("list")
@by_person
def list_approvals(
    *,
    revoked: Annotated[bool, typer.Option("--revoked", help="Those that ended, too.")] = False,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """What is approved without asking."""
    from supervisor.cli import output

    me = person.client()
    told = me.get(APPROVALS, {"revoked": "true"} if revoked else None)
    if as_json:
        output.json_out(told)
        return
    rows = [
        {
            "id": one["id"],
            "agent": output.shown(one["agentId"]),
            "always": one["tool"] or f"all of {one['module']}",
            "until": output.local_time(one["until"]),
            "a day": f"{one['usedToday']} of {one['perDay'] or 'any'}",
            "revoked": output.local_time(one["revokedAt"]),
        }
        for one in told["standingApprovals"]
    ]
    columns = [(name, output.field(name)) for name in _APPROVAL_COLUMNS]
    output.table_out(columns, rows, "nothing is approved without asking")


@approvals_app.command("new")
@by_person
def new_approval(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Of which agent: USER/AGENT.")],
    *,
    tool: Annotated[str | None, typer.Option(help="One tool, such as create_task.")] = None,
    module: Annotated[str | None, typer.Option(help="Or all of a module.")] = None,
    until: Annotated[str | None, typer.Option(help="Its end.", metavar="INSTANT")] = None,
    per_day: Annotated[int | None, typer.Option(help="At most so many in 24 hours.")] = None,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Always approve what an agent proposes with a tool, or in a module."""
    from uuid import uuid4

    from supervisor.cli import output

    user, agent_id = whose(agent, person.as_user)
    said = {"tool": tool, "module": module, "until": until, "perDay": per_day}
    content = {"agentId": agent_id} | {name: v for name, v in said.items() if v is not None}
    me = person._replace(as_user=user).client()
    key = {"Idempotency-Key": str(uuid4())}
    made = me.call("POST", APPROVALS, content=content, headers=key)
    if as_json:
        output.json_out(made)
    else:
        output.line_out(
            f"{made['tool'] or made['module']} is approved without asking: {made['id']}"
        )


@approvals_app.command("revoke")
@by_person
def revoke_approval(
    approval: Annotated[str, typer.Argument(metavar="ID")],
    *,
    person: PersonOptions,
) -> None:
    """From now on, ask again."""
    from supervisor.cli import output

    me = person.client()
    me.call("DELETE", path_of(APPROVALS, approval))
    output.line_out(f"{approval} is revoked")


def _found(me: "Gateway", state: str | None, limit: int) -> list[dict[str, Any]]:
    query = {} if state is None else {"state": state}
    return me.items(PROPOSALS, query, limit, page_size=PAGE, name="proposals")


def _named(me: "Gateway", ids: list[str] | None, *, all_of_them: bool) -> list[str]:
    """The ids that are meant; raises Failure where it is not clear which."""
    if all_of_them == bool(ids):
        raise Failure("name proposals by their ids, or give --all where there is one", USAGE)
    if all_of_them:
        return [one["id"] for one in _found(me, "pending", 10_000)]
    return [_whole(me, each) for each in ids or []]


def _whole(me: "Gateway", begins: str, state: str | None = None) -> str:
    """The whole id of the one proposal that begins so."""
    if len(begins) == 36:
        return begins
    fitting = [one["id"] for one in _found(me, state, 10_000) if one["id"].startswith(begins)]
    if len(fitting) != 1:
        what = "no proposal of yours begins" if not fitting else "several proposals begin"
        raise Failure(f"{begins}: {what} like this", USAGE)
    return fitting[0]


def _answered(me: "Gateway", ids: list[str], said: dict[str, Any], *, as_json: bool) -> None:
    told: list[dict[str, Any]] = []
    for first in range(0, len(ids), MOST_AT_ONCE):
        some = ids[first : first + MOST_AT_ONCE]
        resume = [{"interruptId": id_, **said} for id_ in some]
        told += me.call("POST", f"{PROPOSALS}/answers", content={"resume": resume})["answers"]
    _told(told, as_json=as_json)


def _told(answers: list[dict[str, Any]], *, as_json: bool) -> None:
    """What became of each; raises Failure where one could not be answered so."""
    from supervisor.cli import output

    if as_json:
        output.json_out({"answers": answers})
    elif not answers:
        output.line_out("there was nothing to answer")
    else:
        for one in answers:
            told = one.get("proposal")
            said = one["interruptId"][:SHORT]
            if told is not None:
                said = f"{_short(told)} {_mana(told)['state']}: {output.shown(_what(told))}"
            output.line_out(said if "error" not in one else f"{said} ({one['error']})")
    wrong = sum("error" in one for one in answers)
    if wrong:
        raise Failure(f"{wrong} of {len(answers)} could not be answered so", FAILED)


def _mana(row: dict[str, Any]) -> dict[str, Any]:
    return row["metadata"]["mana"]


def _short(row: dict[str, Any]) -> str:
    return str(row["id"])[:SHORT]


def _what(row: dict[str, Any]) -> str:
    """The call in one line."""
    told = _mana(row)
    params = told["editedParams"] or told["params"]
    if params is None:
        return f"{told['tool']} (sealed)"
    said = ", ".join(f"{name}: {value}" for name, value in params.items())
    return f"{told['tool']} {said}"[:120]
