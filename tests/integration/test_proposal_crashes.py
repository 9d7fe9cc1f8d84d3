"""SIGKILL at every named point of an answer: carried out once or not at all, and shown as it is."""

import asyncio
import signal
import sys

import pytest

from state.proposals.answers import Approve
from state.store.connect import Database as Connections
from state.store.gateway.proposals import ProposalFilter, ProposalStore
from supervisor.gateway.people.inbox.shelf import CatalogueShelf
from tests.inbox import ME, TASK, call, mission_with, plan, records, shown, staged
from tests.integration.support import World, open_world
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres


async def dies_at(world: World, proposal: str, point: str) -> None:
    access = world.access("mana_gateway")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.inbox_worker",
        access.dsn,
        access.password_file,
        proposal,
        point,
    )
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("point", ["claimed", "written", "saved", "mirrored", "committed"])
async def test_an_answer_that_is_killed_is_whole_or_nothing_and_may_be_given_again(
    database: Database, point: str
):
    async with open_world(database) as world:
        await mission_with(world, plan(TASK))
        store = ProposalStore(
            Connections(world.access("mana_gateway"), max_connections=2), CatalogueShelf()
        )
        (proposal,) = await staged(store)
        await dies_at(world, proposal.id, point)
        landed = point == "committed"
        (after,) = await store.list("u1", 10, ProposalFilter())
        assert after.state == ("done" if landed else "pending")
        assert len(await records(world, "tasks")) == landed
        status = (await shown(world))[0]["plan"][0]["status"]
        assert status == ("approved" if landed else "staged")
        again = await store.answer(ME, proposal.id, Approve())
        assert again is not None
        assert (again.proposal.state, again.changed) == ("done", not landed)
        assert len(await records(world, "tasks")) == 1
        await store.close()


async def test_staging_that_is_killed_is_done_again_whole(database: Database):
    async with open_world(database) as world:
        await mission_with(world, plan(TASK))
        await dies_at(world, "", "staged_before_mirror")
        store = ProposalStore(
            Connections(world.access("mana_gateway"), max_connections=2), CatalogueShelf()
        )
        assert await store.list("u1", 10, ProposalFilter()) == []
        assert [one.state for one in await staged(store)] == ["pending"]
        assert (await shown(world))[0]["plan"][0]["status"] == "staged"
        await store.close()


@pytest.mark.parametrize("point", ["saved", "mirrored", "committed"])
async def test_a_claim_and_what_a_device_tells_are_whole_or_nothing(database: Database, point: str):
    async with open_world(database) as world:
        await mission_with(world, plan(call(0, "publish_website", siteId="w")))
        store = ProposalStore(
            Connections(world.access("mana_gateway"), max_connections=2), CatalogueShelf()
        )
        (proposal,) = await staged(store)
        await store.answer(ME, proposal.id, Approve())
        landed = point == "committed"
        await dies_at(world, proposal.id, f"claim_{point}")
        (claimed,) = await store.list("u1", 10, ProposalFilter())
        assert claimed.claimed_by == ("d-1" if landed else "")
        step = (await shown(world))[0]["plan"][0]
        assert (step.get("claimedBy"), "claimedUntil" in step) == (
            "d-1" if landed else None,
            landed,
        )
        again = await store.claim(ME, proposal.id, "d-1")
        assert again is not None
        assert again.refusal is None, "its own claim keeps no device from going on"
        await dies_at(world, proposal.id, f"told_{point}")
        (told,) = await store.list("u1", 10, ProposalFilter())
        assert told.state == ("done" if landed else "waiting-for-device")
        again = await store.finish(ME, proposal.id, "d-1", None)
        assert again is not None
        assert (again.proposal.state, again.changed) == ("done", not landed)
        step = (await shown(world))[0]["plan"][0]
        assert (step["status"], "claimedBy" in step, "waitsFor" in step) == (
            "approved",
            False,
            False,
        )
        await store.close()
