"""A device that carries out what was approved hears of everything that comes meanwhile."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from mana_actors.client.inbox import proposals
from mana_actors.client.inbox.device import CarryOut
from mana_actors.client.inbox.proposals import CarriedOut, Proposals
from mana_actors.client.owner.sealing import OwnerKeys
from mana_actors.client.server.remote import Remote
from tests.unit.test_client_store import opened


async def test_a_plan_that_comes_while_a_device_looks_is_looked_at_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As where it opens: the first sync brings plans while it asks what there is to do."""
    monkeypatch.setattr(proposals, "EVERY_S", 3600.0)
    monkeypatch.setattr(proposals, "AFTER_CHANGE_S", 0.0)
    async with opened(tmp_path) as client:
        looks, again = 0, asyncio.Event()

        async def once(_: CarryOut) -> list[CarriedOut]:
            nonlocal looks
            looks += 1
            if looks == 1:
                await client.table("aiMissions").put("m1", {"title": "Plan"})
            else:
                again.set()
            return []

        monkeypatch.setattr(CarryOut, "once", once)
        keys = OwnerKeys("u1", bytearray(32))
        running = asyncio.create_task(Proposals(client, cast("Remote", object()), keys).run())
        try:
            async with asyncio.timeout(20):
                await again.wait()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
