"""A plan's steps are put to their owner once, answered once, and carried out at most once."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from state.proposals.answers import Answer, Approve, NotNow, Reject
from state.proposals.obstacles import StandingApproval
from state.store.connect import Database as Connections
from state.store.gateway.carry_out import Answering
from state.store.gateway.proposals import Answered, ProposalFilter, ProposalStore
from supervisor.gateway.people.inbox.shelf import CatalogueShelf
from tests.inbox import ME, NOW, TASK, call, mission_with, plan, records, shown, staged
from tests.integration.support import DONE, PLAN, Json, World, text

pytestmark = pytest.mark.one_postgres

AGENT = "legacy:ai-default"


async def test_a_step_is_put_to_its_owner_and_its_record_shows_it(
    world: World, store: ProposalStore
):
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    assert (proposal.state, proposal.tool) == ("pending", "create_task")
    assert proposal.params == {"title": "Einkaufen", "dueDate": "2026-12-01"}
    assert proposal.rationale == "Weil es heute dran ist"
    ((step,),) = [i["plan"] for i in await shown(world)]
    assert (step["status"], step["proposalId"]) == ("staged", proposal.id)


async def test_a_plan_is_put_to_its_owner_before_anybody_folds_it(
    world: World, store: ProposalStore
):
    """Who hears that a run ended asks for its proposals at once."""
    await mission_with(world)
    world.provider.script = [PLAN, DONE]
    await world.run()
    assert json.loads((await world.snapshot())["record"])["iterations"] == []
    (proposal,) = await staged(store)
    assert (proposal.state, proposal.params) == ("pending", {"title": "Einkaufen"})
    await staged(store)
    await world.driver.fold_all()
    assert [one.id for one in await staged(store)] == [proposal.id]
    due = "SELECT mission_id FROM mana_ai.missions_to_stage('u1')"
    assert await world.sql(due) == []


async def test_an_approved_task_is_in_the_owners_data_signed_by_the_agent(
    world: World, store: ProposalStore
):
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    answered = await store.answer(ME, proposal.id, Approve())
    assert answered is not None
    assert (answered.proposal.state, answered.changed, answered.refusal) == ("done", True, None)
    ((id_, task),) = (await records(world, "tasks")).items()
    assert (task["title"], task["dueDate"], task["isCompleted"]) == (
        "Einkaufen",
        "2026-12-01",
        False,
    )
    assert (task["spaceId"], task["authorId"]) == ("_personal:u1", "u1")
    (row,) = await world.sql("SELECT * FROM public.sync_changes WHERE table_name = 'tasks'")
    assert (row["op"], row["origin"], row["app_id"]) == ("insert", "agent", "todo")
    assert json.loads(row["actor"]) == {
        "kind": "ai",
        "principalId": "legacy:ai-default",
        "displayName": "Mana",
        "missionId": "m1",
        "iterationId": "i1",
        "rationale": "Weil es heute dran ist",
    }
    stamps = json.loads(row["field_meta"])
    assert set(stamps) == set(json.loads(row["data"])) - {"id"}
    assert all(isinstance(stamp, str) for stamp in stamps.values())
    (iteration,) = await shown(world)
    assert iteration["overallStatus"] == "approved"
    assert iteration["plan"][0]["status"] == "approved"
    decision = answered.proposal.decision
    assert decision is not None
    assert (decision.by, decision.address, decision.client) == ("user", "10.0.0.1", "a phone")
    assert id_ == answered.proposal.written[0].id


async def answered(store: ProposalStore, id_: str, answer: Answer, me: Answering = ME) -> Answered:
    result = await store.answer(me, id_, answer)
    assert result is not None
    return result


async def test_two_places_that_approve_at_once_make_one_task(world: World, store: ProposalStore):
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    results = await asyncio.gather(*(answered(store, proposal.id, Approve()) for _ in range(6)))
    assert sorted(result.changed for result in results) == [False] * 5 + [True]
    assert {result.proposal.state for result in results} == {"done"}
    assert len(await records(world, "tasks")) == 1


async def test_of_yes_and_no_at_once_one_counts_and_the_other_hears_it(
    world: World, store: ProposalStore
):
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    yes, no = await asyncio.gather(
        answered(store, proposal.id, Approve()), answered(store, proposal.id, Reject("nein"))
    )
    assert sorted([yes.changed, no.changed]) == [False, True]
    late = no if yes.changed else yes
    assert late.refusal is not None
    assert late.refusal.code == "answered"
    assert len(await records(world, "tasks")) == (1 if yes.changed else 0)


async def test_staging_from_many_places_makes_one_proposal_a_step(
    world: World, store: ProposalStore
):
    await mission_with(world, plan(TASK, call(1, "create_note", content="x")))
    await asyncio.gather(*(store.stage(ME, "m1") for _ in range(5)))
    assert len(await store.list("u1", 10, ProposalFilter())) == 2


async def test_a_device_that_brings_the_plan_back_as_planned_gets_no_second_task(
    world: World, store: ProposalStore
):
    client = await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    await answered(store, proposal.id, Approve())
    await world.driver.fold_all()
    ahead = datetime.now(UTC) + timedelta(seconds=5)
    await client.edit(iterations=[plan(TASK)], stamp=ahead)
    await world.driver.fold_all()
    (again,) = await staged(store)
    assert (again.id, again.state) == (proposal.id, "done")
    assert len(await records(world, "tasks")) == 1
    (iteration,) = await shown(world)
    step = iteration["plan"][0]
    assert (step["status"], step["proposalId"]) == ("approved", proposal.id)


async def test_what_a_device_carried_out_itself_is_not_carried_out_again(
    world: World, store: ProposalStore
):
    client = await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    ahead = datetime.now(UTC) + timedelta(seconds=5)
    await client.edit(iterations=[plan({**TASK, "status": "approved"})], stamp=ahead)
    result = await answered(store, proposal.id, Approve())
    assert (result.proposal.state, result.changed) == ("done", False)
    assert result.proposal.decision is not None
    assert result.proposal.decision.by == "device"
    assert await records(world, "tasks") == {}


async def test_a_rejection_with_words_is_shown_where_the_agent_reads_it(
    world: World, store: ProposalStore
):
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    result = await answered(store, proposal.id, Reject("Wir haben noch genug"))
    assert result.proposal.state == "rejected"
    (iteration,) = await shown(world)
    assert iteration["userFeedback"] == "create_task: Wir haben noch genug"
    assert (iteration["overallStatus"], iteration["plan"][0]["status"]) == ("rejected", "rejected")
    assert await records(world, "tasks") == {}


async def test_edited_parameters_are_carried_out_and_checked_by_the_tools_schema(
    world: World, store: ProposalStore
):
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    wrong = await answered(store, proposal.id, Approve({"title": "Milch", "priority": "huge"}))
    assert wrong.refusal is not None
    assert (wrong.refusal.code, wrong.proposal.state) == ("params", "pending")
    assert "priority" in str(wrong.refusal)
    right = await answered(store, proposal.id, Approve({"title": "Milch", "priority": "high"}))
    assert right.proposal.state == "done"
    ((_, task),) = (await records(world, "tasks")).items()
    assert (task["title"], task["priority"], task["dueDate"]) == ("Milch", "high", None)
    (iteration,) = await shown(world)
    assert iteration["plan"][0]["editedParams"] == {"title": "Milch", "priority": "high"}
    later = await answered(store, proposal.id, Approve({"title": "Brot"}))
    assert later.refusal is not None
    assert later.refusal.code == "answered"
    assert len(await records(world, "tasks")) == 1


async def test_nobody_answers_what_has_expired(world: World, store: ProposalStore):
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    await world.sql("UPDATE mana_ai.proposals SET expires_at = clock_timestamp()")
    result = await answered(store, proposal.id, Approve())
    assert result.refusal is not None
    assert (result.refusal.code, result.proposal.state) == ("expired", "expired")
    assert await records(world, "tasks") == {}
    (found,) = await store.list("u1", 10, ProposalFilter())
    assert found.decision is not None
    assert (found.state, found.decision.by) == ("expired", "auto-expire")
    assert (await shown(world))[0]["plan"][0]["status"] == "skipped"


async def test_a_plan_from_long_ago_is_never_put_to_anybody(world: World, store: ProposalStore):
    old = text(datetime.now(UTC) - timedelta(days=31))
    await mission_with(world, plan(TASK, startedAt=old, finishedAt=old))
    (proposal,) = await staged(store)
    assert proposal.state == "expired"


async def test_not_now_waits_until_its_time(world: World, store: ProposalStore):
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    until = datetime.now(UTC) + timedelta(hours=1)
    result = await answered(store, proposal.id, NotNow(until))
    assert (result.proposal.state, result.changed) == ("pending", True)
    assert await store.list("u1", 10, ProposalFilter(due=True)) == []
    past = await answered(store, proposal.id, NotNow(datetime.now(UTC) - timedelta(hours=1)))
    assert past.refusal is not None
    assert past.refusal.code == "past"
    assert (await answered(store, proposal.id, Approve())).proposal.state == "done"


OBSTACLES: dict[str, tuple[str, Json, str]] = {
    "the mission is deleted": ("aiMissions", {"deletedAt": NOW}, "its mission is deleted"),
    "the mission has another agent": (
        "aiMissions",
        {"agentId": "a2"},
        "its agent is gone",
    ),
    "the agent is paused": ("agents", {"state": "paused"}, "its agent is paused"),
    "the agent is archived": ("agents", {"state": "archived"}, "its agent is archived"),
    "the agent is deleted": ("agents", {"deletedAt": NOW}, "its agent is gone"),
    "the tool is denied": (
        "agents",
        {"policy": {"tools": {"create_task": "deny"}, "defaultForAi": "propose"}},
        "its agent may not use create_task any more",
    ),
    "the module is denied": (
        "agents",
        {"policy": {"tools": {}, "defaultsByModule": {"todo": "deny"}, "defaultForAi": "auto"}},
        "its agent may not use create_task any more",
    ),
}


@pytest.mark.parametrize("what", OBSTACLES)
@pytest.mark.parametrize("is_folded", [True, False])
async def test_what_its_owner_took_away_meanwhile_is_not_carried_out(
    world: World, store: ProposalStore, what: str, *, is_folded: bool
):
    client = await mission_with(world, plan(TASK))
    await client.agent()
    await world.driver.fold_all()
    (proposal,) = await staged(store)
    table, change, why = OBSTACLES[what]
    record = "m1" if table == "aiMissions" else AGENT
    ahead = datetime.now(UTC) + timedelta(seconds=5)
    await client.edit(record, table=table, stamp=ahead, **change)
    if is_folded:
        await world.driver.fold_all()
    result = await answered(store, proposal.id, Approve())
    assert result.refusal is not None
    assert (result.proposal.state, result.refusal.why) == ("refused", why)
    assert await records(world, "tasks") == {}


async def test_what_was_refused_may_be_approved_once_nothing_stands_in_the_way(
    world: World, store: ProposalStore
):
    client = await mission_with(world, plan(TASK))
    await client.agent()
    (proposal,) = await staged(store)
    await client.edit(AGENT, table="agents", state="paused")
    assert (await answered(store, proposal.id, Approve())).proposal.state == "refused"
    ahead = datetime.now(UTC) + timedelta(seconds=5)
    await client.edit(AGENT, table="agents", state="active", stamp=ahead)
    assert (await answered(store, proposal.id, Approve())).proposal.state == "done"
    assert len(await records(world, "tasks")) == 1


# --- standing approvals ---------------------------------------------------------------------------


def standing(number: int = 1, **more: Any) -> StandingApproval:
    said: Json = {"tool": "create_task", "module": None, "until": None, "per_day": None, **more}
    id_ = f"00000000-0000-0000-0000-{number:012}"
    return StandingApproval(id=id_, agent_id=AGENT, created_at=datetime.now(UTC), **said)


async def test_what_is_always_allowed_is_carried_out_without_asking(
    world: World, store: ProposalStore
):
    await store.add_approval(ME, standing())
    await mission_with(world, plan(TASK, call(1, "create_note", content="x")))
    await staged(store)
    states = {one.tool: one for one in await store.list("u1", 10, ProposalFilter())}
    assert states["create_note"].state == "pending"
    done = states["create_task"]
    assert done.decision is not None
    assert (done.state, done.decision.by) == ("done", "standing-approval")
    assert done.decision.approval_id == standing().id
    assert len(await records(world, "tasks")) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"tool": "create_note"},
        {"tool": None, "module": "notes"},
        {"until": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)
async def test_a_standing_approval_covers_only_what_it_says(
    world: World, store: ProposalStore, changed: Json
):
    await store.add_approval(ME, standing(**changed))
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    assert proposal.state == "pending"


async def test_a_standing_approval_counts_its_uses_of_a_day(world: World, store: ProposalStore):
    await store.add_approval(ME, standing(tool=None, module="todo", per_day=2))
    await mission_with(world, plan(*(call(n, "create_task", title=f"t{n}") for n in range(4))))
    await staged(store)
    assert len(await records(world, "tasks")) == 2
    states = sorted(one.state for one in await store.list("u1", 10, ProposalFilter()))
    assert states == ["done", "done", "pending", "pending"]


async def test_a_revoked_standing_approval_approves_nothing_more(
    world: World, store: ProposalStore
):
    await store.add_approval(ME, standing())
    assert await store.revoke_approval(ME, standing().id)
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    assert proposal.state == "pending"
    assert await store.approvals("u1") == []
    (kept,) = await store.approvals("u1", revoked=True)
    assert kept.revoked_at is not None


async def test_one_revoked_after_it_was_read_approves_nothing(world: World):
    """The approval was found fitting before; under the lock it is looked at again."""
    connections = Connections(world.access("mana_gateway"), max_connections=4)
    revoked: list[bool] = []

    async def revoke() -> None:
        revoked.append(await store.revoke_approval(ME, standing().id))

    class Slow(ProposalStore):
        async def _answer(
            self, asked: Answering, id_: str, answer: Answer, approval: str | None
        ) -> Answered | None:
            await revoke()
            return await super()._answer(asked, id_, answer, approval)

    store = Slow(connections, CatalogueShelf())
    await store.add_approval(ME, standing())
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    assert (revoked, proposal.state) == ([True], "pending")
    assert await records(world, "tasks") == {}
    await store.close()


async def test_a_paused_agents_standing_approval_leaves_it_to_its_owner(
    world: World, store: ProposalStore
):
    await store.add_approval(ME, standing())
    client = await mission_with(world, plan(TASK))
    await client.agent(state="paused")
    (proposal,) = await staged(store)
    assert proposal.state == "pending"
    assert await records(world, "tasks") == {}


# --- undo -----------------------------------------------------------------------------------------


async def test_undo_hides_what_was_made_and_says_so_everywhere(world: World, store: ProposalStore):
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    await answered(store, proposal.id, Approve())
    result = await store.undo(ME, proposal.id)
    assert result is not None
    assert (result.proposal.state, result.changed) == ("undone", True)
    assert await records(world, "tasks") == {}
    again = await store.undo(ME, proposal.id)
    assert again is not None
    assert (again.changed, again.refusal) == (False, None)
    (iteration,) = await shown(world)
    assert iteration["plan"][0]["status"] == "skipped"


async def test_undo_gives_a_changed_note_its_old_words_back(world: World, store: ProposalStore):
    client = await mission_with(
        world, plan(call(0, "update_note", noteId="n1", content="neu", title="Titel"))
    )
    note = {"id": "n1", "content": "alt", "createdAt": NOW}
    await client.push("insert", "n1", note, table="notes", app="notes")
    (proposal,) = await staged(store)
    assert (await answered(store, proposal.id, Approve())).proposal.state == "done"
    assert (await records(world, "notes"))["n1"]["content"] == "neu"
    await store.undo(ME, proposal.id)
    after = (await records(world, "notes"))["n1"]
    assert (after["content"], after["title"]) == ("alt", None)


@pytest.mark.parametrize("tool", ["create_task", "update_note"])
async def test_undo_never_loses_what_was_written_since(
    world: World, store: ProposalStore, tool: str
):
    steps = {"create_task": TASK, "update_note": call(0, "update_note", noteId="n1", content="b")}
    client = await mission_with(world, plan(steps[tool]))
    note = {"id": "n1", "content": "a", "createdAt": NOW}
    await client.push("insert", "n1", note, table="notes", app="notes")
    (proposal,) = await staged(store)
    await answered(store, proposal.id, Approve())
    done = await store.find("u1", proposal.id)
    assert done is not None
    (wrote,) = done.written
    ahead = datetime.now(UTC) + timedelta(seconds=5)
    field = "title" if tool == "create_task" else "content"
    await client.push(
        "update",
        wrote.id,
        {field: "meins"},
        meta={field: text(ahead)},
        table=wrote.table,
        app=wrote.app,
    )
    result = await store.undo(ME, proposal.id)
    assert result is not None
    assert result.refusal is not None
    assert result.refusal.code == "changed-since"
    assert (await records(world, wrote.table))[wrote.id][field] == "meins"


async def test_a_whole_plan_is_taken_back_the_last_first(world: World, store: ProposalStore):
    client = await mission_with(
        world,
        plan(
            call(0, "append_to_note", noteId="n1", content="eins"),
            call(1, "append_to_note", noteId="n1", content="zwei"),
            call(2, "create_task", title="x"),
        ),
    )
    note = {"id": "n1", "content": "alt", "createdAt": NOW}
    await client.push("insert", "n1", note, table="notes", app="notes")
    for proposal in reversed(await staged(store)):
        await answered(store, proposal.id, Approve())
    assert (await records(world, "notes"))["n1"]["content"] != "alt"
    results = await store.revert(ME, "i1")
    assert [result.proposal.state for result in results] == ["undone"] * 3
    assert (await records(world, "notes"))["n1"]["content"] == "alt"
    assert await records(world, "tasks") == {}


# --- what only a device can write -----------------------------------------------------------------

VAULT = Answering("u1", has_vault=True)


async def test_a_person_with_a_vault_gets_no_plain_words_from_us(
    world: World, store: ProposalStore
):
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    result = await answered(store, proposal.id, Approve(), VAULT)
    assert (result.proposal.state, result.refusal) == ("waiting-for-device", None)
    assert await records(world, "tasks") == {}
    step = (await shown(world))[0]["plan"][0]
    assert (step["status"], step["waitsFor"]) == ("staged", "device")


async def test_a_table_that_holds_sealed_values_gets_no_plain_ones(
    world: World, store: ProposalStore
):
    client = await mission_with(world, plan(TASK, call(1, "complete_task", taskId="t1")))
    sealed = {"id": "t1", "title": "enc:1:AAAA.BBBB", "isCompleted": False, "createdAt": NOW}
    await client.push("insert", "t1", sealed, table="tasks", app="todo")
    by_tool = {one.tool: one for one in await staged(store)}
    made = await answered(store, by_tool["create_task"].id, Approve())
    assert made.proposal.state == "waiting-for-device"
    # That a task is done is not sealed: nothing keeps the server from writing it.
    done = await answered(store, by_tool["complete_task"].id, Approve())
    assert done.proposal.state == "done"
    task = (await records(world, "tasks"))["t1"]
    assert (task["isCompleted"], task["title"]) == (True, "enc:1:AAAA.BBBB")


async def test_one_device_carries_out_what_waits_and_no_other_meanwhile(
    world: World, store: ProposalStore
):
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    await answered(store, proposal.id, Approve(), VAULT)
    results = await asyncio.gather(
        store.claim(ME, proposal.id, "phone"), store.claim(ME, proposal.id, "laptop")
    )
    codes = [r.refusal.code if r and r.refusal else "" for r in results]
    assert sorted(codes) == ["", "claimed"]
    winner, loser = ("phone", "laptop") if codes[0] == "" else ("laptop", "phone")
    refused = await store.finish(ME, proposal.id, loser, None)
    assert refused is not None
    assert refused.refusal is not None
    for is_new in (True, False):
        done = await store.finish(ME, proposal.id, winner, None)
        assert done is not None
        assert (done.proposal.state, done.changed) == ("done", is_new)
    assert (await shown(world))[0]["plan"][0]["status"] == "approved"


async def test_a_device_that_died_loses_its_claim_after_a_while(world: World, store: ProposalStore):
    await mission_with(world, plan(TASK))
    (proposal,) = await staged(store)
    await answered(store, proposal.id, Approve(), VAULT)
    await store.claim(ME, proposal.id, "phone")
    await world.sql("UPDATE mana_ai.proposals SET claimed_until = clock_timestamp()")
    second = await store.claim(ME, proposal.id, "laptop")
    assert second is not None
    assert second.refusal is None
    assert second.proposal.claimed_by == "laptop"


async def test_a_device_is_told_what_was_taken_away_after_the_approval(
    world: World, store: ProposalStore
):
    client = await mission_with(world, plan(TASK))
    await client.agent()
    (proposal,) = await staged(store)
    await answered(store, proposal.id, Approve(), VAULT)
    await client.edit(AGENT, table="agents", state="archived")
    claimed = await store.claim(ME, proposal.id, "phone")
    assert claimed is not None
    assert claimed.refusal is not None
    assert (claimed.proposal.state, claimed.refusal.why) == ("refused", "its agent is archived")


async def test_a_device_claims_nothing_by_a_revoked_standing_approval(
    world: World, store: ProposalStore
):
    await store.add_approval(VAULT, standing())
    await mission_with(world, plan(TASK))
    await store.stage_all(VAULT)
    (proposal,) = await store.list("u1", 10, ProposalFilter())
    assert proposal.state == "waiting-for-device"
    await store.revoke_approval(ME, standing().id)
    claimed = await store.claim(ME, proposal.id, "phone")
    assert claimed is not None
    assert claimed.refusal is not None
    assert claimed.refusal.why == "its standing approval was revoked"


async def test_a_sealed_plan_waits_for_a_device_and_cannot_be_edited_here(
    world: World, store: ProposalStore
):
    step = {**TASK, "summary": "enc:1:A.B", "rationale": "enc:1:A.B"}
    step["intent"] = {"kind": "toolCall", "toolName": "create_task", "params": "enc:1:A.B"}
    await mission_with(world, plan(step, sealedFor={"keyId": "k", "sealedKey": "s"}))
    (proposal,) = await staged(store)
    assert (proposal.params, "enc:1" in proposal.rationale) == (None, False)
    edited = await answered(store, proposal.id, Approve({"title": "x"}))
    assert edited.refusal is not None
    assert edited.refusal.code == "sealed"
    result = await answered(store, proposal.id, Approve())
    assert result.proposal.state == "waiting-for-device"
