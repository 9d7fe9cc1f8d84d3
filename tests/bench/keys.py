"""What a granted record costs: the key, opening the record, and the rows of the audit."""

import asyncio
import json
import secrets
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from mana_actors.keys.client import KeyHolder
from mana_actors.keys.releases import Releases
from mana_actors.keys.server import KeyServer
from state.grants.grant import Grantee, GrantFault, opened_grant
from state.rules.budgets import Hold
from state.sealing.values import DataKey, opened_record, sealed_record
from state.store.agent import AgentStore, ReadRecord, keys_capability, note_outcomes
from state.store.connect import Database
from state.store.keys import KeyStore
from state.store.supervisor.schedule import ScheduleStore
from tests.bench.figures import Figure, Say, median, side_by_side
from tests.bench.ground import Ground, ground
from tests.bench.transactions import check_ms
from tests.integration.key_scene import minted, trust

PAIR = ("u1", "a1")
RECORDS = 100
FIELDS = ("title", "content")
RUN = """
INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, lease_until, holder)
VALUES ('u1', 'a1', 'm1', now(), 'open', now() + interval '1 hour', 'bench') RETURNING run_id
"""
MISSION = """
INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, agent_id, record, complete, state)
VALUES ('u1', 'm1', 'a1', $1::jsonb, true, 'active')
"""
FORGET = "DELETE FROM mana_ai.key_releases"
ROTATE = "SELECT mana_ai.rotate_capability_secrets(false)"


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """One run's key, again and again, on connections that are open."""
    times = 30 if quick else 200
    async with ground(say) as made:
        return await _measured(made, say, times)


async def _measured(made: Ground, say: Say, times: int) -> list[Figure]:
    await made.sql.execute(MISSION, json.dumps({"title": "T", "grant": minted()}))
    run: uuid.UUID = await made.sql.fetchval(RUN)
    supervisor = Database(made.access("mana_supervisor"), max_connections=1)
    token = await ScheduleStore(supervisor).sign_capability(*PAIR, (), (), 3600)
    agent = Database(made.access("mana_agent"), max_connections=2)
    store = AgentStore(agent, *PAIR, lambda: token)
    holder_store = KeyStore(Database(made.access("mana_keys"), max_connections=2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "keys", "socket")
        async with KeyServer(Releases(holder_store, trust()), path).serving():
            say(f"{times} keys")
            found = await _figures(made, store, KeyHolder(str(path)), run, times)
    for database in (supervisor, agent, holder_store):
        await database.close()
    return found


async def _figures(
    made: Ground, store: AgentStore, holder: KeyHolder, run: uuid.UUID, times: int
) -> list[Figure]:
    grant = minted()

    async def bare() -> None:
        async with store.transaction() as connection:
            await connection.fetchval("SELECT 1")

    async def leave() -> None:
        await keys_capability(store, run, 1)

    async def room() -> None:
        await store.room_for_call(run, 1, Hold(1000))

    async def key() -> uuid.UUID:
        await made.sql.execute(FORGET)  # a run has a hundred at most
        async with holder.data_key(await keys_capability(store, run, 1), run, 1, "m1") as held:
            return held.release_id

    async def unwrap() -> None:
        await asyncio.sleep(0)
        found = opened_grant(grant, Grantee("u1", "m1"), trusted, time.time_ns())
        assert not isinstance(found, GrantFault)
        found.key.wipe()

    trusted = trust()
    works = [bare, leave, room, key, unwrap]
    plain, asked, found_room, whole, alone = await side_by_side(works, times)
    noted = await _noted_ms(made, store, await key(), times)
    opened = _opened_ms(times)
    check = await check_ms(store)
    long = {records: await _long_check_ms(made, records) for records in (1000, 3000)}
    await made.sql.execute(ROTATE)
    rotating = await check_ms(store)
    beside = "a transaction with a capability"

    def figure(name: str, value: float, most: float | None = None) -> Figure:
        return Figure(
            name=name,
            value=value,
            unit="ms",
            beside=beside,
            other=plain,
            ratio=value / plain,
            target="" if most is None else f"<= {most} ms",
            met=None if most is None else value <= most,
        )

    return [
        figure("capability check, per transaction", check, 0.5),
        *(
            figure(f"capability check, {records} inputs listed", value)
            for records, value in long.items()
        ),
        figure("capability check by the old secret while rotating", rotating, 0.5),
        figure("room for the call, before a key is asked for", found_room),
        figure("leave to ask for a key", asked),
        figure("a key: leave, checks, durable attempt, unwrap, HPKE", whole),
        figure("of that: verify and unwrap the grant", alone),
        figure(f"audit rows of {RECORDS} records, one transaction", noted),
        figure("audit row, each of these", noted / RECORDS),
        figure("open one record (two fields, 2 KB)", opened),
    ]


async def _long_check_ms(made: Ground, records: int) -> float:
    scope = [f"companion/companionGoals/{uuid.uuid4()}" for _ in range(records)]
    supervisor = Database(made.access("mana_supervisor"), max_connections=1)
    token = await ScheduleStore(supervisor).sign_capability(*PAIR, (), scope, 900)
    agent = Database(made.access("mana_agent"), max_connections=1)
    try:
        return await check_ms(AgentStore(agent, *PAIR, lambda: token))
    finally:
        await supervisor.close()
        await agent.close()


async def _noted_ms(made: Ground, store: AgentStore, release: uuid.UUID, times: int) -> float:
    records = [ReadRecord("notes", f"n{number}", "ok") for number in range(RECORDS)]

    async def note() -> None:
        await made.sql.execute("DELETE FROM mana_ai.decrypt_audit")
        await note_outcomes(store, release, "it-1", records)

    return (await side_by_side([note], times))[0]


def _opened_ms(times: int) -> float:
    record: dict[str, Any] = {"id": "n1", "title": "T" * 50, "content": "Inhalt " * 280}
    taken: list[float] = []
    with DataKey(bytearray(secrets.token_bytes(32))) as key:
        whole = sealed_record(record, FIELDS, key, lambda: secrets.token_bytes(12))
        for _ in range(times):
            began = time.perf_counter()
            opened_record(whole, key)
            taken.append((time.perf_counter() - began) * 1000)
    return median(taken)
