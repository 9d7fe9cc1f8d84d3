"""Plans in people's missions, and what became of them as a client reads it from the log."""

from datetime import UTC, datetime
from typing import Any

from state.log import merge
from state.log.merge import Snapshot
from state.proposals.proposal import Proposal
from state.store.gateway.carry_out import Answering
from state.store.gateway.proposals import ProposalFilter, ProposalStore
from tests.integration.support import Client, Json, World, text

ME = Answering("u1", address="10.0.0.1", client="a phone")
NOW = text(datetime.now(UTC))


def call(number: int, tool: str, **params: Any) -> Json:
    return {
        "id": f"i1-{number}",
        "summary": tool,
        "intent": {"kind": "toolCall", "toolName": tool, "params": params},
        "status": "planned",
        "rationale": "Weil es heute dran ist",
    }


def plan(*steps: Json, id_: str = "i1", **more: Any) -> Json:
    return {
        "id": id_,
        "startedAt": NOW,
        "finishedAt": NOW,
        "plan": list(steps),
        "summary": "Plan",
        "overallStatus": "awaiting-review",
        "source": "server",
        **more,
    }


TASK = call(0, "create_task", title="Einkaufen", dueDate="2026-12-01")


async def mission_with(world: World, *iterations: Json, **fields: Any) -> Client:
    client = await world.client()
    await client.mission(iterations=list(iterations), **fields)
    await world.driver.fold_all()
    return client


async def staged(store: ProposalStore, user: str = "u1") -> list[Proposal]:
    await store.stage_all(Answering(user))
    return await store.list(user, 100, ProposalFilter())


async def log_record(world: World, table: str, id_: str, user: str = "u1") -> Snapshot:
    """A record as a client that pulls the whole log reads it."""
    rows = await world.sql(
        "SELECT *, (extract(epoch FROM created_at) * 1000000)::bigint AS us"
        " FROM public.sync_changes WHERE user_id = $1 AND table_name = $2 AND record_id = $3"
        " ORDER BY created_at, id",
        user,
        table,
        id_,
    )
    return merge.fold(
        None,
        [
            merge.read_change(str(r["id"]), r["us"], r["op"], r["data"], r["field_meta"])
            for r in rows
        ],
    )


async def records(world: World, table: str, user: str = "u1") -> dict[str, Json]:
    ids = await world.sql(
        "SELECT DISTINCT record_id FROM public.sync_changes WHERE table_name = $1 AND user_id = $2",
        table,
        user,
    )
    read = {row["record_id"]: await log_record(world, table, row["record_id"], user) for row in ids}
    return {id_: snapshot.fields for id_, snapshot in read.items() if not merge.hidden(snapshot)}


async def shown(world: World) -> list[Json]:
    """The mission's iterations as every device sees them."""
    return (await log_record(world, "aiMissions", "m1")).fields["iterations"]
