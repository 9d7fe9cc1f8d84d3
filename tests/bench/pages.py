"""What pages take on an installation of many: 1,000 people, 10,000 missions, 200,000 runs."""

import re
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2

from state.store.connect import Database
from state.store.supervisor.schedule import ScheduleStore
from state.store.supervisor.snapshots import SnapshotStore
from tests.bench.figures import Figure, Say, percentile, timed
from tests.bench.ground import Ground, ground, sql
from tests.owners import House, open_house

PEOPLE, EACH, RUNS = 1_000, 10, 20
OF_ONE = 200
"""Missions of the one person whose pages are asked for."""
MOST_MS = 150.0
TIMES = 40


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """Each page by HTTP over loopback, whole: milliseconds, p95, beside the median."""
    people = PEOPLE // 10 if quick else PEOPLE
    async with ground(say) as made:
        await _filled(say, made, people)
        with tempfile.TemporaryDirectory() as folder:
            async with open_house(made.database, Path(folder), auth_url=None) as house:
                return await _measured(say, house, people)


async def _filled(say: Say, made: Ground, people: int) -> None:
    say(f"writing {people} people with {EACH} missions each, and {OF_ONE} of the first")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await made.agents(people)
    await made.missions("m", people, EACH, tomorrow)
    await made.missions("own", 1, OF_ONE - EACH, tomorrow)
    database = Database(made.access("mana_supervisor"), max_connections=2)
    try:
        snapshots = SnapshotStore(database, await made.lease(ScheduleStore(database)))
        while (await snapshots.fold(limit=5_000)).rows:
            pass
    finally:
        await database.close()
    say(f"writing {RUNS} runs of each")
    await made.sql.execute(sql("past_runs"), RUNS)
    await made.sql.execute("VACUUM ANALYZE")


async def _measured(say: Say, house: House, people: int) -> list[Figure]:
    client = house.client
    token = (await house.operator("POST", "/login")).json()["token"]
    await _seen(client, f"/login?token={token}")
    await house.operator("POST", "/people", {"user": "u1"})
    link = (await house.operator("POST", "/people/u1/link")).json()["link"]
    origin = {"Origin": str(client.base_url).rstrip("/")}
    form = {"link": link.rpartition("link=")[2]}
    assert (await client.post("/sign-in", data=form, headers=origin)).is_redirect
    deep = "/fleet?list=missions"
    for _ in range(5):
        found = re.search('href="(/fleet[?][^"]*before=[^"]*)"', await _seen(client, deep))
        deep = deep if found is None else found[1].replace("&amp;", "&")
    rows = await house.sql("SELECT run_id FROM mana_ai.runs WHERE user_id = 'u1' LIMIT 1")
    asked = {
        "triage": "/",
        "fleet": "/fleet",
        "fleet, of one person": f"/fleet?user=u{people // 2}",
        "fleet, only with problems": "/fleet?problems=yes",
        "fleet, the sixth page of missions": deep,
        "missions by their next run": "/fleet?list=missions&sort=next",
        "missions by their last failure": "/fleet?list=missions&sort=failed",
        "agents by what they spent": "/fleet?list=agents&sort=spent",
        "limits": "/limits",
        "models": "/models",
        "runs": "/fleet?list=runs",
        "runs that failed": "/fleet?list=runs&state=failed",
        "a run": f"/runs/{rows[0]['run_id']}",
        "an agent": "/agents/u2/planner",
        "system": "/system",
        "a person's home": "/me",
        "their schedule": "/me/schedule",
        "their agent": "/me/agents/planner",
    }
    figures: list[Figure] = []
    for name, path in asked.items():
        size = len(await _seen(client, path)) / 1000
        times = [await timed(lambda path=path: _seen(client, path)) for _ in range(TIMES)]
        p50, p95 = percentile(times, 0.5), percentile(times, 0.95)
        say(f"{name}: p95 {p95:.0f} ms, p50 {p50:.0f} ms, {size:.0f} kB")
        figures.append(
            Figure(
                name=f"{name}, {size:.0f} kB: p95",
                value=p95,
                unit="ms",
                beside="p50",
                other=p50,
                ratio=p95 / p50,
                target=f"<= {MOST_MS:.0f} ms",
                met=p95 <= MOST_MS,
            )
        )
    return figures


async def _seen(client: httpx2.AsyncClient, path: str) -> str:
    answer = await client.get(path)
    answer.raise_for_status()
    return answer.text
