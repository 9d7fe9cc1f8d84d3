"""SIGKILL of the gateway and of a device at every point of a sync: all ends the same, once."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

import httpx2
import msgspec
import pytest

from mana_actors.client import Client, ServerAway
from tests.devices import Home
from tests.inbox import log_record
from tests.integration.support import DONE, PLAN, Json, until
from tests.integration.test_two_devices import APPS, everything
from tests.owners import House
from tests.ports import free_port

pytestmark = pytest.mark.one_postgres

IN_A_PUSH = ("sync_in_push", "sync_after_push", "sync_in_page", "sync_before_answer")
IN_A_STREAM = "sync_in_event"
IN_THE_INBOX = ("committed", "claim_committed", "sync_after_push", "told_committed")
IN_A_CLIENT = (
    ("before_local_commit", "write"),
    ("after_local_commit", "write"),
    ("before_push", "sync"),
    ("after_push_before_settled", "sync"),
    ("while_applying", "sync"),
    ("while_purging", "sync"),
)
WITHIN_S = 60.0
T = TypeVar("T")


class KilledGateway:
    """A second gateway of a house, in a process of its own, that is started again as it dies."""

    def __init__(self, house: House, folder: Path) -> None:
        points = {*IN_A_PUSH, IN_A_STREAM, *IN_THE_INBOX}
        self._files = {point: folder / f"crash-{point}" for point in sorted(points)}
        spec = ",".join(f"{point}:{file}" for point, file in self._files.items())
        agent = msgspec.structs.replace(house.settings.agent, crash_at=spec)
        port = free_port()
        settings = msgspec.structs.replace(house.settings, agent=agent)
        dsn = house.database.dsn("mana_gateway")
        self._given = msgspec.json.encode({"settings": settings, "dsn": dsn, "port": port})
        self.url = f"http://127.0.0.1:{port}"
        self.deaths = 0

    async def __aenter__(self) -> Self:
        self._process = await self._started()
        self._kept = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._kept.cancel()
        with suppress(asyncio.CancelledError):
            await self._kept
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def arm(self, *points: str) -> None:
        """Have it die at each of these, once."""
        for point in points:
            self._files[point].touch()

    @property
    def armed(self) -> set[str]:
        return {point for point, file in self._files.items() if file.exists()}

    async def _started(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.gateway_worker", stdin=PIPE, stdout=PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(self._given)
        process.stdin.close()
        assert await process.stdout.readline() == b"serving\n"
        return process

    async def _keep(self) -> None:
        while True:
            assert await self._process.wait() == -signal.SIGKILL
            self.deaths += 1
            self._process = await self._started()


async def until_answered(ask: Callable[[], Awaitable[T]]) -> T:
    """What a device does in the end, however often the server goes away meanwhile."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            with suppress(ServerAway):
                return await ask()


async def dies(home: Home, record: str, point: str, when: str) -> None:
    """Device w writes RECORD and RECORD-2 and syncs, and is killed at a point of that."""
    given = str(home.folder / "w"), str(home.house.client.base_url), record, point, when
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.client_worker", *given, stdin=PIPE
    )
    await process.communicate(home.house.auth.token("u1").encode())
    assert process.returncode == -signal.SIGKILL


async def shows(client: Client, wanted: set[str]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            if wanted <= {one.id for one in await client.table("tasks").list()}:
                return
            await asyncio.sleep(0.05)


async def is_disarmed(gateway: KilledGateway) -> bool:
    return gateway.armed == set()


async def write(home: Home, name: str, record: str, fields: Json) -> None:
    """Device `name`, away, makes a record and changes t1, in one transaction."""
    async with home.device(name, away=True) as client, client.transaction():
        await client.table("tasks").insert({"title": record, "order": 1}, record)
        await client.table("boards", "todo").insert({"title": record}, f"board-{record}")
        await client.table("tasks").update("t1", fields)


async def test_whatever_is_killed_all_devices_end_the_same_and_nothing_is_doubled(home: Home):
    house = home.house
    async with KilledGateway(house, home.folder) as gateway:
        http = httpx2.AsyncClient(base_url=gateway.url, trust_env=False)
        home.house = House(
            house.database, house.auth, http, house.settings, house.owners, house.supervisor
        )
        await _plays(home, gateway)
        await http.aclose()


async def _plays(home: Home, gateway: KilledGateway) -> None:
    async with home.device("a") as a:
        await a.table("tasks").insert({"title": "Steuer", "order": 0}, "t1")
        await a.sync("todo")
    async with home.device("b") as b:
        await b.sync("todo")
    made: set[str] = set()

    # The gateway dies in the pushes of two devices that were away.
    for point in IN_A_PUSH:
        for name in ("a", "b"):
            await write(home, name, f"{name}-{point}", {f"of-{name}": point, "both": name})
            made.add(f"{name}-{point}")
        gateway.arm(point)
        async with home.device("a") as a, home.device("b") as b:
            await asyncio.gather(*(until_answered(lambda d=d: d.sync("todo")) for d in (a, b)))
        assert gateway.armed == set()

    # It dies in the midst of a page that it streams; the device goes on where it was.
    async with home.live_device("c", "todo") as c:
        await shows(c, made)
        gateway.arm(IN_A_STREAM)
        await write(home, "a", "a-stream", {"of-a": "stream"})
        async with home.device("a") as a:
            await until_answered(lambda: a.sync("todo"))
        made.add("a-stream")
        await shows(c, made)
        assert {one.id for one in await c.table("boards", "todo").list()} >= {"board-a-stream"}
        # The device may show the page before the gateway comes to the point just behind it.
        await until(lambda: is_disarmed(gateway), WITHIN_S)

    # The runtime planned meanwhile; the gateway dies at the answer, the claim, the push, the end.
    await (await home.world.client()).mission()
    await home.world.driver.fold_all()
    home.world.provider.script.extend([PLAN, DONE])
    assert (await home.world.run()).outcome == "ran"
    await home.world.driver.fold_all()
    async with home.device("a") as a:
        await until_answered(lambda: a.sync(*APPS))
        (one,) = await a.proposals.list()
        gateway.arm(*IN_THE_INBOX)
        await a.proposals.approve(one.id, {"title": "Milch holen"})
        outcomes: list[str] = []
        while not outcomes:
            outcomes = [each.outcome for each in await until_answered(a.proposals.carry_out)]
        assert outcomes == ["done"]
        assert gateway.armed == set()

    # A device dies at each of its own points, and is started again.
    for point, when in IN_A_CLIENT:
        await dies(home, f"w-{point}", point, when)
        made |= {f"w-{point}", f"w-{point}-2"} if point != "before_local_commit" else set()
    async with home.device("w/store.db") as w, home.device("a") as a, home.device("b") as b:
        devices = (w, a, b)
        for _ in range(2):
            await asyncio.gather(*(device.sync(*APPS) for device in devices))
        shown = [await everything(device) for device in devices]
        waiting = [sum(one.waiting + one.refused for one in await d.status()) for d in devices]
    assert shown[0] == shown[1] == shown[2]
    assert waiting == [0, 0, 0]
    for (table, id_), (fields, stamps) in shown[0].items():
        replay = await log_record(home.world, table, id_)
        assert replay.fields == fields
        assert replay.stamps.items() <= stamps.items()
    tasks = {id_ for table, id_ in shown[0] if table == "tasks"}
    assert made | {"t1"} < tasks
    assert len(tasks - made - {"t1"}) == 1, "what was approved was carried out once"
    inserted = await home.world.sql(
        "SELECT record_id, count(*) AS n FROM public.sync_changes"
        " WHERE op = 'insert' AND app_id = 'todo' GROUP BY record_id"
    )
    assert {row["n"] for row in inserted} == {1}
    assert gateway.deaths == len(IN_A_PUSH) + 1 + len(IN_THE_INBOX)
