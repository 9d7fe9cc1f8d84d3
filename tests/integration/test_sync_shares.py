"""Bounds of what one person pushes and keeps, over real HTTP; the others notice nothing."""

from pathlib import Path

import pytest

from tests.owners import open_house
from tests.postgres import Database
from tests.sync_parts import SyncDevice, insert, update

pytestmark = pytest.mark.one_postgres


async def test_a_flood_of_one_person_is_slowed_and_nobody_else(database: Database, tmp_path: Path):
    async with open_house(database, tmp_path, sync_rows_per_minute=10) as house:
        loud, other = SyncDevice(house, "u1"), SyncDevice(house, "u1", "c-2")
        await loud.push(*[insert(f"t{n}") for n in range(10)])
        again = [insert(f"s{n}") for n in range(10)]
        refused = await loud.post(*again)
        assert (refused.status_code, refused.text) == (429, "too many changes just now")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        accept = {"Accept": "application/problem+json", **other.headers}
        told = await house.client.post("/sync/todo", json={"changes": again}, headers=accept)
        assert (told.status_code, told.json()["status"]) == (429, 429), "all devices of a person"
        assert len((await other.pull())[0]) == 10, "reading is not bounded"
        quiet = SyncDevice(house, "u2")
        assert len((await quiet.push(*again))["results"]) == 10


async def test_a_full_log_takes_deletes_and_says_so(database: Database, tmp_path: Path):
    async with open_house(database, tmp_path, sync_records_max=3, sync_mb_max=1) as house:
        device = SyncDevice(house, "u1")
        await device.push(*[insert(f"t{n}") for n in range(3)])
        refused = await device.post(insert("t3"))
        assert (refused.status_code, refused.text) == (
            507, "the log holds 3 records of yours, which is all there is room for"
        )  # fmt: skip
        await device.push(update("t0", title="x"))
        refused = await device.post(update("t0", title="x" * 1_000_000))
        assert (refused.status_code, "1,000,000 bytes" in refused.text) == (507, True)
        await device.push({"table": "tasks", "id": "t0", "op": "delete"})
        await SyncDevice(house, "u2").push(insert("t3"))
