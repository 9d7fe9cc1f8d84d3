"""Suite `tick`: whole scans of a supervision on a real Postgres, with a scripted model."""

from __future__ import annotations

import asyncio
import atexit
import uuid
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import asyncpg
import msgspec

from mana_actors.messages import AgentSettings, Report
from state.log.stamps import datetime_of, parse_instant
from state.store import embedded
from state.store.connect import Access
from tests.driver import Driver
from tests.fake_provider import FakeProvider
from tests.postgres import (
    SETTINGS,
    SUPERUSER,
    Database,
    TestServer,
    new_folder,
    remove_folder,
    sweep,
)
from tests.vectors.verdict import Case

Given = dict[str, Any]
CLIENT = "vectors"
SHOWN_OF_ITERATION = ("source", "summary", "overallStatus", "plan")
SHOWN_OF_STEP = ("intent", "status", "summary")
SHOWN_OF_ACTOR = ("kind", "principalId", "displayName", "rationale")
GROUPED_USAGE = """
SELECT user_id, agent_id, mission_id, sum(tokens_used)::bigint AS tokens_used
  FROM mana_ai.token_usage WHERE mission_id <> 'earlier'
 GROUP BY user_id, agent_id, mission_id, run_id HAVING sum(tokens_used) > 0 ORDER BY min(id)
"""
WRITTEN = """
SELECT record_id, user_id, op, origin, actor, data FROM sync_changes
 WHERE client_id = 'mana-ai-runner' AND data ? 'iterations' ORDER BY created_at, id
"""
INSERT = """
INSERT INTO sync_changes (id, app_id, table_name, record_id, user_id, op, data, field_meta,
                          client_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8::jsonb, $9, $10)
"""


def give_tick(given: Given) -> Any:
    """What the passes did, in the shape of the suite."""
    database = server().migrated()
    try:
        return asyncio.run(_passes(database, given))
    finally:
        server().drop(database)


def view_tick(value: Any, case: Case) -> Any:
    """Counts alone where the case fixes only them; order of usage and wording are left open."""
    return value | {
        "usage": sorted(value["usage"], key=lambda use: tuple(map(str, use.values()))),
        "ticks": [
            _tick_view(tick, expected)
            for tick, expected in zip(value["ticks"], case["expected"]["ticks"], strict=True)
        ],
    }


def _tick_view(tick: Given, expected: Given) -> Given:
    if "writtenCount" in tick:
        return tick
    if "writtenCount" in expected:
        rest = {key: part for key, part in tick.items() if key != "written"}
        return rest | {"writtenCount": len(tick["written"])}
    return tick | {"written": [_without_wording(row) for row in tick["written"]]}


def _without_wording(row: Given) -> Given:
    iteration: Given = row["newIteration"]
    if iteration["overallStatus"] != "failed":
        return row
    return row | {"newIteration": iteration | {"summary": ""}}


@cache
def server() -> TestServer:
    """An embedded Postgres in a temporary folder, gone when the process ends."""
    sweep()
    folder = new_folder()
    atexit.register(remove_folder, folder)
    return TestServer(embedded.start(folder, progress=lambda _: None, settings=SETTINGS))


class Log:
    """Rows put into a case's database as they are, by somebody whom row security lets pass."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self._rows = 0

    async def put(self, rows: list[Given]) -> None:
        """Rows of the log, with ids that rise in the order given."""
        for row in rows:
            self._rows += 1
            await self.connection.execute(
                INSERT,
                uuid.UUID(int=self._rows),
                *(row[key] for key in ("app_id", "table_name", "record_id", "user_id", "op")),
                *(msgspec.json.encode(row[key]).decode() for key in ("data", "field_meta")),
                CLIENT,
                datetime_of(parse_instant(row["created_at"]) or 0),
            )

    async def put_ledger(self, given: Given) -> None:
        """Earlier token use and pending research."""
        for use in given["tokenUsage"]:
            await self.connection.execute(
                "INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, ts)"
                " VALUES ($1, $2, 'earlier', $3, now() - $4 * interval '1 minute')",
                *(use[key] for key in ("userId", "agentId", "tokens", "minutesAgo")),
            )
        for job in given["researchJobs"]:
            await self.connection.execute(
                "INSERT INTO mana_ai.mission_research_jobs"
                " (user_id, mission_id, task_id, provider_id) VALUES ($1, $2, $3, $4)",
                *(job[key] for key in ("userId", "missionId", "taskId", "providerId")),
            )

    async def written(self) -> list[Given]:
        """Rows with a plan that the runner wrote so far."""
        return [_written(row) for row in await self.connection.fetch(WRITTEN)]

    async def usage(self) -> list[Given]:
        """Tokens recorded, per run."""
        return [dict(row.items()) for row in await self.connection.fetch(GROUPED_USAGE)]

    async def jobs(self) -> list[Given]:
        """Research still pending."""
        rows = await self.connection.fetch("SELECT * FROM mana_ai.mission_research_jobs")
        return [
            {
                "userId": row["user_id"],
                "missionId": row["mission_id"],
                "taskId": row["task_id"],
                "providerId": row["provider_id"],
            }
            for row in rows
        ]


async def _passes(database: Database, given: Given) -> Given:
    admin = await database.connect(SUPERUSER)
    try:
        log = Log(admin)
        await log.put(given["rows"])
        await log.put_ledger(given)
        with FakeProvider(given["script"]) as provider:
            async with driver_on(database, provider.url) as driver:
                ticks = [
                    await _pass(number, given, log, driver, provider)
                    for number in range(given["ticks"])
                ]
        return {"ticks": ticks, "usage": await log.usage(), "jobs": await log.jobs()}
    finally:
        await admin.close()


@asynccontextmanager
async def driver_on(database: Database, model_url: str) -> AsyncGenerator[Driver]:
    def access(role: str) -> Access:
        return Access(database.dsn(role), role, str(database.password_file(role)))

    settings = AgentSettings(
        dsn=database.dsn("mana_agent"),
        role="mana_agent",
        password_file=str(database.password_file("mana_agent")),
        model_url=model_url,
        model_key_file=None,
        model="mana/reasoning",
        call_deadline_s=2.0,
        max_output_tokens=1,  # with the next line a hold is 2 tokens, whatever the prompt
        bytes_per_token=1e9,
        backoff_min_s=600.0,
        tools_offered="all",
    )
    driver = Driver(access, settings)
    try:
        await driver.start()
        yield driver
    finally:
        await driver.close()


async def _pass(
    number: int, given: Given, log: Log, driver: Driver, provider: FakeProvider
) -> Given:
    between = given["between"]
    await log.put(between[number] if number < len(between) else [])
    decided, asked = Counter(driver.decisions), len(provider.requests)
    before = len(await log.written())
    looked, reports = await driver.tick()
    written = (await log.written())[before:]
    return {
        "due": len(looked.looks) + len(looked.moves),
        "planned": sum(report.outcome == "ran" for report in reports),
        "writtenBack": len(written),
        "failed": sum(_has_failed(report) for report in reports),
        "errors": sum(report.outcome in ("interrupted", "superseded") for report in reports),
        "decisions": dict(driver.decisions - decided),
        "modelCalls": len(provider.requests) - asked,
        "written": sorted(written, key=lambda row: row["missionId"]),
    }


def _has_failed(report: Report) -> bool:
    return report.outcome == "failed" or (report.outcome == "waiting" and report.decision is None)


def _written(row: asyncpg.Record) -> Given:
    data: Given = msgspec.json.decode(row["data"])
    actor: Given = msgspec.json.decode(row["actor"])
    iterations: list[Given] = data["iterations"]
    new = next(one for one in iterations if one.get("id") == actor["iterationId"])
    plan = [{key: step[key] for key in SHOWN_OF_STEP} for step in new["plan"]]
    return {
        "missionId": row["record_id"],
        "userId": row["user_id"],
        "op": row["op"],
        "origin": row["origin"],
        "actor": {key: actor[key] for key in SHOWN_OF_ACTOR},
        "iterations": len(iterations),
        "dataKeys": sorted(data),
        "newIteration": {key: new[key] for key in SHOWN_OF_ITERATION} | {"plan": plan},
    }
