"""What only an owner's device can write: claimed, written once, told; and the inbox there."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mana_actors.client import Client, NotSignedIn
from mana_actors.client.inbox import device
from mana_actors.client.owner.sealing import new_private_key
from state.log.own_changes import RecordAt
from state.proposals.proposal import new_change_id, new_record_id
from state.sealing.derived_text import Place, sealed_iteration
from state.sealing.key_pairs import OwnerKey, key_id
from state.sealing.values import DataKey, is_sealed
from tests.devices import APPROVE, Home, Stopped
from tests.inbox import TASK, call, mission_with, plan
from tests.inbox import records as log_records
from tests.integration.support import Json

pytestmark = pytest.mark.one_postgres

REJECT: Json = {"status": "resolved", "payload": {"approved": False, "feedback": "nein"}}
NOTE: Json = {"id": "n1", "title": "Liste", "content": "Brot", "authorId": "u1"}
APPEND = call(0, "append_to_note", noteId="n1", content="Milch")


async def with_task(home: Home) -> None:
    """A task that was approved and waits for a device."""
    await mission_with(home.world, plan(TASK))
    assert await home.answer() == "waiting-for-device"


async def with_line(home: Home) -> None:
    """A line to be added to a sealed note, approved."""
    async with home.device("setup") as client:
        fields = home.keys.seal("notes", {n: v for n, v in NOTE.items() if n != "id"})
        await client.table("notes").insert(fields, "n1")
        await client.sync("notes")
    await mission_with(home.world, plan(APPEND))
    assert await home.answer() == "waiting-for-device"


async def test_a_device_writes_it_sealed_and_signed_by_the_agent_and_says_so(home: Home):
    await with_task(home)
    (told,) = await home.listed()
    assert [one.outcome for one in await home.carried_out("a")] == ["done"]
    assert await home.state() == "done"
    ((id_, written),) = (await log_records(home.world, "tasks")).items()
    assert id_ == new_record_id(told["id"], 0)
    assert is_sealed(written["title"])
    assert home.keys.open(written)["title"] == "Einkaufen"
    assert (written["isCompleted"], written["order"], written["authorId"]) == (False, 0, "u1")
    assert "updatedAt" not in written
    (row,) = await home.world.sql(
        "SELECT actor ->> 'iterationId' AS iteration, origin FROM public.sync_changes"
        " WHERE table_name = 'tasks'"
    )
    assert (row["iteration"], row["origin"]) == ("i1", "agent")
    assert await home.carried_out("b") == []


async def test_two_devices_at_once_write_it_once(home: Home):
    await with_task(home)
    async with home.device("a") as a, home.device("b") as b:
        both = await asyncio.gather(a.proposals.carry_out(), b.proposals.carry_out())
    assert [one.outcome for told in both for one in told] == ["done"]
    assert (await home.state(), await home.rows("tasks")) == ("done", 1)


@pytest.mark.parametrize(
    "point", ["claimed", "before_local_commit", "written_here", "pushed_before_told",
              "told_before_forgotten"],
)  # fmt: skip
async def test_a_device_that_is_killed_does_it_once_when_it_is_back(home: Home, point: str):
    await with_line(home)
    async with home.device("a") as client:
        await client.sync("ai", "notes")  # its first commits are behind it
    await home.dies("a", point)
    for _ in range(2):
        await home.carried_out("a")
    assert await home.state() == "done"
    (note,) = await home.records("notes")
    assert (note["content"], await home.rows("notes")) == ("Brot\nMilch", 1)


@pytest.mark.parametrize("point", ["claimed", "written_here", "pushed_before_told"])
async def test_what_a_device_left_is_done_once_by_another_and_not_again_when_it_is_back(
    home: Home, point: str
):
    await with_line(home)
    await home.dies("a", point)
    assert await home.carried_out("b") == []  # it is the first one's for ten minutes
    await home.claims_end()
    assert [one.outcome for one in await home.carried_out("b")] == ["done"]
    await home.carried_out("a")
    assert await home.state() == "done"
    (note,) = await home.records("notes")
    assert (note["content"], await home.rows("notes")) == ("Brot\nMilch", 1)
    async with home.device("a") as client:
        await client.sync("notes")
        shown = await client.table("notes").get("n1")
        assert shown is not None
        assert home.keys.open(shown.fields)["content"] == "Brot\nMilch"
        assert await client.refused() == []


async def test_what_was_written_and_not_pushed_never_lands_once_its_owner_said_no(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(device, "HELD_BACK_MS", 600_000)  # its claim is over as soon as it has it
    await with_task(home)
    async with home.device("a", stops_at="written_here") as client:
        with pytest.raises(Stopped):
            await client.proposals.carry_out()
        assert len(await client.table("tasks").list()) == 1
        await client.sync()
        assert await home.rows("tasks") == 0
        await home.claims_end()
        assert await home.answer(REJECT) == "rejected"
        (left,) = await client.proposals.carry_out()
        assert left.outcome == "left"
        await client.sync()
        assert await client.proposals.carry_out() == []
        assert await client.table("tasks").list() == []
    assert await home.rows("tasks") == 0


async def test_an_id_that_a_stranger_took_is_not_taken_for_another_device(home: Home):
    await with_task(home)
    (told,) = await home.listed()
    record = new_record_id(told["id"], 0)
    taken = new_change_id(told["id"], RecordAt("todo", "tasks", record), 0)
    await home.house.sql(
        "INSERT INTO public.sync_changes"
        " (id, app_id, table_name, record_id, user_id, op, client_id)"
        " VALUES ($1, 'todo', 'tasks', 'x', 'stranger', 'insert', 'c-9')",
        taken,
    )
    (refused,) = await home.carried_out("a")
    assert (refused.outcome, "change id" in refused.why) == ("refused", True)
    assert (await home.state(), await home.rows("tasks")) == ("refused", 0)
    async with home.device("a") as client:
        assert await client.table("tasks").list() == []


async def test_what_cannot_be_done_is_told_with_why(home: Home):
    await with_line(home)
    async with home.device("setup") as client:
        await client.table("notes").delete("n1")
        await client.sync("notes")
    (told,) = await home.carried_out("a")
    assert (told.outcome, "no such record" in told.why) == ("refused", True)
    assert await home.state() == "refused"
    assert await home.carried_out("b") == []


async def test_a_plan_that_is_sealed_is_opened_and_carried_out_where_its_key_is(home: Home):
    private, public = new_private_key()
    iteration = sealed_iteration(
        plan(TASK),
        OwnerKey(key_id(public), public),
        Place("u1", "m1", "i1"),
        DataKey(bytearray(range(32))),
        lambda: bytes(12),
    )
    await mission_with(home.world, iteration)
    assert await home.answer() == "waiting-for-device"
    assert await home.carried_out("without") == []
    home.private_keys = [private]
    assert [one.outcome for one in await home.carried_out("with")] == ["done"]
    assert [task["title"] for task in await home.records("tasks")] == ["Einkaufen"]


async def test_without_keys_nothing_is_claimed(home: Home):
    await with_task(home)
    async with home.device("a", keyless=True) as client:
        with pytest.raises(NotSignedIn):
            await client.proposals.carry_out()
    (told,) = await home.listed()
    assert told["metadata"]["mana"]["claimedBy"] is None


# --- the inbox on a device ------------------------------------------------------------------------


def short(of: Json) -> tuple[str, str, str, Json]:
    mana = of["metadata"]["mana"]
    return of["id"], mana["state"], mana["tool"], mana["params"]


async def shown(client: Client) -> list[tuple[str, str, str, Json | None]]:
    return [(one.id, one.state, one.tool, one.params) for one in await client.proposals.list()]


async def test_the_inbox_here_is_the_servers_also_while_it_is_away(home: Home):
    await mission_with(home.world, plan(TASK, call(1, "complete_goal", goalId="g1")))
    async with home.device("a") as client:
        await client.sync("ai")
        unstaged = sorted(await shown(client))
    async with home.device("offline", away=True) as client:
        assert await shown(client) == []
    told = sorted(map(short, await home.listed()))
    assert unstaged == told
    async with home.device("a") as client:
        assert sorted(await shown(client)) == told
        await client.sync("ai")
    async with home.device("a", away=True) as client:
        assert sorted(await shown(client)) == told


async def test_a_device_knows_the_proposals_of_a_plan_before_the_server_made_them(home: Home):
    await mission_with(home.world, plan(TASK))
    async with home.device("a") as client:
        await client.sync("ai")
    async with home.device("a", away=True) as client:
        (known,) = await client.proposals.list()
        await client.proposals.approve(known.id)
        (waits,) = await client.proposals.list()
        assert (waits.state, waits.answered_here) == ("pending", APPROVE)
    (made,) = await home.listed()
    assert known.id == made["id"]
    async with home.device("a") as client:
        assert await client.proposals.send_answers() == 1
        assert await client.proposals.send_answers() == 0
        (after,) = await client.proposals.list()
    assert (after.state, after.answered_here) == ("waiting-for-device", None)


async def test_an_answer_of_here_that_comes_too_late_is_kept_with_why(home: Home):
    await mission_with(home.world, plan(TASK))
    await home.listed()
    async with home.device("a") as client:
        (known,) = await client.proposals.list()
    async with home.device("a", away=True) as client:
        await client.proposals.approve(known.id, {"title": "Anderes"})
    assert await home.answer(REJECT) == "rejected"
    async with home.device("a") as client:
        assert await client.proposals.send_answers() == 0
        (late,) = await client.proposals.list()
        assert (late.state, "rejected" in late.refused_answer) == ("rejected", True)
        await client.proposals.forget_answer(known.id)
        (told,) = await client.proposals.list()
        assert told.refused_answer == ""
    assert await home.rows("tasks") == 0


async def test_a_proposal_can_be_put_off_and_changed_here(home: Home):
    await mission_with(home.world, plan(TASK))
    async with home.device("a") as client:
        (one,) = await client.proposals.list()
        await client.proposals.later(one.id, datetime.now(UTC) + timedelta(days=1))
        (one,) = await client.proposals.list()
        assert (one.state, one.not_before is None) == ("pending", False)
        await client.proposals.approve(one.id, {"title": "Brot kaufen"})
        await client.proposals.carry_out()
        (one,) = await client.proposals.list()
    assert (one.state, one.edited) == ("done", {"title": "Brot kaufen"})
    assert [task["title"] for task in await home.records("tasks")] == ["Brot kaufen"]
