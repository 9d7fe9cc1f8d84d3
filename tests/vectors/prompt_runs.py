"""Cases `run` of suite `prompt`: one pass on a real Postgres, and what the model was asked."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fake_provider import FakeProvider
from tests.postgres import SUPERUSER, Database
from tests.vectors.tick import Log, driver_on, server
from tests.vectors.verdict import Case

Given = dict[str, Any]


def give_run(given: Given) -> Any:
    """How often the model was asked, and the text of the first request."""
    database = server().migrated()
    try:
        return asyncio.run(_pass(database, given))
    finally:
        server().drop(database)


def view_run(value: Any, case: Case) -> Any:
    """Which demanded texts the first request lacks, and which forbidden ones it holds."""
    if "contains" in value:
        return {"requests": value["requests"], "lacks": [], "holds": []}
    demanded: Given = case["expected"]
    return {
        "requests": value["requests"],
        "lacks": [text for text in demanded["contains"] if text not in value["text"]],
        "holds": [text for text in demanded["excludes"] if text in value["text"]],
    }


async def _pass(database: Database, given: Given) -> Given:
    admin = await database.connect(SUPERUSER)
    try:
        await Log(admin).put(given["rows"])
        with FakeProvider([{"content": "fertig", "usage": [1, 1]}]) as provider:
            async with driver_on(database, provider.url) as driver:
                await driver.tick()
            return {"requests": len(provider.requests), "text": _text(provider)}
    finally:
        await admin.close()


def _text(provider: FakeProvider) -> str:
    messages: list[Given] = provider.requests[0].body["messages"] if provider.requests else []
    return "\n".join(message["content"] or "" for message in messages)
